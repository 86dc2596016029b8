// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// DefaultFileSize is the length of a queue file in bytes, RocketMQ's
// mappedFileSizeConsumeQueue: 300,000 entries.
const DefaultFileSize = 6_000_000

// Options says what a Set is made of.
type Options struct {
	// Dir is the directory of all queues, RocketMQ's consumequeue. It may be
	// missing.
	Dir string
	// Disk is the file system. nil is mappedfile.OS.
	Disk mappedfile.Disk
	// ReadOnly changes nothing on disk, and maps files without write
	// permission.
	ReadOnly bool
	// Tolerant leaves out queues whose files are not what they should be,
	// instead of refusing all; Set.Problems names them. It needs ReadOnly.
	Tolerant bool
	// FileSize is the length of every queue file in bytes, rounded up to a
	// multiple of EntrySize as RocketMQ does. 0 takes the length of the files
	// that are there, and DefaultFileSize where there are none.
	FileSize int64
	// StoreTime returns when the record of size bytes at off was stored, in
	// milliseconds since the Unix epoch. A search by time calls it, on the
	// goroutine of the search. For a record that has expired it returns an
	// error that wraps mappedfile.ErrExpired.
	StoreTime func(off message.Offset, size int32) (ms int64, err error)
}

// Set is all queues of a store. Its methods are safe for concurrent use where
// they don't say otherwise.
type Set struct {
	o        Options
	fileSize int64
	problems []error // what Options.Tolerant let pass
	// unfinished is set by OpenSet.
	unfinished []string

	mu     sync.RWMutex
	queues map[key]*Queue
	closed atomic.Bool // set under mu

	flushMu  sync.Mutex // one Flush or removal at a time; before mu and dirtyMu
	failed   error      // of the first flush that failed; guarded by flushMu
	dirtyMu  sync.Mutex // a leaf
	unsynced []*Queue   // guarded by dirtyMu
}

type key struct {
	topic string
	id    int32
}

// OpenSet lists the queues of a directory: <Dir>/<topic>/<id>/<20 digits>.
// Subdirectories of a topic that are not named by a queue id are left alone, as
// RocketMQ does. Nothing is mapped, and no end is known: a queue that has files
// must be recovered before it is used.
//
// All files are equally long. The error for a file that is not, or that doesn't
// belong, is a *mappedfile.FileError.
func OpenSet(o Options) (*Set, error) {
	if o.Disk == nil {
		o.Disk = mappedfile.OS()
	}
	if o.FileSize < 0 {
		return nil, fmt.Errorf("consume queues: file size %d is negative", o.FileSize)
	}
	o.FileSize = roundUp(o.FileSize)
	s := &Set{o: o, fileSize: o.FileSize, queues: map[key]*Queue{}}
	keys, err := s.list()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		files, err := s.openFiles(k)
		if s.passes(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.note(files)
		s.queues[k] = s.newQueue(k, files)
	}
	if err := s.settleSize(keys); err != nil {
		return nil, err
	}
	return s, nil
}

// passes files an error that a tolerant set only reports.
func (s *Set) passes(err error) bool {
	var file *mappedfile.FileError
	if !s.o.Tolerant || !errors.As(err, &file) {
		return false
	}
	s.problems = append(s.problems, err)
	return true
}

// Problems returns why queues were left out, in a set that was opened Tolerant.
func (s *Set) Problems() []error { return s.problems }

func roundUp(size int64) int64 { return (size + EntrySize - 1) / EntrySize * EntrySize }

