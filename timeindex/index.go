// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// DirName is the index's directory in Stele's own.
const DirName = "timeindex"

// Options says what an Index is made of.
type Options struct {
	// Dir holds the files and nothing else.
	Dir string
	// Disk is the file system; nil is the operating system's.
	Disk mappedfile.Disk
	// Stretch is the length of a stretch in bytes; 0 means DefaultStretch. An
	// index with another one is made anew.
	Stretch int64
	// Rebuild is how much of the log Recover asks for at most, in bytes, to fill
	// in what the index lacks; 0 means DefaultRebuild. What lacks more is begun
	// anew.
	Rebuild int64
	// Damaged, unless it is nil, is told what of the index can't be believed, by
	// Recover and, once, by Search, on their goroutine.
	Damaged func(*DamageError)
}

// Index is an open time index. See the package comment for who may call what at
// the same time.
type Index struct {
	o        Options
	files    *mappedfile.Queue
	readOnly bool

	// Slots [begin, end) hold entries. The feeder moves end once a slot is
	// written, Expire moves begin.
	begin, end atomic.Int64
	reported   atomic.Bool

	// The feeder's own.
	latest int64          // store time, over all records before next; clamped
	seeded bool           // latest is known
	next   message.Offset // behind the last record that was put
	headed int64          // base of the file whose header is written, or -1

	// The flusher's own.
	flushed int64 // slots below it were flushed by this Index
}

