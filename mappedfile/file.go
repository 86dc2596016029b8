// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/stelelog/stele/warmup"
)

// File is one fixed-size file of a Queue. It is safe for concurrent use, in the
// terms of the package comment.
type File struct {
	base int64
	size int64
	path string
	disk Disk
	how  Mapping
	lax  bool // the file may be longer than size, which is what counts

	// zeroed, unless 0, is where zeros end that the next flush takes along.
	zeroed atomic.Int64

	refs atomic.Int32 // the Queue's one and those of views
	data atomic.Pointer[[]byte]

	mu       sync.Mutex // guards region
	region   Region
	reserved int64 // end of the reserved blocks; the writer's own
}

func newFile(base, size int64, path string, disk Disk, how Mapping) *File {
	f := &File{base: base, size: size, path: path, disk: disk, how: how}
	f.refs.Store(1)
	return f
}

// Base is the offset of the file's first byte.
func (f *File) Base() int64 { return f.base }

// Size is the file's length in bytes.
func (f *File) Size() int64 { return f.size }

// End is the offset behind the file's last byte.
func (f *File) End() int64 { return f.base + f.size }

// Path is the file's path.
func (f *File) Path() string { return f.path }

// Bytes returns the whole mapping, which is made now if it was not. The caller
// must hold a reference: a View, or being the writer of a Queue that has the
// file. The slice is valid as long as that reference.
func (f *File) Bytes() ([]byte, error) {
	if p := f.data.Load(); p != nil {
		return *p, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.data.Load(); p != nil {
		return *p, nil
	}
	r, err := f.disk.Open(f.path, f.how)
	if f.how.ReadOnly && errors.Is(err, fs.ErrNotExist) {
		// The owner removed it since it was listed.
		return nil, fmt.Errorf("%w: %w", ErrExpired, err)
	}
	if err != nil {
		return nil, err
	}
	if got := int64(len(r.Bytes())); got < f.size || got > f.size && !f.lax {
		_ = r.Close()
		return nil, &FileError{Path: f.path, Cause: ErrFileSize, Want: f.size, Got: got}
	}
	f.adopt(r)
	return *f.data.Load(), nil
}

// adopt takes over a region. f.mu is held, or f is not shared yet.
func (f *File) adopt(r Region) {
	data := r.Bytes()[:f.size:f.size]
	f.region = r
	f.data.Store(&data)
}

// mapped returns the region, which it maps if need be.
func (f *File) mapped() (Region, error) {
	if _, err := f.Bytes(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.region, nil
}

// Reserve makes sure that blocks exist for every byte below end (a position in
// the file), and some further: as much again as is reserved already, between
// 4 KiB and 1 MiB, so that a small queue takes little space and a growing one
// few calls. Only the file's writer may call it.
func (f *File) Reserve(end int64) error {
	if end <= f.reserved {
		return nil
	}
	const least, most = 4 << 10, 1 << 20
	ahead := min(max(f.reserved, least), most)
	to := min((max(end, f.reserved+ahead)+least-1)/least*least, f.size)
	return f.reserveTo(to)
}

// ReserveAll makes sure that blocks exist for every byte of the file. Only the
// file's writer may call it.
func (f *File) ReserveAll() error {
	if f.reserved == f.size {
		return nil
	}
	return f.reserveTo(f.size)
}

func (f *File) reserveTo(to int64) error {
	if f.how.ReadOnly {
		return fmt.Errorf("%s: reserve: %w", f.path, ErrReadOnly)
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if err := r.Reserve(f.reserved, to-f.reserved); err != nil {
		return err
	}
	f.reserved = to
	return nil
}

// Write puts p at pos (a position in the file) through the file's descriptor: see
// Region.Write. The caller must hold a reference, and be the file's writer.
func (f *File) Write(pos int64, p []byte) error {
	if f.how.ReadOnly {
		return fmt.Errorf("%s: write: %w", f.path, ErrReadOnly)
	}
	if pos < 0 || pos > f.size-int64(len(p)) {
		return fmt.Errorf("%s: %w: write of [%d, %d), the file has %d bytes", f.path, ErrOutOfRange, pos, pos+int64(len(p)), f.size)
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	return r.Write(p, pos)
}

// Flush makes the bytes [from, to) of the file (positions in it) durable, as
// they are now. The caller must hold a reference. After an error the file must
// not be trusted with another flush.
func (f *File) Flush(from, to int64) error {
	if from >= to {
		return nil
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	zeroed := f.zeroed.Load()
	if err := r.Flush(from, max(to, zeroed)-from); err != nil {
		return err
	}
	f.zeroed.CompareAndSwap(zeroed, 0)
	return nil
}

// Redirty makes the next Flush write the bytes [from, to) of the file (positions
// in it) again, whatever the kernel thinks of their pages. After a failed sync
// it takes them for clean, though the disk may never have got them, and a later
// sync by whoever opens the file next would succeed without writing. Only the
// file's writer may call it.
func (f *File) Redirty(from, to int64) error {
	if f.how.ReadOnly {
		return fmt.Errorf("%s: %w", f.path, ErrReadOnly)
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if d, ok := r.(interface{ Redirty(from, to int64) }); ok {
		d.Redirty(from, to)
		return nil
	}
	const page = 4096 // or a part of one
	data := r.Bytes()
	for at := from / page * page; at < to; at += page {
		if at+4 > f.size {
			// By way of a buffer, for the reason below.
			var rest [4]byte
			n := copy(rest[:], data[at:])
			copy(data[at:], rest[:n])
			break
		}
		// Atomic, because a plain store of what was just loaded may be left
		// out by the compiler.
		p := (*uint32)(unsafe.Pointer(&data[at]))
		atomic.StoreUint32(p, atomic.LoadUint32(p))
	}
	return nil
}

// ZeroFrom makes every byte from pos (a position in the file) to its end read
// as zero, durably. Only the file's writer may call it, and not beside readers
// of those bytes.
func (f *File) ZeroFrom(pos int64) error {
	if f.how.ReadOnly {
		return fmt.Errorf("%s: zero: %w", f.path, ErrReadOnly)
	}
	if pos >= f.size {
		return nil
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if err := r.Zero(pos, f.size-pos); err != nil {
		return err
	}
	// What lies before may be much, and is somebody else's to flush.
	if o, ok := r.(interface{ FlushOnly(off, n int64) error }); ok {
		return o.FlushOnly(pos, f.size-pos)
	}
	return r.Flush(pos, f.size-pos)
}

// Warm works on the bytes [from, to) of the file (positions in it) as the plan
// says: see warmup.Plan.Run. Where the Disk has no pages to warm up, nothing is
// done. The caller must hold a reference, and guard against a fault.
func (f *File) Warm(ctx context.Context, p warmup.Plan, from, to int64) (warmup.Result, error) {
	r, err := f.mapped()
	if err != nil {
		return warmup.Result{}, err
	}
	if w, ok := r.(interface {
		Warm(ctx context.Context, p warmup.Plan, from, to int64) (warmup.Result, error)
	}); ok {
		return w.Warm(ctx, p, from, to)
	}
	return warmup.Result{}, nil
}

// Unlock ends the locks that Warm has put on [from, to). The caller must hold a
// reference.
func (f *File) Unlock(from, to int64) error {
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if u, ok := r.(interface{ Unlock(from, to int64) error }); ok {
		return u.Unlock(from, to)
	}
	return nil
}

// NextData returns the first position at or after pos that may hold something
// other than zeros, or Size when there is none. Where the Disk can't tell, that
// is pos. The caller must hold a reference.
func (f *File) NextData(pos int64) int64 {
	r, err := f.mapped()
	if err != nil {
		return pos
	}
	if d, ok := r.(interface{ NextData(int64) int64 }); ok {
		return min(max(d.NextData(pos), pos), f.size)
	}
	return pos
}

// HoleAt returns the first of the positions from, from+step, from+2·step, … behind
// which NextData knows of nothing to the end of the file, or Size when there is none.
//
// Ask it before that part of the file is read: what the kernel reads ahead of a hole
// is in memory, and counts as data from then on. Who asks NextData as he goes reads
// all of a file that was reserved ahead of need, and fills as much memory with zeros.
// The caller must hold a reference.
func (f *File) HoleAt(from, step int64) int64 {
	n := max(f.size-from+step-1, 0) / step
	k := sort.Search(int(n), func(k int) bool { return f.NextData(from+step*int64(k)) >= f.size })
	return min(from+step*int64(k), f.size)
}

// Descriptor returns the open file for system calls that send from one, or nil
// when the Disk has none or the mapping is lean. It belongs to the File and is
// valid as long as the caller's reference.
func (f *File) Descriptor() *os.File {
	r, err := f.mapped()
	if err != nil {
		return nil
	}
	if d, ok := r.(interface{ File() *os.File }); ok {
		return d.File()
	}
	return nil
}

// View returns the n bytes at pos (a position in the file). The caller must
// Release it. It returns ErrExpired when the file was removed.
func (f *File) View(pos, n int64) (View, error) {
	if pos < 0 || n < 0 || pos > f.size-n {
		return View{}, fmt.Errorf("%s: %w: [%d, %d) of %d bytes", f.path, ErrOutOfRange, pos, pos+n, f.size)
	}
	if !f.acquire() {
		return View{}, fmt.Errorf("%s: %w", f.path, ErrExpired)
	}
	data, err := f.Bytes()
	if err != nil {
		return View{}, joinRelease(err, f)
	}
	return View{file: f, data: data[pos : pos+n : pos+n]}, nil
}

func joinRelease(err error, f *File) error {
	f.release()
	return err
}

// Drop gives up the mapping when nobody but the queue holds the file; its next
// use maps it again. It must not run beside any other use of the file: it is
// for recovery, which looks at thousands of files and keeps few.
func (f *File) Drop() error {
	if f.refs.Load() != 1 {
		return nil
	}
	return f.unmap()
}

// acquire takes a reference, unless the last one is gone.
func (f *File) acquire() bool {
	for {
		n := f.refs.Load()
		if n <= 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one unmaps the file. An unmap that
// fails leaves nothing to do and nothing to lose, so its error is dropped.
func (f *File) release() {
	if f.refs.Add(-1) != 0 {
		return
	}
	_ = f.unmap()
}

// released reports whether nobody holds the file any more.
func (f *File) released() bool { return f.refs.Load() <= 0 }

func (f *File) unmap() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data.Store(nil)
	r := f.region
	f.region = nil
	if r == nil {
		return nil
	}
	return r.Close()
}
