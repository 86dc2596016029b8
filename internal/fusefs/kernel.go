// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import (
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// kernelSide answers what the kernel asks of a mounted Disk.
type kernelSide struct {
	fuse.RawFileSystem
	disk *Disk
	mode Mode

	// Listings that are being read, by handle; guarded by disk.mu.
	listings map[uint64][]fuse.DirEntry
	handle   uint64
}

func newKernelSide(d *Disk, m Mode) *kernelSide {
	return &kernelSide{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d, mode: m, listings: map[uint64][]fuse.DirEntry{}}
}

// forever is how long the kernel may believe what it was told: nobody else
// changes the disk.
const forever = time.Hour

func (k *kernelSide) String() string { return "stele-test" }

// at returns the inode and its lock, which the caller must release.
func (k *kernelSide) at(id uint64) *inode {
	k.disk.mu.Lock()
	return k.disk.inodes[id]
}

func attrOf(n *inode, a *fuse.Attr) {
	a.Ino, a.Nlink, a.Blksize = n.id, 1, pageSize
	a.Mode = syscall.S_IFREG | 0o644
	if n.dir {
		a.Mode, a.Nlink = syscall.S_IFDIR|0o755, 2
	} else {
		a.Size, a.Blocks = uint64(n.live.size), uint64(len(n.live.pages))*(pageSize/sectorSize)
	}
	a.SetTimes(nil, &n.mtime, &n.mtime)
	a.Uid, a.Gid = uint32(os.Getuid()), uint32(os.Getgid())
}

func entryOf(n *inode, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	attrOf(n, &out.Attr)
}

func (k *kernelSide) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := k.at(h.NodeId)
	defer k.disk.mu.Unlock()
	n := k.disk.inodes[dir.names[name]]
	if n == nil {
		return fuse.ENOENT
	}
	entryOf(n, out)
	return fuse.OK
}

func (k *kernelSide) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := k.at(in.NodeId)
	defer k.disk.mu.Unlock()
	out.SetTimeout(forever)
	attrOf(n, &out.Attr)
	return fuse.OK
}

func (k *kernelSide) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := k.at(in.NodeId)
	defer k.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok && !n.dir {
		if err := k.disk.enter(OpTruncate, k.disk.path(n.id)); err != 0 {
			return fuse.Status(err)
		}
		n.truncate(int64(size))
		n.mtime = time.Now()
	}
	if t, ok := in.GetMTime(); ok {
		n.mtime = t
	}
	out.SetTimeout(forever)
	attrOf(n, &out.Attr)
	return fuse.OK
}

// create makes an inode with a name. The lock is held.
func (k *kernelSide) create(parent uint64, name string, dir bool) (*inode, fuse.Status) {
	d := k.disk
	if err := d.enter(OpCreate, d.path(parent)+"/"+name); err != 0 {
		return nil, fuse.Status(err)
	}
	if d.inodes[parent].names[name] != 0 {
		return nil, fuse.Status(syscall.EEXIST)
	}
	n := d.add(parent, name, dir)
	d.rename(nameChange{{dir: parent, name: name, to: n.id}})
	return n, fuse.OK
}

func (k *kernelSide) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	n, st := k.create(in.NodeId, name, true)
	if st == fuse.OK {
		entryOf(n, out)
	}
	return st
}

func (k *kernelSide) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	n, st := k.create(in.NodeId, name, false)
	if st == fuse.OK {
		entryOf(n, &out.EntryOut)
		out.OpenFlags = k.openFlags()
	}
	return st
}

func (k *kernelSide) remove(parent uint64, name string, dir bool) fuse.Status {
	d := k.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(OpRemove, d.path(parent)+"/"+name); err != 0 {
		return fuse.Status(err)
	}
	n := d.inodes[d.inodes[parent].names[name]]
	switch {
	case n == nil:
		return fuse.ENOENT
	case dir && !n.dir:
		return fuse.ENOTDIR
	case !dir && n.dir:
		return fuse.Status(syscall.EISDIR)
	case len(n.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	d.rename(nameChange{{dir: parent, name: name}})
	return fuse.OK
}

func (k *kernelSide) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return k.remove(h.NodeId, name, false)
}

func (k *kernelSide) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return k.remove(h.NodeId, name, true)
}

func (k *kernelSide) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	d := k.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	if err := d.enter(OpRename, d.path(in.NodeId)+"/"+from); err != 0 {
		return fuse.Status(err)
	}
	id := d.inodes[in.NodeId].names[from]
	if id == 0 {
		return fuse.ENOENT
	}
	if old := d.inodes[d.inodes[in.Newdir].names[to]]; old != nil && len(old.names) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	d.rename(nameChange{{dir: in.NodeId, name: from}, {dir: in.Newdir, name: to, to: id}})
	return fuse.OK
}

func (k *kernelSide) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	dir := k.at(in.NodeId)
	defer k.disk.mu.Unlock()
	list := make([]fuse.DirEntry, 0, len(dir.names))
	for i, name := range slices.Sorted(maps.Keys(dir.names)) {
		n := k.disk.inodes[dir.names[name]]
		e := fuse.DirEntry{Name: name, Ino: n.id, Mode: syscall.S_IFREG, Off: uint64(i) + 1}
		if n.dir {
			e.Mode = syscall.S_IFDIR
		}
		list = append(list, e)
	}
	k.handle++
	out.Fh = k.handle
	k.listings[out.Fh] = list
	return fuse.OK
}

func (k *kernelSide) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	list := k.listings[in.Fh]
	for i := min(in.Offset, uint64(len(list))); i < uint64(len(list)); i++ {
		if !out.AddDirEntry(list[i]) {
			break
		}
	}
	return fuse.OK
}

func (k *kernelSide) ReleaseDir(in *fuse.ReleaseIn) {
	k.disk.mu.Lock()
	defer k.disk.mu.Unlock()
	delete(k.listings, in.Fh)
}

func (k *kernelSide) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	d := k.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(OpSyncDir, d.path(in.NodeId)); err != 0 {
		return fuse.Status(err)
	}
	d.syncDir(in.NodeId)
	return fuse.OK
}

func (k *kernelSide) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 28
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = blocks, blocks, blocks
	out.Files, out.Ffree = blocks, blocks
	return fuse.OK
}
