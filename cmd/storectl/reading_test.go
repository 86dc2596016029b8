// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// reading has the commands that only read a store, each as it is run on the store
// that aStore makes. DIR stands for its directory. One whose status is not 0 for a
// sound store says which ones it may be.
var reading = map[string]struct {
	args []string
	may  []int
	// file says that the command takes a file of a store and not the store, so
	// that whether the rest of it is sound does not matter.
	file bool
}{
	"inspect":            {args: []string{"inspect", "DIR"}},
	"inspect messages":   {args: []string{"inspect", "messages", "DIR", "--since", "1h", "--reverse", "--body", "-o", "ndjson"}},
	"inspect queue":      {args: []string{"inspect", "queue", "DIR", "orders", "1"}},
	"inspect index":      {args: []string{"inspect", "index", "DIR"}},
	"inspect delay":      {args: []string{"inspect", "delay", "DIR"}},
	"inspect checkpoint": {args: []string{"inspect", "checkpoint", "DIR"}},
	"inspect file":       {args: []string{"inspect", "file", "DIR/commitlog/00000000000000000000"}, file: true},
	"verify":             {args: []string{"verify", "DIR"}},
	"doctor":             {args: []string{"doctor", "DIR"}, may: []int{exitFindings}}, // of the machine
	"query":              {args: []string{"query", "DIR", "--topic", "orders", "--key", "k7"}},
	"fetch":              {args: []string{"fetch", "DIR", "--topic", "orders", "--queue", "1", "--max", "50"}},
	"export":             {args: []string{"export", "DIR"}},
	"replay":             {args: []string{"replay", "DIR", "-o", "ndjson"}},
	"tail":               {args: []string{"tail", "DIR"}},
	"recover":            {args: []string{"recover", "DIR"}, may: []int{exitFindings}}, // what Open would do, unless told to do it
	"rebuild":            {args: []string{"rebuild", "DIR", "--to", "NEW", "--dry-run"}},
	"retention":          {args: []string{"retention", "DIR", "--max-age", "1h"}},
	"topic list":         {args: []string{"topic", "list", "DIR"}},
	"topic show":         {args: []string{"topic", "show", "DIR", "orders"}},
	"offsets list":       {args: []string{"offsets", "list", "DIR"}},
}

// writing has all others: they change a store that they are given, or have none.
var writing = []string{
	"append", "import", "config import", "config export", "topic create", "topic delete", "offsets set", "offsets delete",
	"bench append", "bench deliver", "bench fetch", "bench flush", "bench warmup", "bench recover", "demo", "man", "version",
}

// TestEveryCommandIsInATable: whoever adds a command says here whether it only
// reads. If it does, the tests below hold it to that.
func TestEveryCommandIsInATable(t *testing.T) {
	t.Parallel()
	for _, name := range commands(t) {
		_, reads := reading[name]
		require.NotEqual(t, slices.Contains(writing, name), reads, "storectl %s must be either in reading or in writing, in reading_test.go", name)
	}
}

// commands are the names of all commands that do something and are not hidden.
func commands(t *testing.T) (names []string) {
	t.Helper()
	a := &app{ctx: t.Context(), now: time.Now}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if name, ok := strings.CutPrefix(c.CommandPath(), "storectl "); ok && !c.Hidden && (!c.HasSubCommands() || name == "inspect") {
			names = append(names, name)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.rootCommand())
	require.Greater(t, len(names), 20)
	return names
}

// readers are the names of the commands that are there and only read.
func readers(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(commands(t), func(name string) bool { _, ok := reading[name]; return !ok })
}

// argsFor are the arguments of a reading command on a store.
func argsFor(name, dir string) []string {
	return in(reading[name].args, dir)
}

// in puts the directory of a store, and one for a new store, into arguments.
func in(args []string, dir string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		args[i] = strings.Replace(strings.Replace(a, "DIR", dir, 1), "NEW", dir+"-new", 1)
	}
	return args
}

// aStore makes a store with something of everything, and closes it.
func aStore(t *testing.T) string {
	t.Helper()
	return storeOf(t, 100)
}

// storeOf is aStore with so many messages.
func storeOf(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, smallFiles())
	require.NoError(t, err)
	require.NoError(t, s.PutTopic(topicmeta.Topic{Name: "orders", ReadQueues: 2, WriteQueues: 2, Perm: topicmeta.PermRead | topicmeta.PermWrite}))
	for i := range n {
		m := &message.Message{Topic: "orders", QueueID: int32(i % 2), Body: bytes.Repeat([]byte("tea "), 20)}
		m.SetTags("paid")
		m.SetKeys("k7")
		if i%10 == 0 {
			m.SetDeliverAt(time.Now().Add(time.Hour))
		}
		_, err := s.Append(t.Context(), m)
		require.NoError(t, err)
	}
	require.NoError(t, s.CommitOffset("billing", "orders", 1, 7))
	require.NoError(t, s.Close())
	return dir
}