// Open opens the index in o.Dir for feeding. It must be told by Recover where that
// begins. Files that are no run of index files are removed: the index is made
// from the log.
func Open(o Options) (*Index, error) {
	if o.Disk == nil {
		o.Disk = mappedfile.OS()
	}
	if o.Stretch == 0 {
		o.Stretch = DefaultStretch
	}
	if o.Rebuild == 0 {
		o.Rebuild = DefaultRebuild
	}
	if o.Stretch < MinStretch || o.Stretch > MaxStretch {
		return nil, fmt.Errorf("time index: a stretch of %d bytes, between %d and %d", o.Stretch, MinStretch, MaxStretch)
	}
	x := &Index{o: o, headed: -1, flushed: -1}
	var file *mappedfile.FileError
	err := x.list()
	if errors.As(err, &file) {
		x.damaged(file.Path, 0, file)
		if err = x.wipe(); err == nil {
			err = x.list()
		}
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// list opens the run of files.
func (x *Index) list() (err error) {
	x.files, err = mappedfile.OpenQueue(mappedfile.Options{
		Dir: x.o.Dir, FileSize: FileSize, Disk: x.o.Disk, Mapping: mappedfile.Mapping{Lean: true},
	})
	return err
}

// wipe removes every file of the directory, durably. x.files is of no use
// afterwards.
func (x *Index) wipe() error {
	if x.files != nil {
		if err := x.files.Close(); err != nil {
			return err
		}
	}
	entries, err := x.o.Disk.List(x.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	removed := false
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Dir {
			continue
		}
		if err := x.o.Disk.Remove(filepath.Join(x.o.Dir, entries[i].Name)); err != nil {
			return err
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return x.o.Disk.SyncDir(x.o.Dir)
}

// OpenReadOnly opens the index in dir for searching, as it is now, and changes
// nothing. The error wraps fs.ErrNotExist when there is none, is a *DamageError
// when no file of it says that it is one, or what the Disk said.
func OpenReadOnly(disk mappedfile.Disk, dir string) (*Index, error) {
	if disk == nil {
		disk = mappedfile.OS()
	}
	if _, err := disk.List(dir); err != nil {
		return nil, err
	}
	files, err := mappedfile.OpenQueue(mappedfile.Options{
		Dir: dir, FileSize: FileSize, Disk: disk, Mapping: mappedfile.Mapping{ReadOnly: true, Lean: true}, Tolerant: true,
	})
	if err != nil {
		return nil, err
	}
	x := &Index{o: Options{Dir: dir, Disk: disk}, files: files, readOnly: true}
	if files.Len() == 0 {
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	err = mappedfile.Guard(func() error { return x.measure() })
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	return x, nil
}

// measure finds stretch, begin and end of an index that somebody else feeds.
func (x *Index) measure() error {
	all := x.files.Files()
	var err error
	// The last file may be one that is just being made.
	for _, f := range []*mappedfile.File{all[0], all[len(all)-1]} {
		if x.o.Stretch, err = headerOf(f); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	x.begin.Store(firstSlot(all[0]))
	x.end.Store(x.lastBelow(firstSlot(all[len(all)-1])+perFile) + 1)
	return nil
}

// headerOf returns the stretch that a file says. The error is a *DamageError.
func headerOf(f *mappedfile.File) (int64, error) {
	v, err := f.View(0, headerSize)
	if err != nil {
		return 0, &DamageError{Path: f.Path(), Cause: err}
	}
	defer v.Release()
	if !headerBegun(v.Bytes()) {
		return 0, &DamageError{Path: f.Path(), Cause: ErrUnbegun}
	}
	stretch, err := decodeHeader(v.Bytes())
	if err != nil {
		return 0, &DamageError{Path: f.Path(), Cause: err}
	}
	return stretch, nil
}

// firstSlot is the slot that a file begins with.
func firstSlot(f *mappedfile.File) int64 { return f.Base() / FileSize * perFile }

// position is where a slot stands in the run of files.
func position(slot int64) int64 { return slot/perFile*FileSize + headerSize + slot%perFile*entrySize }

// read returns what a slot says, and false when it can't be believed or had.
func (x *Index) read(slot int64) (entry, bool) {
	v, err := x.files.View(position(slot), entrySize)
	if err != nil {
		return entry{}, false
	}
	defer v.Release()
	return decodeEntry(v.Bytes(), slot, x.o.Stretch)
}

// lastBelow returns the last slot below end that can be believed, or begin-1.
func (x *Index) lastBelow(end int64) int64 {
	for slot := end - 1; slot >= x.begin.Load(); slot-- {
		if _, ok := x.read(slot); ok {
			return slot
		}
	}
	return x.begin.Load() - 1
}

func (x *Index) damaged(path string, at int64, cause error) {
	if x.o.Damaged == nil {
		return
	}
	var e *DamageError
	if !errors.As(cause, &e) {
		e = &DamageError{Path: path, At: at, Cause: cause}
	}
	x.o.Damaged(e)
}

// damagedSlot reports a slot, the first one only.
func (x *Index) damagedSlot(slot int64, cause error) {
	if x.reported.Swap(true) {
		return
	}
	path := x.o.Dir
	if f := x.files.Find(position(slot)); f != nil {
		path = f.Path()
	}
	x.damaged(path, position(slot)%FileSize, cause)
}

// Flush makes durable what was put before the call, the first time also what
// another process may have left in the page cache.
func (x *Index) Flush() error {
	begin, end := x.begin.Load(), x.end.Load()
	if end <= begin || end == x.flushed {
		return nil // nothing was put, or all has expired
	}
	f := x.files.Find(position(end - 1))
	if f == nil {
		return nil // it expired meanwhile
	}
	// The files before it were flushed when they were full.
	from, to := f.Base(), position(end-1)+entrySize
	if x.flushed > firstSlot(f) {
		from = position(x.flushed)
	}
	if x.flushed < 0 {
		if err := mappedfile.Guard(func() error { return f.Redirty(0, to-f.Base()) }); err != nil {
			return err
		}
	}
	if err := x.files.Flush(from, to); err != nil {
		return err
	}
	x.flushed = end
	return nil
}

// Expire gives up the files whose entries all name records below lo, but for the
// last file.
func (x *Index) Expire(lo message.Offset) error {
	last := x.files.Last()
	if last == nil {
		return nil
	}
	keep := int64(lo) / x.o.Stretch
	if keep > x.begin.Load() {
		x.begin.Store(min(keep, x.end.Load()))
	}
	_, err := x.files.RemoveBefore(min(keep/perFile*FileSize, last.Base()))
	return err
}

// Problems returns what is wrong with the files of an index that was opened
// read-only: missing ones, and ones of a wrong length. The others are searched.
func (x *Index) Problems() []*mappedfile.FileError { return x.files.Problems() }

// Close unmaps the files.
func (x *Index) Close() error {
	if x.files == nil {
		return nil // it was wiped, and could not be listed again
	}
	return x.files.Close()
}

// Stats says what an index holds.
type Stats struct {
	Entries int64
	// From is the offset from which on records are indexed, below which a search
	// goes by the files of the log; -1 without entries.
	From    message.Offset
	Stretch int64 // bytes
	Files   int
}

// Stats may be called beside everything else.
func (x *Index) Stats() Stats {
	begin, end := x.begin.Load(), x.end.Load()
	st := Stats{Entries: max(0, end-begin), From: -1, Stretch: x.o.Stretch, Files: x.files.Len()}
	if begin >= end {
		return st // the slot at begin may be being written
	}
	_ = mappedfile.Guard(func() error {
		if e, ok := x.read(begin); ok {
			st.From = e.offset
		}
		return nil
	})
	return st
}
