// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/stelelog/stele/mappedfile"
)

// region is a mapping of a file. All regions of a file share its bytes.
type region struct {
	disk *Disk
	path string
	file *file
	how  mappedfile.Mapping
	data []byte // nil once closed; guarded by disk.mu, except for Bytes
}

// Bytes implements mappedfile.Region.
func (r *region) Bytes() []byte { return r.data }

// begin is Disk.begin with the checks that each call on a region needs. The
// caller unlocks disk.mu.
func (r *region) begin(op Op, off, n int64, writes bool) error {
	struck := r.disk.begin(op, r.path)
	switch {
	case r.data == nil:
		return pathError(op.String(), r.path, fs.ErrClosed)
	case off < 0 || n < 0 || off > r.file.size()-n:
		return pathError(op.String(), r.path, fmt.Errorf("[%d, %d) of %d bytes: %w", off, off+n, r.file.size(), syscall.EINVAL))
	case writes && r.how.ReadOnly:
		return pathError(op.String(), r.path, syscall.EBADF)
	}
	return struck
}

// Reserve implements mappedfile.Region.
func (r *region) Reserve(off, n int64) error {
	err := r.begin(OpReserve, off, n, true)
	defer r.disk.mu.Unlock()
	if err != nil || n == 0 {
		return err
	}
	d := r.disk
	need := r.file.missingBlocks(off, n) * PageSize
	if d.capacity > 0 && d.used+need > d.capacity {
		return full(pathError("reserve", r.path, syscall.ENOSPC), syscall.ENOSPC)
	}
	d.used += need
	r.file.addBlocks(off, n)
	return nil
}

// Flush implements mappedfile.Region.
func (r *region) Flush(off, n int64) error {
	err := r.begin(OpFlush, off, n, false)
	defer r.disk.mu.Unlock()
	if r.data == nil || n == 0 {
		return err
	}
	if err != nil {
		if off >= 0 && n > 0 && off <= r.file.size()-n {
			r.file.drop(off, n)
		}
		return err
	}
	if r.file.flush(off, n) {
		r.file.modTime = time.Now()
	}
	return nil
}

// Write implements mappedfile.Region. It goes in two parts, which meet between two
// pages, since a kernel does not stop in the middle of one; between the two the
// Disk is unlocked, so that an observer can take a clone. It takes the blocks
// that are missing, if there is space.
func (r *region) Write(p []byte, off int64) error {
	n := int64(len(p))
	half := n
	if cut := (off + n/2 + PageSize - 1) / PageSize * PageSize; n > SectorSize && cut < off+n {
		half = cut - off
	}
	if err := r.write(OpWrite, p[:half], off, n); err != nil {
		return err
	}
	return r.write(OpWriteRest, p[half:], off+half, n-half)
}

// write puts a part of what is to be written at off, and takes blocks for need
// bytes.
func (r *region) write(op Op, part []byte, off, need int64) error {
	err := r.begin(op, off, need, true)
	defer r.disk.mu.Unlock()
	if err != nil {
		return err
	}
	d := r.disk
	blocks := r.file.missingBlocks(off, need) * PageSize
	if d.capacity > 0 && d.used+blocks > d.capacity {
		return full(pathError(op.String(), r.path, syscall.ENOSPC), syscall.ENOSPC)
	}
	d.used += blocks
	r.file.addBlocks(off, need)
	copy(r.data[off:], part)
	return nil
}

// Zero implements mappedfile.Region. It takes no blocks and frees none.
func (r *region) Zero(off, n int64) error {
	err := r.begin(OpZero, off, n, true)
	defer r.disk.mu.Unlock()
	if err != nil {
		return err
	}
	clear(r.data[off : off+n])
	return nil
}

// Redirty makes pages dirty again that a failed flush dropped: the interface
// that mappedfile.File.Redirty looks for. Storing the same bytes does that with a
// kernel, and is not noticed here.
func (r *region) Redirty(from, to int64) {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := from / PageSize; i < pagesOf(to); i++ {
		delete(r.file.dropped, i)
	}
}

// Overwrites implements what mappedfile.NewFileWriter asks.
func (r *region) Overwrites() bool { return true }

// NextData is the first position at or after off on a page that holds anything
// but zeros, and at least the length of the file when there is none: the
// interface that mappedfile.File.NextData looks for.
func (r *region) NextData(off int64) int64 {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := max(off, 0) / PageSize; i < int64(len(r.file.live)); i++ {
		if !same(&r.file.live[i], nil) {
			return max(off, i*PageSize)
		}
	}
	return r.file.size()
}

// Close implements mappedfile.Region.
func (r *region) Close() error {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.data == nil {
		return pathError("close", r.path, fs.ErrClosed)
	}
	r.data = nil
	r.file.close()
	d.freeDeleted(r.file)
	return nil
}
