// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/mappedfile"
)

// lockHelperEnv makes the test binary a process that locks the file it names.
const lockHelperEnv = "STELE_TEST_LOCK_HELPER"

// lockHelper takes the lock, says so, and releases it when it reads a line. It
// lives until its input ends.
func lockHelper(path string) int {
	l, err := mappedfile.OS().Lock(path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 0
	}
	if err := l.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("released")
	_, _ = io.Copy(io.Discard, in)
	return 0
}

type lockProcess struct {
	pid int
	in  io.WriteCloser
	out *bufio.Reader
	// stop ends the process and returns when it is gone.
	stop func()
}

func startLockProcess(t *testing.T, path string) *lockProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockHelperEnv+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &lockProcess{pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	p.stop = sync.OnceFunc(func() {
		_ = p.in.Close()
		require.NoError(t, cmd.Wait())
	})
	t.Cleanup(p.stop)
	p.expect(t, "locked")
	return p
}

func (p *lockProcess) expect(t *testing.T, want string) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want+"\n", line)
}

func TestLockWithinOneProcess(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		require.NoError(t, d.MkdirAll(dir))
		path := filepath.Join(dir, "lock")
		first, err := d.Lock(path)
		require.NoError(t, err)
		content, err := d.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "lock", string(content))

		_, err = d.Lock(path)
		var locked *mappedfile.LockedError
		require.ErrorAs(t, err, &locked)
		require.ErrorIs(t, err, mappedfile.ErrLocked)
		require.Equal(t, mappedfile.LockedError{Path: path, PID: os.Getpid()}, *locked)
		require.Contains(t, err.Error(), fmt.Sprint(os.Getpid()))

		other, err := d.Lock(filepath.Join(dir, "other"))
		require.NoError(t, err, "another file is another lock")
		require.NoError(t, other.Close())

		require.NoError(t, first.Close())
		second, err := d.Lock(path)
		require.NoError(t, err)
		require.NoError(t, first.Close(), "closing twice does nothing")
		_, err = d.Lock(path)
		require.ErrorIs(t, err, mappedfile.ErrLocked)
		require.NoError(t, second.Close())
		require.Contains(t, names(t, d, dir), "lock", "the file stays")
	})
}

func TestLockIsRefusedByAFileThatCantBeMade(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		_, err := d.Lock(filepath.Join(dir, "lock"))
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	d, path := mappedfile.OS(), filepath.Join(t.TempDir(), "lock")
	p := startLockProcess(t, path)
	for range 2 { // a refused attempt leaves the lock of the other alone
		_, err := d.Lock(path)
		var locked *mappedfile.LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, p.pid, locked.PID)
	}
	require.Equal(t, []int64{unix.F_WRLCK, int64(p.pid), 0, 1}, probeLock(t, path), "a record lock on byte 0 alone")

	_, err := io.WriteString(p.in, "\n")
	require.NoError(t, err)
	p.expect(t, "released")
	require.EqualValues(t, unix.F_UNLCK, probeLock(t, path)[0])
	l, err := d.Lock(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

func TestLockGoesWithItsProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	p := startLockProcess(t, path)
	_, err := mappedfile.OS().Lock(path)
	require.ErrorIs(t, err, mappedfile.ErrLocked)
	p.stop()
	l, err := mappedfile.OS().Lock(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// probeLock asks the kernel, as a broker's Java would: kind, holder, start and
// length of what is in the way of a lock on the whole file.
func probeLock(t *testing.T, path string) []int64 {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	q := &unix.Flock_t{Type: unix.F_WRLCK}
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, q))
	return []int64{int64(q.Type), int64(q.Pid), q.Start, q.Len}
}

// TestLockHolder: asking for the lock takes none, drops none, and makes no file.
func TestLockHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	ask := func(locked bool, pid int) {
		t.Helper()
		gotPID, got, err := mappedfile.LockHolder(path)
		require.NoError(t, err)
		require.Equal(t, locked, got)
		require.Equal(t, pid, gotPID)
	}
	ask(false, 0)
	require.NoFileExists(t, path)
	p := startLockProcess(t, path)
	ask(true, p.pid)
	p.stop()
	ask(false, 0)
	l, err := mappedfile.OS().Lock(path)
	require.NoError(t, err)
	for range 2 {
		ask(true, os.Getpid())
	}
	require.NoError(t, l.Close())
	ask(false, 0)
}
