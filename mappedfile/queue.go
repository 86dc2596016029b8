// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// Options says what a Queue is made of.
type Options struct {
	// Dir holds the files, and nothing else but directories. It may be
	// missing; then the queue is empty and Add makes it.
	Dir string
	// FileSize is the length of each file in bytes. 0 takes the length of the
	// files that are there, or DefaultSize where there are none.
	FileSize int64
	// DefaultSize is the length for new files when FileSize is 0 and no file
	// is there to follow.
	DefaultSize int64
	// Unlikely says, where FileSize is 0 and there is a single file, shorter than
	// DefaultSize and without a byte other than zero, whether that is rather the
	// rest of an interrupted creation than as long as files are meant to be. nil
	// says no.
	Unlikely func(size int64) bool
	// Disk is the file system. nil is OS.
	Disk Disk
	// Mapping says how the files are mapped. With ReadOnly nothing is changed
	// on disk.
	Mapping Mapping
	// ReserveWhole reserves all blocks of a new file at once. Without it the
	// writer calls File.Reserve as it goes.
	ReserveWhole bool
	// LazySync leaves the name of a new file to the next Flush, or to the next
	// new file, instead of syncing the directory at once.
	LazySync bool
	// Tolerant opens what can be read of a directory with stray or missing
	// files, or files of a wrong length; Queue.Problems says what was wrong. It
	// is for tools that look: Mapping must be ReadOnly.
	Tolerant bool
}

// Queue is an ordered, contiguous run of equally long files: RocketMQ's
// MappedFileQueue. Reading calls are safe for concurrent use and take no lock;
// changes to the run exclude each other.
type Queue struct {
	o     Options
	files atomic.Pointer[[]*File] // immutable once stored

	problems   []*FileError // what Options.Tolerant let pass
	ragged     bool         // files may be missing, or shorter than FileSize
	unfinished string       // a file that was left out

	cutMu   sync.Mutex // one removal at a time; before mu
	mu      sync.Mutex // held while the run changes
	unnamed bool       // a file was made since the directory was synced
	closed  atomic.Bool

	unsettled bool // a removal was not synced; guarded by cutMu

	heldMu sync.Mutex // a leaf
	held   []*File    // removed, and some of them still held by views
}

// OpenQueue lists the directory and checks every name and length, without
// mapping anything. The errors are FileErrors with ErrStrayFile, ErrFileSize
// or ErrMissingFile. A last file that is too short and holds nothing is what an
// interrupted creation leaves: it is left out, and removed unless the queue is
// read-only. Unfinished names it.
func OpenQueue(o Options) (*Queue, error) {
	if o.Disk == nil {
		o.Disk = OS()
	}
	if o.Tolerant && !o.Mapping.ReadOnly {
		return nil, fmt.Errorf("%s: a tolerant queue must be read-only", o.Dir)
	}
	files, found, err := listFiles(&o)
	if err != nil {
		return nil, err
	}
	if o.FileSize < 0 || o.FileSize == 0 && !o.Mapping.ReadOnly {
		return nil, fmt.Errorf("%s: %w: new files of %d bytes", o.Dir, ErrFileSize, o.FileSize)
	}
	q := &Queue{o: o, problems: found.problems, ragged: len(found.problems) > 0, unfinished: found.unfinished}
	q.files.Store(&files)
	return q, nil
}

// Dir is the directory of the files.
func (q *Queue) Dir() string { return q.o.Dir }

// Unfinished is the path of the file that OpenQueue left out, or "".
func (q *Queue) Unfinished() string { return q.unfinished }

// FileSize is the length of each file in bytes.
func (q *Queue) FileSize() int64 { return q.o.FileSize }

// Files returns the run as it is now, in order. The slice must not be changed.
// A file may be removed at any time; take a View to keep it.
func (q *Queue) Files() []*File { return *q.files.Load() }

// Len is the number of files.
func (q *Queue) Len() int { return len(q.Files()) }

// First returns the first file, or nil.
func (q *Queue) First() *File {
	if files := q.Files(); len(files) > 0 {
		return files[0]
	}
	return nil
}

// Last returns the last file, or nil.
func (q *Queue) Last() *File {
	if files := q.Files(); len(files) > 0 {
		return files[len(files)-1]
	}
	return nil
}

// Min is the base offset of the first file, 0 when there is none.
func (q *Queue) Min() int64 {
	if f := q.First(); f != nil {
		return f.base
	}
	return 0
}

// End is the offset behind the last file, 0 when there is none.
func (q *Queue) End() int64 {
	if f := q.Last(); f != nil {
		return f.End()
	}
	return 0
}

// Find returns the file that holds off, or nil.
func (q *Queue) Find(off int64) *File {
	files := q.Files()
	if len(files) == 0 || off < files[0].base {
		return nil
	}
	if q.ragged {
		if f := q.Next(off); f != nil && f.base <= off {
			return f
		}
		return nil
	}
	i := (off - files[0].base) / q.o.FileSize
	if i >= int64(len(files)) {
		return nil
	}
	return files[i]
}

