// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stelelog/stele/message"
)

// readOnlyTries is how often a read-only Open reads a directory whose files are
// being replaced by the store that owns it.
const readOnlyTries = 10

// Options of Open. The zero value is usable.
type Options struct {
	// FS is where the directory is; nil is the operating system.
	FS vfs.FS
	// ReadOnly reads what is there and changes nothing. No lock is taken and no
	// file stays open: the Store is a copy of the moment of Open. It works on a
	// read-only medium and beside the store that owns the directory.
	ReadOnly bool
	// Logger gets Pebble's log, at levels Debug and Warn; nil discards it.
	Logger *slog.Logger
	// Now is the clock for the data versions of exported files; nil is time.Now.
	Now func() time.Time
}

// Store is the topic table, the consumer offsets and the delay progress of one
// directory. All methods are safe for concurrent use.
type Store struct {
	dir      string
	readOnly bool
	now      func() time.Time

	// topics is replaced as a whole, under mu; the map and what it points to are
	// never changed.
	topics atomic.Pointer[map[string]*Topic]
	closed atomic.Bool           // set under mu
	failed atomic.Pointer[error] // the first failure, until resume takes it back

	mu      sync.Mutex // guards the tables below and changes of topics
	offsets map[string]map[queueKey]*progress
	delays  map[int32]message.QueueOffset
	timer   *TimerProgress // nil: never set
	dirty   dirty

	commitMu sync.Mutex // held over a commit to Pebble; taken before mu, guards what follows
	db       *pebble.DB // nil if read-only or closed, or while resume finds no room
	fuse     *fuse      // of db
	rewrite  bool       // the next commit writes all there is: see resume
	o        Options

	closeOnce sync.Once
	closeErr  error
}

// Open opens the directory, and creates it unless o.ReadOnly is set. The
// directory must be missing, empty or made by this package: otherwise the error
// wraps ErrNotOurs or ErrVersion and nothing was changed. A directory that
// another Store has open for writing is refused.
func Open(dir string, o Options) (*Store, error) {
	opening, err := Start(dir, o)
	if err != nil {
		return nil, err
	}
	return opening.Wait()
}

// Opening is a Store that is being opened. Whoever has one must call Wait, from one
// goroutine.
type Opening struct {
	done chan struct{}
	s    *Store
	err  error
}

// Start begins what Open does. When it returns, the directory is known to be this
// package's, or has become it, and the rest goes on in the background: reading the
// database, and the dozen syncs by which Pebble opens one.
func Start(dir string, o Options) (*Opening, error) {
	s := &Store{
		dir:      dir,
		readOnly: o.ReadOnly,
		now:      o.Now,
		offsets:  make(map[string]map[queueKey]*progress),
		delays:   make(map[int32]message.QueueOffset),
	}
	s.topics.Store(&map[string]*Topic{})
	if s.now == nil {
		s.now = time.Now
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s.o = o
	if err := claim(o.FS, dir, o.ReadOnly); err != nil {
		return nil, fmt.Errorf("topicmeta: open: %w", err)
	}
	opening := &Opening{done: make(chan struct{})}
	go func() {
		defer close(opening.done)
		if err := s.openTables(o); err != nil {
			opening.err = fmt.Errorf("topicmeta: open %s: %w", dir, err)
			return
		}
		opening.s = s
	}()
	return opening, nil
}

// Wait returns what Open would.
func (o *Opening) Wait() (*Store, error) {
	<-o.done
	return o.s, o.err
}

// openTables fills the tables from the database, whose owner may be replacing its
// files when this is to read alone.
func (s *Store) openTables(o Options) error {
	err := s.openDB(o)
	for try := 1; err != nil && o.ReadOnly && try < readOnlyTries; try++ {
		err = s.openDB(o)
	}
	if o.ReadOnly && errors.Is(err, pebble.ErrDBDoesNotExist) {
		// Ten times in a row it is no owner who is replacing its files: the
		// marker is there, and nothing was ever stored.
		err = nil
	}
	return err
}

// openDB opens Pebble and reads every entry. A read-only Store does not keep it.
func (s *Store) openDB(o Options) error {
	s.failed.Store(nil)
	db, f, err := s.openPebble()
	if err != nil {
		return errors.Join(err, s.failure())
	}
	// After a failure the database believes in files that never reached the disk.
	if err = s.failure(); err == nil {
		err = errors.Join(s.load(db), s.failure())
	}
	if err != nil || o.ReadOnly {
		return errors.Join(err, db.Close())
	}
	s.db, s.fuse = db, f
	return nil
}

// openPebble opens the database behind a new fuse.
func (s *Store) openPebble() (*pebble.DB, *fuse, error) {
	f := &fuse{FS: s.o.FS, dir: s.dir, readOnly: s.o.ReadOnly, onBlow: s.fail}
	// A failure that Pebble reports must also keep it off the disk.
	fail := func(err error) {
		s.fail(err)
		f.blown.Store(true)
	}
	db, err := pebble.Open(s.dir, pebbleOptions(f, s.o.Logger, fail))
	return db, f, err
}

// load fills the tables from the database.
func (s *Store) load(db *pebble.DB) (err error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	topics := make(map[string]*Topic)
	var last offsetKey
	clear(s.offsets)
	clear(s.delays)
	s.timer = nil
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := s.loadEntry(topics, &last, it.Key(), value); err != nil {
			return &entryError{append([]byte(nil), it.Key()...), err}
		}
	}
	s.topics.Store(&topics)
	return it.Error()
}

// loadEntry takes one entry. last is the offset key before this one.
func (s *Store) loadEntry(topics map[string]*Topic, last *offsetKey, key, value []byte) error {
	if len(key) == 0 {
		return errKey
	}
	switch key[0] {
	case kindTopic:
		name, err := decodeTopicKey(key[1:])
		if err != nil {
			return err
		}
		topics[name], err = decodeTopic(name, value)
		return err
	case kindOffset:
		k, err := decodeOffsetKey(key[1:], *last)
		if err != nil {
			return err
		}
		*last = k
		off, err := decodeOffset(value)
		s.setProgress(k, off)
		return err
	case kindDelay:
		level, err := decodeDelayKey(key[1:])
		if err != nil {
			return err
		}
		s.delays[level], err = decodeOffset(value)
		return err
	case kindTimer:
		t, err := decodeTimer(key[1:], value)
		s.timer = &t
		return err
	}
	return errKey
}

// fail remembers the first failure.
func (s *Store) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	s.failed.CompareAndSwap(nil, &err)
}

// failure returns the failure that ended writing, if any.
func (s *Store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// writable says why a change must be refused.
func (s *Store) writable() error {
	switch {
	case s.closed.Load():
		return ErrClosed
	case s.readOnly:
		return ErrReadOnly
	}
	return s.failure()
}

// Close makes every change durable, as Sync does, and releases the directory.
// The error says what could not be made durable. Calls after the first wait for
// it and return the same; all other methods then return ErrClosed.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed.Store(true)
		s.mu.Unlock()
		if s.readOnly {
			return
		}
		err := s.commit()
		s.commitMu.Lock()
		defer s.commitMu.Unlock()
		if s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		s.db = nil
		if err == nil {
			err = s.failure() // closing writes too
		}
		if err != nil {
			s.closeErr = fmt.Errorf("topicmeta: close %s: %w", s.dir, err)
		}
	})
	return s.closeErr
}
