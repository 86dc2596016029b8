// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/warmup"
)

// useAll calls everything that reads a store.
func useAll(t *testing.T, dir string) {
	t.Helper()
	d := open(t, dir)
	_, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	o, err := d.Overview(context.Background())
	require.NoError(t, err)
	require.Empty(t, o.Problems)
	for _, err := range d.IndexFiles(context.Background(), keyindex.Sizes{}, false) {
		require.NoError(t, err)
	}
	for _, err := range d.Tail(context.Background(), inspect.TailOptions{Last: 3}) {
		require.NoError(t, err)
	}
	for _, q := range o.Queues {
		for e, err := range d.Queue(context.Background(), q.Topic, q.Queue, inspect.QueueRange{}) {
			require.NoError(t, err)
			require.NoError(t, e.Err)
		}
	}
}

// snapshot lists every file with its mode, modification time, length and, up to
// a limit, digest.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		files[path] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), info.Size())
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			require.NoError(t, err)
			h := sha256.New()
			_, err = io.CopyN(h, f, min(info.Size(), 8<<20))
			require.NoError(t, err)
			require.NoError(t, f.Close())
			files[path] += fmt.Sprintf(" %x", h.Sum(nil))
		}
		return nil
	}))
	return files
}

func TestNothingChanges(t *testing.T) {
	t.Parallel()
	for _, name := range []string{closed, killed} {
		dir := sample(t, name)
		before := snapshot(t, dir)
		useAll(t, dir)
		require.Equal(t, before, snapshot(t, dir))
	}
}

// TestWithoutPermissionToWrite takes away every permission to write.
func TestWithoutPermissionToWrite(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("the superuser may write all the same")
	}
	dir := sample(t, closed)
	chmod := func(files, dirs fs.FileMode) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			require.NoError(t, err)
			if e.IsDir() {
				return os.Chmod(path, dirs)
			}
			return os.Chmod(path, files)
		}))
	}
	chmod(0o400, 0o500)
	t.Cleanup(func() { chmod(0o600, 0o700) })
	useAll(t, dir)
}

// TestLockIsNotOpened puts a pipe in the place of the lock file: who opened it
// would wait for ever.
func TestLockIsNotOpened(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	lock := filepath.Join(dir, "lock")
	require.NoError(t, os.Remove(lock))
	require.NoError(t, unix.Mkfifo(lock, 0o600))
	useAll(t, dir)
}

// TestOneFileIsMappedAtATime looks at the process's own mappings on the way
// through a log of many files.
func TestOneFileIsMappedAtATime(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/maps"); err != nil {
		t.Skip("no /proc/self/maps here")
	}
	dir := t.TempDir()
	w := newWriter(t, dir, 4096)
	for range 200 {
		_, err := w.append(&message.Message{Topic: "t", Body: make([]byte, 300)})
		require.NoError(t, err)
	}
	require.NoError(t, w.log.Close())
	files, most := map[int64]bool{}, 0
	for r, err := range open(t, dir).Messages(context.Background(), inspect.Filter{Since: firstTime + 50_000}) {
		require.NoError(t, err)
		files[int64(r.PhysicalOffset)/4096] = true
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		most = max(most, strings.Count(string(maps), filepath.Join(dir, "commitlog")))
	}
	require.Greater(t, len(files), 10)
	require.Equal(t, 1, most)
}

// TestBesideAWriter reads a log over and over while it is written. Each reading
// must be a whole beginning of the log, without any damage.
func TestBesideAWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 64<<10)
	_, err := w.append(&message.Message{Topic: "t", Body: []byte("first")})
	require.NoError(t, err)
	d := open(t, dir)

	// Each reading lets it write some files more: a writer that is left alone
	// has thousands of them open in no time.
	const readings, each = 40, 2000
	turns, failed := make(chan struct{}, readings), error(nil)
	var writing sync.WaitGroup
	writing.Go(func() {
		body := make([]byte, 700)
		for range turns {
			for i := 0; i < each && failed == nil; i++ {
				_, failed = w.append(&message.Message{Topic: "t", QueueID: int32(i % 4), Body: body[:i%700]})
			}
		}
	})
	longest := 0
	for i := 0; i < readings || longest < 2; i++ { // on a busy machine the writer may come late
		select {
		case turns <- struct{}{}:
		default:
		}
		end, n := message.Offset(0), 0
		for r, err := range d.Messages(context.Background(), inspect.Filter{}) {
			if !assertNoError(t, err) {
				break
			}
			// A filler may lie between two records, nothing else.
			if r.PhysicalOffset != end && r.PhysicalOffset%(64<<10) != 0 {
				t.Errorf("a record at %d, the one before ended at %d", r.PhysicalOffset, end)
				break
			}
			end = r.PhysicalOffset + message.Offset(r.Size)
			n++
		}
		require.GreaterOrEqual(t, n, longest, "what was there is there no more")
		longest = n
		o, err := d.Overview(context.Background())
		require.NoError(t, err)
		require.Empty(t, o.Problems)
		require.GreaterOrEqual(t, o.CommitLog.Max, end)
	}
	close(turns)
	writing.Wait()
	require.NoError(t, failed)
	require.NoError(t, w.log.Close())
	require.Greater(t, longest, 1)
	msgs, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	require.GreaterOrEqual(t, len(msgs), longest)
}

func assertNoError(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// TestReadsNoHole: of a file that was reserved ahead of need little is read behind
// the last record, and so it takes little memory.
func TestReadsNoHole(t *testing.T) {
	t.Parallel()
	const size = 128 << 20
	for name, read := range map[string]func(t *testing.T, d *inspect.Dir){
		"Verify": func(t *testing.T, d *inspect.Dir) {
			_, err := d.Verify(context.Background(), func(*inspect.Finding) error { return nil })
			require.NoError(t, err)
		},
		"Messages": func(t *testing.T, d *inspect.Dir) {
			msgs, errs := collect(t, d, inspect.Filter{})
			require.Empty(t, errs)
			require.Len(t, msgs, 10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := newWriter(t, dir, size)
			for range 10 {
				_, err := w.append(&message.Message{Topic: "t", Body: []byte("body")})
				require.NoError(t, err)
			}
			require.NoError(t, w.log.Close())
			inMemory := func() int64 {
				f, err := os.Open(logFile(dir, 0))
				require.NoError(t, err)
				b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
				require.NoError(t, err)
				require.NoError(t, f.Close())
				n, err := warmup.Resident(b)
				require.NoError(t, errors.Join(err, unix.Munmap(b)))
				return n
			}
			if n := inMemory(); n > size/4 {
				t.Skipf("%d bytes of the file are in memory before", n)
			}
			read(t, open(t, dir))
			require.Less(t, inMemory(), int64(size/2))
		})
	}
}
