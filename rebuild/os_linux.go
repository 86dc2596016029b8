// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// clone has dst share the bytes of src until one of them is written.
func clone(dst, src *os.File) error {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

// nextData is where the next bytes at or behind at may be that are not a hole, or
// the end of the file.
func nextData(f *os.File, at int64) int64 {
	to, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		if end, err := f.Seek(0, io.SeekEnd); err == nil {
			return max(end, at)
		}
	}
	if err != nil || to < at {
		return at // it can't tell
	}
	return to
}

// exchange has two names change places in one step.
func exchange(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", filepath.Clean(a), filepath.Clean(b), err)
	}
	return nil
}
