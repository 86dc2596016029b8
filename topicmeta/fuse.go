// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fuse stands between Pebble and the file system. The first operation that
// fails to change the disk blows it: from then on nothing reaches the disk, as
// if the power had gone at that moment, and Pebble is told that all is well.
//
// Why not hand the error to Pebble: some paths in it (a new write-ahead log that
// cannot be created, an old one that cannot be closed) answer by panicking with
// a lock in the wrong state, which nothing can recover from; others (a memtable
// that cannot be flushed) try again at once and for ever, even inside Open. A
// full disk must be an error of Sync, not the end of the process. Nothing is
// acknowledged after the fuse blew, because Sync looks at it after each commit,
// and the next Open finds what a crash at that moment would have left.
//
// In read-only mode the fuse refuses every change and takes no lock, so that a
// read-only medium, or the directory of a running store, can be read.
type fuse struct {
	vfs.FS
	dir      string // of the database
	readOnly bool
	onBlow   func(error) // the first call counts
	blown    atomic.Bool

	// A sync of dir that makes nothing durable but removals is left out, so that Open
	// waits for the disk once less. A file that is there again after a power cut is
	// one too many, which harms nothing.
	naming sync.Mutex  // held over a sync of dir
	named  atomic.Bool // since the last one no name was made in it
}

// blow reports before it cuts: a commit whose write was swallowed must find the
// failure when it looks.
func (f *fuse) blow(op, name string, err error) {
	f.onBlow(fmt.Errorf("%s %s: %w", op, name, markFull(op, err)))
	f.blown.Store(true)
}

// change runs an operation that changes the disk.
func (f *fuse) change(op, name string, do func() error) error {
	if f.readOnly {
		return fmt.Errorf("%s %s: %w", op, name, ErrReadOnly)
	}
	if f.blown.Load() {
		return nil
	}
	if err := do(); err != nil {
		f.blow(op, name, err)
	}
	return nil
}

// file opens a file for writing. It has no error but in read-only mode.
func (f *fuse) file(op, name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.change(op, name, func() (err error) {
		file, err = open()
		f.named.Store(false)
		return err
	})
	if err != nil {
		return nil, err
	}
	if f.blown.Load() {
		if file != nil {
			_ = file.Close() // lost anyway
		}
		return nullFile{name: f.PathBase(name)}, nil
	}
	return &fuseFile{File: file, fuse: f, name: name}, nil
}

// Create also keeps an order that Pebble does not: the name of a marker file says
// which MANIFEST is the current one, so it may not be durable before that file's
// own name is. Pebble syncs the directory after it made both.
func (f *fuse) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.beforeMarker(name); err != nil {
		return nil, err
	}
	return f.file("create", name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

// beforeMarker makes the names in the directory of a marker file durable before
// the marker comes or goes.
func (f *fuse) beforeMarker(name string) error {
	if !strings.HasPrefix(f.PathBase(name), "marker.") {
		return nil
	}
	dir := f.PathDir(name)
	return f.syncNames(dir, func() error { return syncDir(f.FS, dir) })
}

// syncNames syncs a directory, by do, unless there is no need to.
func (f *fuse) syncNames(dir string, do func() error) error {
	if dir != f.dir || f.readOnly {
		return f.change("sync", dir, do)
	}
	f.naming.Lock()
	defer f.naming.Unlock()
	if f.named.Swap(true) {
		return nil
	}
	return f.change("sync", dir, do)
}

func (f *fuse) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file("open", name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fuse) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file("reuse", newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir opens a directory, which Pebble does in order to sync it.
func (f *fuse) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fuseFile{File: dir, fuse: f, name: name, names: true}, nil
}

func (f *fuse) Link(oldname, newname string) error {
	defer f.named.Store(false)
	return f.change("link", newname, func() error { return f.FS.Link(oldname, newname) })
}

func (f *fuse) Rename(oldname, newname string) error {
	defer f.named.Store(false)
	return f.change("rename", newname, func() error { return f.FS.Rename(oldname, newname) })
}

func (f *fuse) MkdirAll(dir string, perm os.FileMode) error {
	return f.change("mkdir", dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

// optional runs an operation whose failure loses nothing: Pebble gets the error,
// and the fuse does not blow.
func (f *fuse) optional(op, name string, do func() error) error {
	var failed error
	if err := f.change(op, name, func() error { failed = do(); return nil }); err != nil {
		return err
	}
	return failed
}

// Remove may fail: a file too many harms nothing, and the next Open tries again.
//
// It keeps an order, too: Pebble makes a new marker file, removes the old one and
// then syncs the directory. Where a power cut keeps the removal and not the
// creation there is no marker at all, and to Pebble no database.
func (f *fuse) Remove(name string) error {
	if err := f.beforeMarker(name); err != nil {
		return err
	}
	return f.optional("remove", name, func() error { return f.FS.Remove(name) })
}

// RemoveAll may fail as Remove may.
func (f *fuse) RemoveAll(name string) error {
	return f.optional("remove", name, func() error { return f.FS.RemoveAll(name) })
}

// GetDiskUsage would only pace the deletion of large files, which do not occur.
func (f *fuse) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, vfs.ErrUnsupported
}

func (f *fuse) Lock(name string) (io.Closer, error) {
	if f.readOnly {
		return nullFile{}, nil
	}
	return f.FS.Lock(name)
}

func (f *fuse) Unwrap() vfs.FS { return f.FS }

// fuseFile is a file open for writing, or a directory.
type fuseFile struct {
	vfs.File
	fuse  *fuse
	name  string
	names bool // it is a directory
}

func (f *fuseFile) Write(p []byte) (int, error) {
	err := f.fuse.change("write", f.name, func() error { _, err := f.File.Write(p); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *fuseFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fuse.change("write", f.name, func() error { _, err := f.File.WriteAt(p, off); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Preallocate may fail: not every file system can do it.
func (f *fuseFile) Preallocate(offset, length int64) error {
	return f.fuse.optional("preallocate", f.name, func() error { return f.File.Preallocate(offset, length) })
}

func (f *fuseFile) Sync() error {
	if f.names {
		return f.fuse.syncNames(f.name, f.File.Sync)
	}
	return f.fuse.change("sync", f.name, f.File.Sync)
}

func (f *fuseFile) SyncData() error { return f.fuse.change("sync", f.name, f.File.SyncData) }

func (f *fuseFile) SyncTo(length int64) (full bool, err error) {
	err = f.fuse.change("sync", f.name, func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Stat is asked of a log that is used again; Pebble panics if it fails.
func (f *fuseFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	if err == nil || f.fuse.readOnly {
		return info, err
	}
	f.fuse.blow("stat", f.name, err)
	return nullInfo{name: f.fuse.PathBase(f.name)}, nil
}

// Close always closes, so that no descriptor leaks.
func (f *fuseFile) Close() error {
	if err := f.File.Close(); err != nil && !f.fuse.readOnly {
		f.fuse.blow("close", f.name, err)
	}
	return nil
}

// nullFile takes what is written after the fuse blew. It also is the lock that
// read-only mode does not take.
type nullFile struct{ name string }

func (nullFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (nullFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nullFile) Write(p []byte) (int, error)            { return len(p), nil }
func (nullFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nullFile) Preallocate(int64, int64) error         { return nil }
func (nullFile) Sync() error                            { return nil }
func (nullFile) SyncData() error                        { return nil }
func (nullFile) SyncTo(int64) (bool, error)             { return false, nil }
func (nullFile) Prefetch(int64, int64) error            { return nil }
func (nullFile) Fd() uintptr                            { return vfs.InvalidFd }
func (nullFile) Close() error                           { return nil }
func (f nullFile) Stat() (vfs.FileInfo, error)          { return nullInfo(f), nil }

// nullInfo describes a nullFile: an empty file.
type nullInfo struct{ name string }

func (i nullInfo) Name() string         { return i.name }
func (nullInfo) Size() int64            { return 0 }
func (nullInfo) Mode() fs.FileMode      { return 0o644 }
func (nullInfo) ModTime() time.Time     { return time.Time{} }
func (nullInfo) IsDir() bool            { return false }
func (nullInfo) Sys() any               { return nil }
func (nullInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
