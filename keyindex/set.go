// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Options says where a Set lies and how its files are made.
type Options struct {
	// Dir holds the files. It may be missing; then the index is empty, and the
	// first Put makes it.
	Dir string
	// Sizes are the numbers of slots and entries of each file. Where both are 0
	// they are taken from the files that are there: Hint if it fits them, the
	// default sizes if those do, else what the content says beyond doubt. Of one
	// that is given the other follows. Without a file they are Hint, or the
	// default sizes.
	Sizes Sizes
	Hint  Sizes
	// Disk is the file system; nil is mappedfile.OS.
	Disk mappedfile.Disk
	// ReadOnly changes nothing on disk, and passes over files of a wrong length:
	// see Problems.
	ReadOnly bool
	// Damaged takes the sizes, where nothing else tells them, from a file most of
	// whose entries are sound, which is enough to look for damage and not enough
	// to write. It is for a Set that is ReadOnly.
	Damaged bool
	// Clock names new files; nil is time.Now.
	Clock func() time.Time
	// Record returns the record at an offset, nil if it has expired, and an error
	// that wraps ErrNoRecord if no intact one begins there. Recover needs it; any
	// other error ends that.
	Record func(message.Offset) (*message.Message, error)
}

// Durable is what a Flush covered.
type Durable struct {
	// Newest is the name of the newest file, "" without one.
	Newest string
	// Time is the latest store time of a newest entry, in milliseconds. RocketMQ
	// takes a file for sound, after a crash, if it ends no later than its
	// checkpoint says (indexMsgTimestamp).
	Time int64
}

// Set is all index files of a store: RocketMQ's IndexService.
type Set struct {
	o     Options
	sizes Sizes

	files    atomic.Pointer[[]*File] // immutable once stored, oldest first
	problems []error
	// unfinished is a file that OpenSet left out.
	unfinished string

	mu      sync.Mutex  // held while the list changes
	unnamed atomic.Bool // a file was made since the directory was synced
	closed  atomic.Bool

	flushMu  sync.Mutex
	failed   error // of a flush; for ever
	flushAll bool  // the next flush covers what a former owner wrote
	durable  Durable

	// The writer's own.
	recovered  bool
	tail       *File // the newest file, nil when there is none
	image      Image // its bytes
	lastOffset message.Offset
	lastCount  int    // entries of the record at lastOffset
	topic      string // of the last record
	topicHash  int32  // of topic#
}

// OpenSet lists a directory and checks names and lengths. The error is a
// mappedfile.FileError with ErrFileSize for a file whose length is not that of
// the others, or wraps ErrSizes when the sizes can't be told. Files whose names
// are not those of index files are passed over.
func OpenSet(o Options) (*Set, error) {
	if o.Disk == nil {
		o.Disk = mappedfile.OS()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Set{o: o, lastOffset: -1}
	found, err := s.list()
	if err != nil {
		return nil, err
	}
	if s.sizes, err = settle(&s.o, found); err != nil {
		return nil, err
	}
	files := make([]*File, 0, len(found))
	for i, e := range found {
		path := filepath.Join(o.Dir, e.Name)
		if want := s.sizes.FileSize(); e.Size != want {
			err := &mappedfile.FileError{Path: path, Cause: mappedfile.ErrFileSize, Want: want, Got: e.Size}
			if !o.ReadOnly {
				return nil, err
			}
			s.problems = append(s.problems, err)
			continue
		}
		files = append(files, newFile(&s.o, e.Name, path, s.sizes, o.ReadOnly || i < len(found)-1))
	}
	s.files.Store(&files)
	return s, nil
}

// Sizes are the numbers of slots and entries of the files.
func (s *Set) Sizes() Sizes { return s.sizes }

// Files returns the files as they are now, oldest first. The slice must not be
// changed. A file may be removed at any time; its Read says so.
func (s *Set) Files() []*File { return *s.files.Load() }

// Problems returns what was passed over in a read-only Set: a FileError for each
// file of a wrong length.
func (s *Set) Problems() []error { return s.problems }

// newest returns the last file, or nil.
func (s *Set) newest() *File {
	if files := s.Files(); len(files) > 0 {
		return files[len(files)-1]
	}
	return nil
}

// Newest is the name of the newest file, "" when there is none.
func (s *Set) Newest() string {
	if f := s.newest(); f != nil {
		return f.name
	}
	return ""
}

// nextName is the name for a new file: the local time, or one millisecond behind
// the newest file's where the clock is not past that. RocketMQ tells by the names
// which file is newer.
func (s *Set) nextName() string {
	name := FileName(s.o.Clock().Local())
	last := s.newest()
	if last == nil || name > last.name {
		return name
	}
	t, _ := parseName(last.name) // it was listed, so it is one
	return FileName(t.Add(time.Millisecond))
}

// roll makes a new file and appends it. Until its first entry its header has the
// end of the file before it, as RocketMQ's does.
func (s *Set) roll() error {
	if err := s.o.Disk.MkdirAll(s.o.Dir); err != nil {
		return err
	}
	var end Header
	if s.tail != nil {
		end = s.image.Header()
	}
	name := s.nextName()
	f := newFile(&s.o, name, filepath.Join(s.o.Dir, name), s.sizes, false)
	r, err := s.o.Disk.Create(f.path, s.sizes.FileSize(), f.how)
	if err != nil {
		return err
	}
	f.adopt(r)
	if err := f.reserveFront(0); err != nil {
		f.release()
		return errors.Join(err, s.o.Disk.Remove(f.path))
	}
	m, err := f.image()
	if err != nil {
		f.release()
		return err
	}
	if end.EndOffset > 0 {
		m.store64(beginOffsetAt, int64(end.EndOffset))
		m.store64(endOffsetAt, int64(end.EndOffset))
	}
	if end.EndTime > 0 {
		m.store64(beginTimeAt, end.EndTime)
		m.store64(endTimeAt, end.EndTime)
	}
	m.store64(countsAt, 1)
	f.touch(HeaderSize)
	s.unnamed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		f.release()
		return s.errClosed()
	}
	files := append(slices.Clone(s.Files()), f)
	s.files.Store(&files)
	s.tail, s.image = f, m
	return nil
}

func (s *Set) errClosed() error { return fmt.Errorf("%s: %w", s.o.Dir, mappedfile.ErrClosed) }