// list returns the queues that have a directory, in the order of Queues.
func (s *Set) list() ([]key, error) {
	topics, err := s.o.Disk.List(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []key
	for _, t := range topics {
		if !t.Dir {
			continue
		}
		subdirs, err := s.o.Disk.List(filepath.Join(s.o.Dir, t.Name))
		if err != nil {
			return nil, err
		}
		for _, d := range subdirs {
			if id, ok := parseID(d.Name); ok && d.Dir {
				keys = append(keys, key{t.Name, id})
			}
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys, nil
}

// parseID reads a queue id as a directory name spells it.
func parseID(name string) (int32, bool) {
	id, err := strconv.ParseInt(name, 10, 32)
	return int32(id), err == nil && id >= 0 && strconv.FormatInt(id, 10) == name
}

func compareKeys(a, b key) int {
	if c := strings.Compare(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.id) - int(b.id)
}

func (s *Set) dir(k key) string {
	return filepath.Join(s.o.Dir, k.topic, strconv.FormatInt(int64(k.id), 10))
}

func (s *Set) openFiles(k key) (*mappedfile.Queue, error) {
	return mappedfile.OpenQueue(mappedfile.Options{
		Dir: s.dir(k), FileSize: s.fileSize, DefaultSize: DefaultFileSize, Disk: s.o.Disk,
		Mapping: mappedfile.Mapping{ReadOnly: s.o.ReadOnly, Lean: true, Random: true}, LazySync: true,
		Unlikely: func(size int64) bool { return size%EntrySize != 0 },
	})
}

// Unfinished lists the files that OpenSet left out and, unless the set is
// read-only, removed, because their making was interrupted: see
// mappedfile.OpenQueue.
func (s *Set) Unfinished() []string { return s.unfinished }

func (s *Set) newQueue(k key, files *mappedfile.Queue) *Queue {
	found := files.Len() > 0
	return &Queue{topic: k.topic, id: k.id, set: s, files: files, empty: true, lost: found, unnamed: found}
}

// settleSize finds the length of all files, where it was not given, and checks
// every queue against it.
func (s *Set) settleSize(keys []key) error {
	if s.fileSize == 0 {
		s.fileSize = s.commonSize(keys)
	}
	for _, k := range keys {
		q := s.queues[k]
		if q == nil {
			continue
		}
		err := s.checkSize(k, q)
		if s.passes(err) {
			delete(s.queues, k)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) checkSize(k key, q *Queue) error {
	first := q.files.First()
	if first == nil && q.files.FileSize() != s.fileSize || first != nil && first.Size() < s.fileSize {
		// Opened again with the length that files have: a single one that is
		// too short may be the rest of an interrupted creation.
		files, err := s.openFiles(k)
		if err != nil {
			return err
		}
		s.note(files)
		q.files, q.lost, q.unnamed = files, files.Len() > 0, files.Len() > 0
		first = files.First()
	}
	switch {
	case first == nil:
	case first.Size() != s.fileSize:
		return &mappedfile.FileError{Path: first.Path(), Cause: mappedfile.ErrFileSize, Want: s.fileSize, Got: first.Size()}
	case first.Size()%EntrySize != 0:
		return &mappedfile.FileError{Path: first.Path(), Cause: mappedfile.ErrFileSize, Want: roundUp(first.Size()), Got: first.Size()}
	case first.Base()%EntrySize != 0:
		return &mappedfile.FileError{Path: first.Path(), Cause: mappedfile.ErrStrayFile}
	}
	return nil
}

// note remembers a file that was left out, once.
func (s *Set) note(files *mappedfile.Queue) {
	if path := files.Unfinished(); path != "" && !slices.Contains(s.unfinished, path) {
		s.unfinished = append(s.unfinished, path)
	}
}

// commonSize is the length of the files of most queues.
func (s *Set) commonSize(keys []key) int64 {
	best, count := int64(DefaultFileSize), map[int64]int{}
	for _, k := range keys {
		if s.queues[k] == nil {
			continue
		}
		if f := s.queues[k].files.First(); f != nil && f.Size() > 0 {
			count[f.Size()]++
			if count[f.Size()] > count[best] {
				best = f.Size()
			}
		}
	}
	return best
}

// FileSize is the length of every queue file in bytes.
func (s *Set) FileSize() int64 { return s.fileSize }

// Get returns a queue, or nil when there is none.
func (s *Set) Get(topic string, id int32) *Queue {
	s.mu.RLock()
	q := s.queues[key{topic, id}]
	s.mu.RUnlock()
	return q
}

// GetOrCreate returns a queue, which it makes in memory when there is none. Its
// directory and its first file appear with the first Put. The topic must be
// able to be a directory's name, and the id not negative: ErrBadName otherwise.
func (s *Set) GetOrCreate(topic string, id int32) (*Queue, error) {
	if q := s.Get(topic, id); q != nil {
		return q, nil
	}
	if id < 0 || topic == "" || topic == "." || topic == ".." || strings.ContainsAny(topic, "/\x00") {
		return nil, fmt.Errorf("%w: topic %q, queue %d", ErrBadName, topic, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{topic, id}
	if q := s.queues[k]; q != nil {
		return q, nil
	}
	if s.closed.Load() {
		return nil, fmt.Errorf("%s: %w", s.o.Dir, mappedfile.ErrClosed)
	}
	files, err := s.openFiles(k)
	if err != nil {
		return nil, err
	}
	q := s.newQueue(k, files)
	s.queues[k] = q
	return q, nil
}

// Queues returns all queues, sorted by topic and id.
func (s *Set) Queues() []*Queue {
	s.mu.RLock()
	all := make([]*Queue, 0, len(s.queues))
	for _, q := range s.queues {
		all = append(all, q)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Queue) int { return compareKeys(key{a.topic, a.id}, key{b.topic, b.id}) })
	return all
}

// Topics returns the topics that have a queue, sorted.
func (s *Set) Topics() []string {
	s.mu.RLock()
	seen := map[string]bool{}
	for k := range s.queues {
		seen[k.topic] = true
	}
	s.mu.RUnlock()
	topics := make([]string, 0, len(seen))
	for t := range seen {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	return topics
}
