// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

func reserve(f *os.File, data []byte, off, n int64) error {
	err := fallocate(f, 0, off, n)
	if unsupported(err) {
		return writeSame(f, data, off, n)
	}
	return err
}

func zeroRange(f *os.File, data []byte, off, n int64) error {
	err := fallocate(f, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if !unsupported(err) {
		return err
	}
	// A punched hole reads as zeros but has lost its blocks: reserve them
	// again, also here where the file system (tmpfs) knows only this much.
	err = fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == nil {
		return reserve(f, data, off, n)
	}
	if unsupported(err) {
		clear(data[off : off+n])
		return nil
	}
	return err
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), mode, off, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}
