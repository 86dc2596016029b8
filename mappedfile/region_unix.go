// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// osRegion is a mapped file of the operating system. file is nil for a lean
// mapping.
type osRegion struct {
	path string
	file *os.File
	data mmap.MMap
	// warm says that pages were made dirty ahead of what is written.
	warm atomic.Bool
}

// msyncUpTo is the largest range that is flushed with msync when a descriptor
// is at hand. Up to a few pages msync of the range is as fast as fdatasync and
// leaves the rest of the file's dirty pages alone; it gets slower than
// fdatasync as the range grows, since it walks the page table.
//
// A file that is warmed up is always flushed by range. Its pages ahead are dirty,
// though they hold zeros: fdatasync would write all of them, which takes a quarter
// of a second for each 512 MiB, and make all of them read-only, so that the next
// write to each faults as if it had never been warm (docs/decisions/0010-warm-up.md).
const msyncUpTo = 16 << 10

// dropFrom is the smallest range whose pages are taken out of the page table
// before they are written back. What is written back must become read-only, and
// the kernel does that page by page, each with an interrupt of the other CPUs that
// run this process; out of the table they go all at once, with one. They stay in
// the page cache, where a reader gets sixteen of them by a fault
// (docs/decisions/0027-flushed-pages-leave-the-page-table.md).
const dropFrom = 256 << 10

func (r *osRegion) Bytes() []byte { return r.data }

// File returns the descriptor for system calls that send from a file. It is
// nil for a lean mapping, and owned by the Region.
func (r *osRegion) File() *os.File { return r.file }

// Flush also looks at the file's length: a sync of a file that somebody has cut
// succeeds, and what was in the pages that went is on no disk. A lean mapping has
// no descriptor to ask.
func (r *osRegion) Flush(off, n int64) error {
	if n <= 0 {
		return nil
	}
	r.drop(off, off+n)
	if r.file != nil && n > msyncUpTo && !r.warm.Load() {
		if err := retry(func() error { return fdatasync(r.file) }); err != nil {
			return fmt.Errorf("fdatasync %s: %w", r.path, err)
		}
		return r.checkLength()
	}
	return r.FlushOnly(off, n)
}

// drop takes the whole pages of [from, to) out of the page table, if they are many.
// It is not for the page in which the range ends: the next append goes there.
func (r *osRegion) drop(from, to int64) {
	page := int64(os.Getpagesize())
	from, to = (from+page-1)/page*page, to/page*page
	if to-from >= dropFrom {
		unmapPages(r.data[from:to])
	}
}

// FlushOnly is Flush that leaves all other dirty pages of the file alone: the
// interface that File.ZeroFrom looks for.
func (r *osRegion) FlushOnly(off, n int64) error {
	page := int64(os.Getpagesize())
	from := off - off%page
	if err := retry(func() error { return unix.Msync(r.data[from:off+n], unix.MS_SYNC) }); err != nil {
		return fmt.Errorf("msync %s [%d, %d): %w", r.path, from, off+n, err)
	}
	return r.checkLength()
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// checkLength returns ErrFileSize when the file is shorter than the mapping. It
// does not ask by fstat: since 6.13 Linux gives a file whose times somebody has
// looked at a finer one at its next write, and then every sync writes the inode as
// well, half of what a small one takes (fs/inode.c, multigrain timestamps).
func (r *osRegion) checkLength() error {
	if r.file == nil {
		return nil
	}
	// Nobody goes by the position in the file.
	size, err := unix.Seek(int(r.file.Fd()), 0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("lseek %s: %w", r.path, err)
	}
	if size < int64(len(r.data)) {
		return &FileError{Path: r.path, Cause: ErrFileSize, Want: int64(len(r.data)), Got: size}
	}
	return nil
}

func (r *osRegion) Reserve(off, n int64) error {
	if n <= 0 {
		return nil
	}
	return r.withFile(os.O_RDWR, func(f *os.File) error {
		if err := reserve(f, r.data, off, n); err != nil {
			return fullDisk(fmt.Errorf("reserve %s [%d, %d): %w", r.path, off, off+n, err))
		}
		return nil
	})
}

func (r *osRegion) Write(p []byte, off int64) error {
	return r.withFile(os.O_RDWR, func(f *os.File) error {
		if n, err := f.WriteAt(p, off); err != nil {
			return fullDisk(fmt.Errorf("write %s [%d, %d), %d bytes done: %w", r.path, off, off+int64(len(p)), n, err))
		}
		return nil
	})
}

// Zero leaves the range to the file system, its ragged ends too: a write
// through the mapping to a page without a block kills the process when the disk
// is full.
func (r *osRegion) Zero(off, n int64) error {
	if n <= 0 {
		return nil
	}
	return r.withFile(os.O_RDWR, func(f *os.File) error {
		if err := zeroRange(f, r.data, off, n); err != nil {
			return fullDisk(fmt.Errorf("zero %s [%d, %d): %w", r.path, off, off+n, err))
		}
		return nil
	})
}

func (r *osRegion) withFile(flag int, do func(*os.File) error) error {
	if r.file != nil {
		return do(r.file)
	}
	f, err := os.OpenFile(r.path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

func (r *osRegion) Close() error {
	err := r.data.Unmap()
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	runtime.KeepAlive(r.file)
	if err != nil {
		return fmt.Errorf("close %s: %w", r.path, err)
	}
	return nil
}

// writeSame reserves blocks where the file system can't do it without
// writing: it writes each page back as it is, through the descriptor, so that
// a full disk is an error and never a fault.
func writeSame(f *os.File, data []byte, off, n int64) error {
	const step = 1 << 20
	buf := make([]byte, min(step, n))
	for n > 0 {
		k := min(step, n)
		copy(buf[:k], data[off:off+k])
		if _, err := f.WriteAt(buf[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// zeroMapped zeroes a range where the file system can't. The pages are written
// once as they are before they are cleared: see writeSame.
func zeroMapped(f *os.File, data []byte, off, n int64) error {
	if err := writeSame(f, data, off, n); err != nil {
		return err
	}
	clear(data[off : off+n])
	return nil
}
