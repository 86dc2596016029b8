// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A POSIX record lock belongs to the process: a second lock in the same
// process succeeds, and closing any descriptor of the file drops it. So the
// files that this process holds are known here, by inode, and a second attempt
// is refused before the file is opened. This is the one piece of state in the
// package that outlives its objects; the kernel keeps it per process too.
var held = struct {
	sync.Mutex
	files map[inode]bool
}{files: map[inode]bool{}}

type inode struct{ dev, ino uint64 }

// lockText is what RocketMQ writes into the file.
const lockText = "lock"

type fileLock struct {
	file *os.File
	id   inode
	once sync.Once
	err  error
}

func lockFile(path string) (io.Closer, error) {
	held.Lock()
	defer held.Unlock()
	if info, err := os.Stat(path); err == nil && held.files[inodeOf(info)] {
		return nil, &LockedError{Path: path, PID: os.Getpid()}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, fullDisk(err)
	}
	l, err := takeLock(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	held.files[l.id] = true
	return l, nil
}

func takeLock(f *os.File) (*fileLock, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, byteZero(unix.F_WRLCK))
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, &LockedError{Path: f.Name(), PID: lockHolder(f)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != int64(len(lockText)) {
		if _, err := f.WriteAt([]byte(lockText), 0); err != nil {
			return nil, fullDisk(err)
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
	}
	return &fileLock{file: f, id: inodeOf(info)}, nil
}

// lockHolder asks who is in the way. 0 is "not known".
func lockHolder(f *os.File) int {
	q := byteZero(unix.F_WRLCK)
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, q); err != nil || q.Type == unix.F_UNLCK || q.Pid < 0 {
		return 0
	}
	return int(q.Pid)
}

func byteZero(kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: 0, Start: 0, Len: 1}
}

func inodeOf(info os.FileInfo) inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{dev: uint64(st.Dev), ino: st.Ino} //nolint:unconvert // Dev is an int32 on some systems
}

// Close releases the lock. It may be called more than once.
func (l *fileLock) Close() error {
	l.once.Do(func() {
		held.Lock()
		defer held.Unlock()
		delete(held.files, l.id)
		l.err = l.file.Close()
	})
	return l.err
}