func smallFiles() store.Options {
	return store.Options{FileSize: 16 << 10, QueueFileSize: 400, Index: store.IndexOptions{Slots: 100, Entries: 400}}
}

// allRead runs all reading commands on a store with do, which returns the status
// and what was said.
func allRead(t *testing.T, dir string, do func(t *testing.T, args []string) (int, string)) {
	t.Helper()
	for _, name := range readers(t) {
		status, words := do(t, argsFor(name, dir))
		if status != exitOK && !slices.Contains(reading[name].may, status) {
			t.Errorf("storectl %s: status %d: %s", name, status, words)
		}
	}
}

// here runs a command in this process.
func here(t *testing.T, args []string) (int, string) {
	t.Helper()
	var out, words bytes.Buffer
	status := run(t.Context(), args, strings.NewReader(""), &out, &words)
	return status, words.String()
}

// TestReadingChangesNothing: not a byte, not a modification time, not a name.
func TestReadingChangesNothing(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"Stele's": aStore(t), "a broker's": testStore(t)} {
		before, err := snapshot(filepath.Dir(dir))
		require.NoError(t, err)
		for _, command := range readers(t) {
			_, _ = here(t, argsFor(command, dir)) // a broker's has no topic orders
			after, err := snapshot(filepath.Dir(dir))
			require.NoError(t, err)
			if before != after {
				t.Fatalf("storectl %s changed %s store", command, name)
			}
		}
	}
	allRead(t, aStore(t), here)
}

// TestReadingOnAReadOnlyTree: on a read-only mount where one can be had, else
// without a permission to write.
func TestReadingOnAReadOnlyTree(t *testing.T) {
	t.Parallel()
	dir := aStore(t)
	const mount = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/probe" 2>/dev/null && exec "$@"`
	if exec.Command("unshare", "-rm", "sh", "-c", mount, dir, "true").Run() == nil {
		allRead(t, dir, func(_ *testing.T, args []string) (int, string) {
			return inAProcess(append([]string{"unshare", "-rm", "sh", "-c", mount, dir, "storectl"}, args...)...)
		})
		return
	}
	if os.Geteuid() == 0 {
		t.Skip("no mounts here, and the superuser may write all the same")
	}
	modes := func(file, directory fs.FileMode) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				return os.Chmod(path, directory)
			}
			return errors.Join(err, os.Chmod(path, file))
		}))
	}
	modes(0o400, 0o500)
	t.Cleanup(func() { modes(0o600, 0o700) })
	allRead(t, dir, here)
}

// inAProcess runs a program and returns its status and what it said.
func inAProcess(args ...string) (int, string) {
	var words bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = &words
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), words.String()
	}
	if err != nil {
		return -1, err.Error()
	}
	return exitOK, words.String()
}

// TestReadingBesideAWriter runs the commands in the process that has the store
// open and appends to it. A POSIX lock goes when its process closes any descriptor
// of the file, so that it is still held shows that none of them opened it.
func TestReadingBesideAWriter(t *testing.T) {
	t.Parallel()
	dir := aStore(t)
	s, err := store.Open(dir, smallFiles())
	require.NoError(t, err)
	stop := make(chan struct{})
	var owner sync.WaitGroup
	var failed error
	owner.Go(func() {
		m := &message.Message{Topic: "orders", Body: make([]byte, 300)}
		m.SetKeys("k8")
		for failed == nil {
			select {
			case <-stop:
				return
			default:
				m.QueueID = (m.QueueID + 1) % 2
				// With a flush for each, so that the store does not grow faster than
				// it is read.
				if _, failed = s.Append(context.Background(), m); failed == nil {
					failed = s.Flush(context.Background())
				}
			}
		}
	})
	allRead(t, dir, func(t *testing.T, args []string) (int, string) {
		status, words := here(t, args)
		if args[0] == "recover" { // opening is its owner's affair, and done
			require.Equal(t, exitIO, status)
			require.Contains(t, words, "locked by process")
			return exitOK, ""
		}
		return status, words
	})
	close(stop)
	owner.Wait()
	require.NoError(t, failed)
	status, words := inAProcess("storectl", "append", dir, "--topic", "orders")
	require.Equal(t, exitIO, status, "the lock is held no more")
	require.Contains(t, words, "locked")
	require.NoError(t, s.Close())
	status, words = here(t, []string{"verify", dir})
	require.Equal(t, exitOK, status, words)
}

