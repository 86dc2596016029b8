// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"io"
	"time"
)

// Disk is the file system as the engine sees it, and the seam that a test
// replaces: everything that the engine writes, other than its Pebble metadata,
// goes through one. OS is the real one.
//
// Nothing is durable until the call that says so returns: the bytes of a file
// by Region.Flush, its name by SyncDir on the directory that holds it.
//
// Errors wrap the cause of the operating system, so that errors.Is works with
// fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and syscall.ENOSPC. A Disk is
// safe for concurrent use.
type Disk interface {
	// MkdirAll makes dir and its missing parents, and syncs each directory
	// that gained an entry.
	MkdirAll(dir string) error
	// List returns the entries of dir sorted by name. A dir that does not
	// exist is an fs.ErrNotExist.
	List(dir string) ([]Entry, error)
	// Create makes a new file of size zero bytes and maps it. It fails with
	// fs.ErrExist when path exists. No blocks are reserved yet, and the name
	// is not durable before SyncDir.
	Create(path string, size int64, m Mapping) (Region, error)
	// Open maps an existing file over its whole length, which must not be 0.
	Open(path string, m Mapping) (Region, error)
	// Remove deletes a file or an empty directory. The name may come back
	// after a power cut before SyncDir.
	Remove(path string) error
	// SyncDir makes the entries of dir durable.
	SyncDir(dir string) error
	// ReadFile returns the bytes of a small file.
	ReadFile(path string) ([]byte, error)
	// WriteFile replaces a small file in place: its content is durable on
	// return, its name too. It is not atomic; the files that it is used for
	// say nothing by half their content.
	WriteFile(path string, data []byte) error
	// Lock takes the exclusive lock of RocketMQ's DefaultMessageStore on
	// path: a POSIX record lock on byte 0, not waiting. It makes the file when
	// it is missing and changes nothing when the lock is held; then the error
	// is a LockedError. Closing the result releases the lock and keeps the
	// file.
	Lock(path string) (io.Closer, error)
	// Memory returns size bytes of memory that belong to no file, all zeros.
	Memory(size int64) (Memory, error)
	// BootID names this run of the kernel. As long as it is the same, what a
	// killed process left in the page cache is still there.
	BootID() (string, error)
}

// Memory is memory outside of Go's heap and of any file. Who writes where is for
// its users to settle.
type Memory interface {
	// Bytes is all of it, valid until Free.
	Bytes() []byte
	// Lock has the n bytes at off present, and keeps them from being paged out.
	// They don't change, and may be written meanwhile. An error says why they
	// are not locked; they are usable all the same.
	Lock(off, n int64) error
	// Free gives it back.
	Free() error
}

// Entry is a directory entry.
type Entry struct {
	Name    string
	Size    int64 // bytes; 0 for a directory
	Dir     bool
	ModTime time.Time
}

// Mapping says how a file is mapped.
type Mapping struct {
	// ReadOnly maps the pages without write permission; a write through them
	// is a fault of the program, not an error.
	ReadOnly bool
	// Lean closes the file's descriptor once it is mapped. Thousands of queue
	// files are mapped this way. Such a region flushes with msync, and opens
	// the file again to reserve blocks.
	Lean bool
	// Random advises the kernel that the pages are not read in order: a page
	// that is not in memory is read alone, without megabytes around it. It is
	// advice; a Disk may ignore it.
	Random bool
}

// Region is one mapped file.
//
// Bytes may be read and written by any number of goroutines; who writes where
// is for the callers to settle. Flush and Reserve may run beside them. Close
// must come last: after it the slice that Bytes returned must not be touched.
type Region interface {
	// Bytes is the whole mapping. It is owned by the Region and valid until
	// Close.
	Bytes() []byte
	// Reserve makes sure that blocks for the n bytes at off exist, so that a
	// write to their pages can't fail for lack of space. It returns ErrDiskFull
	// (wrapped) when there is none. The bytes don't change.
	Reserve(off, n int64) error
	// Flush returns once the n bytes at off, as they were when it was called,
	// are durable. After an error nothing is known about the range, and a
	// later success does not mend that: the caller must give up on the file.
	// A file that was cut meanwhile is an ErrFileSize, unless the mapping is
	// lean.
	Flush(off, n int64) error
	// Write puts p at off through the file's descriptor: on return it is in the
	// page cache, where Bytes shows it, and not durable before Flush. It returns
	// ErrDiskFull (wrapped) when a page had no block and there is none left. After
	// an error a first part of p may be there. A kill in the middle leaves a first
	// part, too.
	Write(p []byte, off int64) error
	// Zero makes the n bytes at off read as zeros and keeps their blocks. It
	// is not durable before Flush.
	Zero(off, n int64) error
	// Close unmaps the file and closes its descriptor.
	Close() error
}
