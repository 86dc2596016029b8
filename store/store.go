// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/internal/watermark"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
	"github.com/stelelog/stele/topicmeta"
	"github.com/stelelog/stele/warmup"
)

// Store is an open store. It is safe for concurrent use. See the package
// comment for what it consists of.
type Store struct {
	dir     string
	o       Options
	encoder message.Encoder

	log      *commitlog.Log
	queues   *consumequeue.Set
	meta     *topicmeta.Store
	opening  *topicmeta.Opening // of meta, while Open does other things
	marks    *marks.File
	lock     io.Closer
	recovery Recovery
	// What Open was refused of Options.Warmup.
	warmRefused []warmup.Refusal
	session     marks.State // what is saved with each checkpoint: who has the store
	table       *queueTable
	derived     []derived // set by Open
	index       *keyFeed  // one of derived; nil without an index
	marked      bool      // the recovery begins where the marks say
	delayed     atomic.Pointer[delayed]
	counters    counters
	times       *timeindex.Index
	waits       waitCounts

	dispatched watermark.Mark
	stalled    atomic.Pointer[error] // the dispatcher waits for space
	unwritten  atomic.Pointer[error] // the metadata does
	failure    atomic.Pointer[error]
	closing    atomic.Bool

	posMu sync.Mutex // a leaf
	pos   marks.Position

	// The checkpointer's own, or Close's once it has ended.
	checkpoint     *checkpointFile
	flushAllQueues bool // the recovery kept entries that no flush covered
	lastFlushTime  atomic.Int64
	// Who needs a checkpoint now sends where it wants to be told.
	checkpoints      chan chan error
	checkpointerDone chan struct{} // closed when the checkpointer has ended

	retainer retainer

	stop       context.CancelFunc
	background sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

// Dir is the directory of the store.
func (s *Store) Dir() string { return s.dir }

// Log is the commit log, for reading. It belongs to the Store.
func (s *Store) Log() *commitlog.Log { return s.log }

// Dispatched is the offset in the log below which every message is in its
// queue.
func (s *Store) Dispatched() message.Offset { return message.Offset(s.dispatched.Load()) }

// WaitDispatched returns once everything below off is in its queue, or with the
// cause of ctx, or ErrClosed, or the failure that stopped the dispatcher.
func (s *Store) WaitDispatched(ctx context.Context, off message.Offset) error {
	return s.dispatched.Wait(ctx, int64(off), 0)
}

// Err returns the failure that poisoned the store, or nil.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// poison makes every later append return cause. The first one stays.
func (s *Store) poison(cause error) {
	err := cause
	if !errors.Is(err, ErrPoisoned) {
		err = fmt.Errorf("%w: %w", ErrPoisoned, cause)
	}
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	// The marks may be what was cut; then they don't count as those of a kill.
	_ = mappedfile.Guard(func() error {
		s.marks.SetFailed(true)
		return nil
	})
	s.dispatched.Fail(err)
	s.o.Logger.Error("store poisoned", "error", err)
	if f := s.o.Events.Poisoned; f != nil {
		f(err)
	}
}

// storeError is an error of the log in the store's words.
func (s *Store) storeError(err error) error {
	if err != nil && errors.Is(err, commitlog.ErrClosed) {
		return ErrClosed
	}
	return err
}

// Close makes everything durable, stops what runs in the background and waits
// for it, and releases the directory. Appends and fetches that begin later
// return ErrClosed, waiting ones too; batches that were fetched stay valid
// until they are released. It returns the first failure, the one that poisoned
// the store included: then the directory is left as after a crash, and the next
// Open recovers it. Closing again returns the same.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.closing.Store(true)
	s.stopDelay()
	s.log.StopAppends()
	// The order is that of a message's life: flushed, dispatched, queues
	// flushed, checkpoint. Each step needs the one before.
	ctx := context.Background()
	err := s.Err()
	if err == nil {
		err = s.log.Flush(ctx)
	}
	if err == nil && s.stalled.Load() == nil {
		err = s.WaitDispatched(ctx, s.log.Appended())
	}
	if p := s.stalled.Load(); p != nil && err == nil {
		err = *p
	}
	s.stop()
	s.dispatched.Fail(ErrClosed)
	s.background.Wait()
	if err == nil {
		if err = s.saveCheckpoint(true); err != nil {
			s.poison(err)
		}
	}
	if err == nil {
		err = s.closeDelay()
	}
	err = errors.Join(err, s.meta.Close(), s.closeDerived(), s.queues.Close(), s.log.Close())
	err = errors.Join(err, s.checkpoint.close(), s.marks.Close())
	if err == nil {
		// Last: until here, a crash is recovered from like any other.
		err = s.removeAbort()
	}
	return errors.Join(err, s.lock.Close())
}

func (s *Store) removeAbort() error {
	path := s.path(layout.Abort)
	if err := s.o.Disk.Remove(path); err != nil {
		return err
	}
	return s.o.Disk.SyncDir(s.dir)
}