// noStore is a directory that is none, or that holds a store of a layout that is
// not supported: the status of every command that wants one, and what it says.
type noStore struct {
	make   func(t *testing.T, dir string)
	status int
	says   string
	fresh  bool // a command that makes a store makes one there
}

func noStores() map[string]noStore {
	file := func(t *testing.T, path, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	part := func(t *testing.T, dir, base string) { // of a log of several directories
		b, err := os.ReadFile(filepath.Join(testStore(t), "commitlog/00000000000000262144"))
		require.NoError(t, err)
		file(t, filepath.Join(dir, "commitlog", base), string(b))
	}
	return map[string]noStore{
		"missing": {func(*testing.T, string) {}, exitIO, "no such file or directory", true},
		"a file":  {func(t *testing.T, dir string) { file(t, dir, "x") }, exitIO, "not a directory", false},
		"empty":   {func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, exitIO, "empty directory", true},
		"other":   {func(t *testing.T, dir string) { file(t, dir+"/notes.txt", "x") }, exitIO, "nothing in", false},
		"RocksDB": {func(t *testing.T, dir string) {
			file(t, dir+"/commitlog/.keep", "")
			file(t, dir+"/consumequeue/CURRENT", "x")
		}, exitLayout, "RocksDB", false},
		"DLedger": {func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(dir+"/dledger-n0", 0o755))
			require.NoError(t, os.Mkdir(dir+"/commitlog", 0o755))
		}, exitLayout, "DLedger", false},
		"multi-path": {func(t *testing.T, dir string) {
			part(t, dir, "00000000000000000000")
			part(t, dir, "00000000000000524288")
			part(t, dir, "00000000000001048576")
		}, exitLayout, "several directories", false},
	}
}

// refuses runs a command on what is no store and holds it to one line on stderr,
// nothing on stdout, and the status.
func refuses(t *testing.T, c noStore, name string, args []string) {
	t.Helper()
	var out, words bytes.Buffer
	status := run(t.Context(), args, strings.NewReader(""), &out, &words)
	if status != c.status || out.Len() > 0 || strings.Count(words.String(), "\n") != 1 ||
		!strings.HasPrefix(words.String(), "storectl: ") || !strings.Contains(words.String(), c.says) {
		t.Errorf("storectl %s: status %d, want %d; stdout %q; stderr %q, want a line with %q", name, status, c.status, out.String(), words.String(), c.says)
	}
}

// TestReadingWhatIsNoStore: one clear line, nothing on stdout, and the status.
func TestReadingWhatIsNoStore(t *testing.T) {
	t.Parallel()
	for name, c := range noStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "store")
			c.make(t, dir)
			for _, command := range readers(t) {
				if !reading[command].file {
					refuses(t, c, command, argsFor(command, dir))
				}
			}
		})
	}
}

// ofSomebodyElse returns how to run storectl as one who has no more permissions on
// what is in dir than its modes grant. The superuser has, so there it becomes
// somebody else's, and is looked at from a user namespace, where he is superuser
// for his own files only.
func ofSomebodyElse(t *testing.T, dir string) func(t *testing.T, args []string) (status int, words string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return here
	}
	const nobody = 65534
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	}))
	if exec.Command("unshare", "-r", "true").Run() != nil {
		t.Skip("the superuser may read everything, and there are no user namespaces here")
	}
	return func(_ *testing.T, args []string) (int, string) {
		return inAProcess(append([]string{"unshare", "-r", "storectl"}, args...)...)
	}
}

// TestReadingWithoutPermission: what may not be read is said in one line.
func TestReadingWithoutPermission(t *testing.T) {
	t.Parallel()
	dir := aStore(t)
	do := ofSomebodyElse(t, dir)
	require.NoError(t, os.Chmod(dir, 0o300))
	t.Cleanup(func() { require.NoError(t, os.Chmod(dir, 0o700)) })
	for _, command := range readers(t) {
		if reading[command].file {
			continue
		}
		status, words := do(t, argsFor(command, dir))
		if status != exitIO || strings.Count(words, "\n") != 1 || !strings.Contains(words, "permission denied") {
			t.Errorf("storectl %s: status %d, want %d; stderr %q", command, status, exitIO, words)
		}
	}
}
