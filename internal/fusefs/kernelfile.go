// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func (k *kernelSide) openFlags() (flags uint32) {
	if k.mode.KeepCache {
		flags |= fuse.FOPEN_KEEP_CACHE
	}
	if k.mode.DirectIO {
		flags |= fuse.FOPEN_DIRECT_IO
	}
	return flags
}

// change is what an operation does with the bytes of a file, under the lock.
func (k *kernelSide) change(op Op, id uint64, do func(n *inode) fuse.Status) fuse.Status {
	n := k.at(id)
	defer k.disk.mu.Unlock()
	if err := k.disk.enter(op, k.disk.path(id)); err != 0 {
		return fuse.Status(err)
	}
	return do(n)
}

func (k *kernelSide) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return k.change(OpOpen, in.NodeId, func(n *inode) fuse.Status {
		if in.Flags&syscall.O_TRUNC != 0 {
			n.truncate(0)
		}
		out.OpenFlags = k.openFlags()
		return fuse.OK
	})
}

func (k *kernelSide) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (res fuse.ReadResult, st fuse.Status) {
	st = k.change(OpRead, in.NodeId, func(n *inode) fuse.Status {
		res = fuse.ReadResultData(buf[:n.live.read(buf, int64(in.Offset))])
		return fuse.OK
	})
	return res, st
}

func (k *kernelSide) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	st := k.change(OpWrite, in.NodeId, func(n *inode) fuse.Status {
		n.write(data, int64(in.Offset))
		n.mtime = time.Now()
		return fuse.OK
	})
	if st != fuse.OK {
		return 0, st
	}
	return uint32(len(data)), st
}

func (k *kernelSide) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return k.change(OpSync, in.NodeId, func(n *inode) fuse.Status {
		n.sync()
		return fuse.OK
	})
}

func (k *kernelSide) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (k *kernelSide) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if k.mode.Bare {
		return fuse.ENOSYS
	}
	return k.change(OpReserve, in.NodeId, func(n *inode) fuse.Status {
		off, end := int64(in.Offset), int64(in.Offset+in.Length)
		if in.Mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			n.grow(end, false)
		}
		switch in.Mode &^ unix.FALLOC_FL_KEEP_SIZE {
		case 0:
		case unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_PUNCH_HOLE:
			n.zero(off, end)
		default:
			return fuse.Status(syscall.EOPNOTSUPP)
		}
		return fuse.OK
	})
}

func (k *kernelSide) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if k.mode.Bare {
		return fuse.ENOSYS
	}
	return k.change(OpSeek, in.NodeId, func(n *inode) fuse.Status {
		off := int64(in.Offset)
		if off >= n.live.size {
			return fuse.Status(syscall.ENXIO)
		}
		want := in.Whence == unix.SEEK_DATA
		for at := off; at < n.live.size; at = (at/pageSize + 1) * pageSize {
			if (n.live.pages[at/pageSize] != nil) == want {
				out.Offset = uint64(at)
				return fuse.OK
			}
		}
		if want {
			return fuse.Status(syscall.ENXIO)
		}
		out.Offset = uint64(n.live.size)
		return fuse.OK
	})
}
