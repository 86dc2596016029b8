// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// blockUnit is what statfs counts blocks in.
func blockUnit(st *unix.Statfs_t) int64 {
	if st.Frsize > 0 {
		return st.Frsize
	}
	return st.Bsize
}

// tellsData reports whether the file system can be asked where data is. A FUSE
// server can't: the kernel does not hand it the dirty pages first, so that what
// was just written through a mapping counts as a hole.
func tellsData(f *os.File) bool {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(int(f.Fd()), &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && st.Type != unix.FUSE_SUPER_MAGIC
	}
}

// Overwrites reports whether the file system writes a block again where it is.
// Others take a new one, so that zeros there would be written for nothing, and
// take space that was reserved.
func (r *osRegion) Overwrites() bool {
	if r.file == nil {
		return false
	}
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(r.file.Fd()), &st) }); err != nil {
		return false
	}
	return st.Type == unix.EXT4_SUPER_MAGIC || st.Type == unix.XFS_SUPER_MAGIC
}

// NextData asks the file system where the next written bytes are. Blocks that
// are reserved and unwritten count as none.
func (r *osRegion) NextData(off int64) int64 {
	at := off
	// A file that can't be opened again has no answer, and that is one.
	_ = r.withFile(os.O_RDONLY, func(f *os.File) error {
		if !tellsData(f) {
			return nil
		}
		next, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			at = int64(len(r.data))
		case err == nil:
			at = next
		}
		return nil
	})
	return at
}

func reserve(f *os.File, data []byte, off, n int64) error {
	err := fallocate(f, 0, off, n)
	if unsupported(err) {
		return writeSame(f, data, off, n)
	}
	return err
}

// zeroRange zeroes only the stretches that hold data, so that a sparse file
// stays sparse and blocks that are reserved and unwritten stay as they are.
func zeroRange(f *os.File, data []byte, off, n int64) error {
	if !tellsData(f) {
		return zeroStretch(f, data, off, n)
	}
	fd, end := int(f.Fd()), off+n
	for off < end {
		from, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end of the file
		}
		if err != nil {
			return zeroStretch(f, data, off, end-off)
		}
		if from >= end {
			return nil
		}
		to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
		if err != nil {
			return zeroStretch(f, data, off, end-off)
		}
		to = min(to, end)
		if err := zeroStretch(f, data, from, to-from); err != nil {
			return err
		}
		off = to
	}
	return nil
}

func zeroStretch(f *os.File, data []byte, off, n int64) error {
	err := fallocate(f, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if !unsupported(err) {
		return err
	}
	// A punched hole reads as zeros but has lost its blocks: reserve them
	// again. tmpfs knows only this much.
	err = fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == nil {
		return reserve(f, data, off, n)
	}
	if unsupported(err) {
		return zeroMapped(f, data, off, n)
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

// populate makes the pages of b present without changing them. Kernels before
// 5.14 can't; then the first write to each page does it.
func populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }

// unmapPages takes the pages of a shared mapping out of the page table. That they
// are dirty is kept with the file (zap_pte_range in mm/memory.c). Locked ones are
// left as they are: madvise(2) refuses.
func unmapPages(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }
