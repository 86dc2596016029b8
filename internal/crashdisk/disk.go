// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stelelog/stele/mappedfile"
)

// Disk is a file system in memory. Make one with New. It is safe for
// concurrent use.
type Disk struct {
	observer atomic.Pointer[func(Op, string)]

	mu       sync.Mutex
	root     *dir
	bootID   string
	clones   uint64 // power cuts so far, to tell their boot ids apart
	locks    map[string]bool
	counts   map[counter]int
	faults   []*Fault
	struck   map[Op]int // operations that a fault made fail
	capacity int64      // bytes; 0 is no limit
	used     int64      // bytes of blocks
}

var _ mappedfile.Disk = (*Disk)(nil)

// New returns an empty Disk that has its root only. Absolute and relative paths
// name the same places.
func New() *Disk { return newDisk(newDir(), bootID("", 0, 0)) }

func newDisk(root *dir, boot string) *Disk {
	return &Disk{root: root, bootID: boot, locks: map[string]bool{}, counts: map[counter]int{}, struck: map[Op]int{}}
}

// begin observes, locks and counts an operation. The caller unlocks d.mu,
// whatever begin returns.
func (d *Disk) begin(op Op, path string) error {
	d.observe(op, path)
	d.mu.Lock()
	return d.enter(op, path)
}

// MkdirAll implements mappedfile.Disk.
func (d *Disk) MkdirAll(dir string) error {
	err := d.begin(OpMkdirAll, dir)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.root.mkdirAll(dir)
}

// List implements mappedfile.Disk.
func (d *Disk) List(dir string) ([]mappedfile.Entry, error) {
	err := d.begin(OpList, dir)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	found, err := d.root.findDir("open", dir)
	if err != nil {
		return nil, err
	}
	entries := make([]mappedfile.Entry, 0, len(found.names))
	for _, name := range slices.Sorted(maps.Keys(found.names)) {
		e := mappedfile.Entry{Name: name, Dir: true}
		if f, ok := found.names[name].(*file); ok {
			e = mappedfile.Entry{Name: name, Size: f.size(), ModTime: f.modTime}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Create implements mappedfile.Disk.
func (d *Disk) Create(path string, size int64, m mappedfile.Mapping) (mappedfile.Region, error) {
	err := d.begin(OpCreate, path)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if size <= 0 {
		return nil, pathError("create", path, syscall.EINVAL)
	}
	f, err := d.add("create", path, image{})
	if err != nil {
		return nil, err
	}
	if err := d.setLength(path, f, size); err != nil {
		return nil, err
	}
	return d.mapFile(path, f, m), nil
}

// setLength gives a new file its length, durably. Until it is done the file is
// empty, and a power cut may leave it with any length. d.mu is held, but for a
// moment.
func (d *Disk) setLength(path string, f *file, size int64) error {
	f.coming = &image{size: size}
	d.mu.Unlock()
	err := d.begin(OpSetLength, path)
	f.coming = nil
	if err != nil {
		parent, name, gone := d.root.place("remove", path)
		if gone == nil && parent.names[name] == node(f) {
			f.deleted = true
			delete(parent.names, name)
		}
		return err
	}
	f.rest.size, f.durable.size = size, size
	return nil
}

// add makes a new file. d.mu is held.
func (d *Disk) add(op, path string, im image) (*file, error) {
	parent, name, err := d.root.place(op, path)
	if err != nil {
		return nil, err
	}
	if parent.names[name] != nil {
		return nil, pathError(op, path, syscall.EEXIST)
	}
	f := newFile(im, time.Now())
	parent.names[name] = f
	return f, nil
}

// Open implements mappedfile.Disk.
func (d *Disk) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	err := d.begin(OpOpen, path)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := d.root.findFile("open", path)
	if err != nil {
		return nil, err
	}
	if f.size() == 0 {
		return nil, &mappedfile.FileError{Path: path, Cause: mappedfile.ErrFileSize}
	}
	return d.mapFile(path, f, m), nil
}

func (d *Disk) mapFile(path string, f *file, m mappedfile.Mapping) *region {
	f.open()
	return &region{disk: d, path: path, file: f, how: m, data: asBytes(f.live, f.size())}
}

// Remove implements mappedfile.Disk. The blocks of a file are free once it has
// no region either.
func (d *Disk) Remove(path string) error {
	err := d.begin(OpRemove, path)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	parent, name, err := d.root.place("remove", path)
	if err != nil {
		return err
	}
	switch n := parent.names[name].(type) {
	case nil:
		return pathError("remove", path, syscall.ENOENT)
	case *dir:
		if len(n.names) > 0 {
			return pathError("remove", path, syscall.ENOTEMPTY)
		}
	case *file:
		n.deleted = true
		d.freeDeleted(n)
	}
	delete(parent.names, name)
	return nil
}

func (d *Disk) freeDeleted(f *file) {
	if f.deleted && f.regions == 0 {
		d.used -= f.used()
	}
}

// SyncDir implements mappedfile.Disk.
func (d *Disk) SyncDir(dir string) error {
	err := d.begin(OpSyncDir, dir)
	defer d.mu.Unlock()
	if err != nil {
		return err
	}
	found, err := d.root.findDir("open", dir)
	if err != nil {
		return err
	}
	found.sync()
	return nil
}

// ReadFile implements mappedfile.Disk. It returns the current bytes of any
// file, mapped or not.
func (d *Disk) ReadFile(path string) ([]byte, error) {
	err := d.begin(OpReadFile, path)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := d.root.findFile("open", path)
	if err != nil {
		return nil, err
	}
	return f.current().bytes(), nil
}

// WriteFile implements mappedfile.Disk. A file that is mapped can't be
// replaced: that is a syscall.EBUSY.
func (d *Disk) WriteFile(path string, data []byte) error {
	struck := d.begin(OpWriteFile, path)
	defer d.mu.Unlock()
	f, err := d.root.findFile("open", path)
	if err != nil {
		if f, err = d.add("open", path, image{}); err != nil {
			return err
		}
	}
	if f.regions > 0 {
		return pathError("open", path, syscall.EBUSY)
	}
	if struck != nil {
		half := imageOf(data[:len(data)/2])
		d.setRest(f, half)
		f.maybe = append(f.maybe, image{}, half)
		return struck
	}
	if err := d.beginContent(path, f, data); err != nil {
		return err
	}
	if err := d.setContent(path, f, imageOf(data)); err != nil {
		f.rest = image{}
		f.maybe = append(f.maybe, image{})
		return err
	}
	parent, _, err := d.root.place("open", path)
	if err != nil {
		return err
	}
	parent.sync()
	return nil
}

// beginContent is the moment in WriteFile when the old content is gone from
// memory and the new one is not durable: a kill leaves half of it, and a power
// cut the old one, or a first part of the new one, or zeros of some length. d.mu
// is held, but for that moment.
func (d *Disk) beginContent(path string, f *file, data []byte) error {
	im, half := imageOf(data), imageOf(data[:len(data)/2])
	d.setRest(f, half)
	f.coming = &im
	d.mu.Unlock()
	err := d.begin(OpSetContent, path)
	f.coming = nil
	if err != nil {
		f.maybe = append(f.maybe, image{}, half)
	}
	return err
}

// setRest makes im the content of f, with blocks, and not durably. d.mu is held.
func (d *Disk) setRest(f *file, im image) {
	d.used -= f.used()
	f.rest, f.blocks = im, nil
	f.addBlocks(0, im.size)
	d.used += f.used()
}

// setContent makes im the content of f, durably. d.mu is held.
func (d *Disk) setContent(path string, f *file, im image) error {
	want := pagesOf(im.size) * PageSize
	if d.capacity > 0 && d.used-f.used()+want > d.capacity {
		return full(pathError("write", path, syscall.ENOSPC), syscall.ENOSPC)
	}
	d.used += want - f.used()
	f.rest, f.durable, f.owned, f.maybe, f.dropped = im, im, false, nil, nil
	f.blocks = nil
	f.addBlocks(0, im.size)
	f.modTime = time.Now()
	return nil
}

// Lock implements mappedfile.Disk: exclusive within this Disk. A clone has no
// locks.
func (d *Disk) Lock(path string) (io.Closer, error) {
	err := d.begin(OpLock, path)
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if d.locks[clean(path)] {
		return nil, &mappedfile.LockedError{Path: path, PID: os.Getpid()}
	}
	if _, err := d.root.findFile("lock", path); err != nil {
		f, err := d.add("lock", path, image{})
		if err != nil {
			return nil, err
		}
		if err := d.setContent(path, f, imageOf([]byte("lock"))); err != nil {
			return nil, err
		}
	}
	d.locks[clean(path)] = true
	return &held{disk: d, path: clean(path)}, nil
}

// held is a lock that was taken.
type held struct {
	disk *Disk
	path string
	once sync.Once
}

// Close releases the lock.
func (h *held) Close() error {
	h.once.Do(func() {
		h.disk.mu.Lock()
		defer h.disk.mu.Unlock()
		delete(h.disk.locks, h.path)
	})
	return nil
}

// BootID implements mappedfile.Disk. A power cut changes it.
func (d *Disk) BootID() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bootID, nil
}
