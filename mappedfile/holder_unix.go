// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// LockHolder reports whether somebody holds the lock that Disk.Lock takes on path,
// this process included, and who, as far as that is known; 0 if not. It takes no
// lock, changes nothing, and needs no permission to write. A missing file is held
// by nobody.
func LockHolder(path string) (pid int, locked bool, err error) {
	held.Lock()
	defer held.Unlock()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if held.files[inodeOf(info)] {
		// Opening and closing the file here would drop the lock.
		return os.Getpid(), true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = f.Close() }() // only read
	q := byteZero(unix.F_WRLCK)
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, q); err != nil {
		return 0, false, fmt.Errorf("ask for the lock on %s: %w", path, err)
	}
	if q.Type == unix.F_UNLCK {
		return 0, false, nil
	}
	return max(int(q.Pid), 0), true, nil
}