// View returns the n bytes at offset off, which must lie in one file. It
// returns ErrExpired below the first file, ErrOutOfRange beyond the last,
// ErrClosed after Close, and a FileError in a hole of a Tolerant queue. The caller must Release it.
func (q *Queue) View(off, n int64) (View, error) {
	f := q.Find(off)
	if f == nil {
		if q.closed.Load() {
			return View{}, q.errClosed()
		}
		if off < q.Min() {
			return View{}, fmt.Errorf("%s: %w: offset %d, the first file begins at %d", q.o.Dir, ErrExpired, off, q.Min())
		}
		if q.ragged && q.Next(off) != nil {
			return View{}, q.hole(off)
		}
		return View{}, fmt.Errorf("%s: %w: offset %d, the files end at %d", q.o.Dir, ErrOutOfRange, off, q.End())
	}
	return f.View(off-f.base, n)
}

// NextBase is the base offset of the file that Add or Append expects: behind
// the last file, or for an empty queue the file that holds the offset first.
func (q *Queue) NextBase(first int64) int64 {
	if f := q.Last(); f != nil {
		return f.End()
	}
	return first - first%q.o.FileSize
}

// Add creates the file at base, which must be NextBase, and appends it to the
// run.
func (q *Queue) Add(base int64) (*File, error) {
	f, err := q.Prepare(base)
	if err != nil {
		return nil, err
	}
	if err := q.Append(f); err != nil {
		return nil, errors.Join(err, q.Discard(f))
	}
	return f, nil
}

// Prepare creates, reserves and maps the file at base without making it part
// of the run. It is given to Append or to Discard. It may run beside
// everything else.
func (q *Queue) Prepare(base int64) (*File, error) {
	if q.o.Mapping.ReadOnly {
		return nil, fmt.Errorf("%s: add a file: %w", q.o.Dir, ErrReadOnly)
	}
	if err := q.o.Disk.MkdirAll(q.o.Dir); err != nil {
		return nil, fullDisk(err)
	}
	// No more than one name is left to the next Flush: of two, a power cut
	// could take the first.
	if err := q.syncNames(); err != nil {
		return nil, err
	}
	f := newFile(base, q.o.FileSize, filepath.Join(q.o.Dir, FileName(base)), q.o.Disk, q.o.Mapping)
	r, err := q.o.Disk.Create(f.path, f.size, q.o.Mapping)
	if err != nil {
		return nil, err
	}
	f.adopt(r)
	if q.o.ReserveWhole {
		err = f.reserveTo(f.size)
	}
	if q.o.LazySync {
		q.mu.Lock()
		q.unnamed = true
		q.mu.Unlock()
	} else if err == nil {
		err = q.o.Disk.SyncDir(q.o.Dir)
	}
	if err != nil {
		return nil, errors.Join(err, q.Discard(f))
	}
	return f, nil
}

// ready makes a file that was there already what Prepare returns.
func (q *Queue) ready(f *File) error {
	if err := f.ReserveAll(); err != nil {
		return err
	}
	return q.o.Disk.SyncDir(q.o.Dir)
}

// Discard removes a prepared file that was not appended.
func (q *Queue) Discard(f *File) error {
	defer f.release()
	return q.erase(f)
}

// Append makes a prepared file the last of the run.
func (q *Queue) Append(f *File) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return q.errClosed()
	}
	old := q.Files()
	if want := q.NextBase(f.base); f.base != want {
		return fmt.Errorf("%s: a file at %d can't follow: want %d", q.o.Dir, f.base, want)
	}
	files := make([]*File, len(old)+1)
	copy(files, old)
	files[len(old)] = f
	q.files.Store(&files)
	return nil
}

// TakeBack undoes Append: it takes the last file out of the run, and leaves it to
// the caller, for Append, Discard or Allocator.Adopt.
func (q *Queue) TakeBack(f *File) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return q.errClosed()
	}
	if f != q.Last() {
		return fmt.Errorf("%s: the file at %d is not the last one", q.o.Dir, f.base)
	}
	files := slices.Clone(q.Files()[:q.Len()-1])
	q.files.Store(&files)
	return nil
}

func (q *Queue) errClosed() error { return fmt.Errorf("%s: %w", q.o.Dir, ErrClosed) }

// Flush makes the bytes [from, to) durable, and before them the names of new
// files. Parts of the range that lie in removed files count as done. It returns
// ErrClosed when the queue is closed before it is done.
func (q *Queue) Flush(from, to int64) error {
	if err := q.syncNames(); err != nil {
		return err
	}
	return q.each(from, to, (*File).Flush)
}

// Redirty makes the next Flush write [from, to) in any case, see File.Redirty.
func (q *Queue) Redirty(from, to int64) error { return q.each(from, to, (*File).Redirty) }

// each calls do for the parts of files that lie in [from, to), by positions in
// the file. It passes over files that are removed meanwhile.
func (q *Queue) each(from, to int64, do func(f *File, from, to int64) error) error {
	for _, f := range q.Files() {
		lo, hi := max(from, f.base), min(to, f.End())
		if lo >= hi || !f.acquire() {
			continue
		}
		err := do(f, lo-f.base, hi-f.base)
		f.release()
		if err != nil {
			return err
		}
	}
	if q.closed.Load() { // its files were not to be had, or might not have been
		return q.errClosed()
	}
	return nil
}

func (q *Queue) syncNames() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.unnamed {
		return nil
	}
	if err := q.o.Disk.SyncDir(q.o.Dir); err != nil {
		return err
	}
	q.unnamed = false
	return nil
}

// Close gives up the queue's references: files are unmapped once their last
// View is released. It does not flush. Closing twice does nothing.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Swap(true) {
		return nil
	}
	files := q.Files()
	q.files.Store(&[]*File{})
	for _, f := range files {
		f.release()
	}
	return nil
}
