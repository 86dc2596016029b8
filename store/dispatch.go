// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// dispatcher reads the log and feeds the consume queues. It is the only one who
// writes to them: Open runs it over the part of the log that has to be read
// again, then its goroutine follows the log. Its fields belong to whoever runs
// it; what others may read goes through the Store.
type dispatcher struct {
	s      *Store
	pos    marks.Position
	queues consumequeue.Feeder
	// fed is how many of Store.derived have the record at hand already, entries
	// how many it has in queues.
	fed     int
	entries int64
}

// newDispatcher returns one that begins at a position.
func (s *Store) newDispatcher(pos marks.Position) *dispatcher {
	d := &dispatcher{s: s, pos: pos}
	d.queues = consumequeue.Feeder{Set: s.queues, Levels: s.o.Delay.levels, Skip: d.skip}
	return d
}

// record puts one record in its queue and in what else is derived from the log.
// strict makes a gap an error; otherwise it is filled with blank entries, which
// readers skip. After an error the position is still before the record.
func (d *dispatcher) record(off message.Offset, m *message.Message, strict bool) error {
	added, err := d.queues.Put(m, strict)
	d.entries += added
	if err != nil {
		return err
	}
	if err := d.feed(m); err != nil {
		return err
	}
	d.pos.Entries += d.entries
	d.entries = 0
	d.s.notifyDelay(m)
	d.pos.Last, d.pos.LastTime = off, m.StoreTimestamp
	d.pos.Offset = off + message.Offset(m.Size)
	return nil
}

func (d *dispatcher) skip(off message.Offset, why error) {
	d.s.counters.skippedRecords.Add(1)
	d.s.o.Logger.Warn("record put in no queue", "offset", off, "reason", why)
	if f := d.s.o.Events.Skipped; f != nil {
		f(off, why)
	}
}

// publishEvery is how many records the dispatcher handles between two updates
// of its watermark, when it has a backlog. Each queue's own maximum, which
// consumers wait on, moves with every record.
const publishEvery = 64

// run follows the log until ctx ends, or the log is closed and everything in it
// is dispatched.
func (d *dispatcher) run(ctx context.Context) error {
	s := d.s
	sc := s.log.Scan(d.pos.Offset, d.pos.Offset, commitlog.ScanOptions{Resync: commitlog.ResyncAlways})
	defer sc.Close()
	for {
		limit := s.dispatchLimit()
		if limit <= sc.Offset() {
			if err := s.waitDispatchable(ctx, sc.Offset()); err != nil {
				return err
			}
			continue
		}
		sc.Extend(limit)
		// Queues, marks and records are mapped.
		if err := mappedfile.Guard(func() error { return d.drain(ctx, sc) }); err != nil {
			return err
		}
	}
}

// drain handles what the scanner can reach.
func (d *dispatcher) drain(ctx context.Context, sc *commitlog.Scanner) error {
	n := int64(0)
	defer func() { d.publish(n) }()
	for sc.Next() {
		it := sc.Item()
		switch it.Kind {
		case commitlog.ItemRecord:
			if err := d.retry(ctx, it); err != nil {
				return err
			}
			if n++; n == publishEvery {
				d.publish(n)
				n = 0
			}
		case commitlog.ItemDamage:
			d.s.damaged(it.Err)
			d.pos.Offset = sc.Offset()
		case commitlog.ItemFiller:
			d.pos.Offset = sc.Offset()
		}
	}
	if st := sc.Stop(); st.Kind != commitlog.StopEnd {
		// Everything below the limit was appended through this process: the
		// file was changed under it.
		if st.Err == nil {
			st.Err = commitlog.ErrEmpty
		}
		return fmt.Errorf("dispatch at offset %d: %w", st.Offset, st.Err)
	}
	return nil
}

// stallInterval is how long the dispatcher waits for space before it tries
// again. Appends are refused meanwhile.
const stallInterval = 500 * time.Millisecond

// retry dispatches one record, and waits while the disk is full.
func (d *dispatcher) retry(ctx context.Context, it *commitlog.ScanItem) error {
	s := d.s
	err := d.record(it.Offset, it.Message, false)
	if err == nil {
		return nil
	}
	defer s.stall(nil)
	for errors.Is(err, ErrDiskFull) && !s.closing.Load() {
		s.stall(err)
		timer := time.NewTimer(stallInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		err = d.record(it.Offset, it.Message, false)
	}
	return err
}

// publish moves the dispatched watermark, for those who wait on it, for the
// checkpointer, and for whoever opens the store after this process was killed.
func (d *dispatcher) publish(n int64) {
	s := d.s
	s.counters.dispatchedRecords.Add(n)
	s.posMu.Lock()
	s.pos = d.pos
	s.posMu.Unlock()
	s.marks.SetLive(d.pos)
	s.dispatched.Advance(int64(d.pos.Offset))
}

// dispatchLimit is how far the dispatcher may read. In synchronous mode nobody
// sees a message that is not on disk, as RocketMQ does it.
func (s *Store) dispatchLimit() message.Offset {
	if s.o.Flush == FlushSync {
		return s.log.Flushed()
	}
	return s.log.Committed()
}

func (s *Store) waitDispatchable(ctx context.Context, past message.Offset) error {
	if s.o.Flush == FlushSync {
		return s.log.WaitFlushedBeyond(ctx, past)
	}
	return s.log.WaitCommitted(ctx, past)
}

// dispatchLoop is the dispatcher's goroutine.
func (s *Store) dispatchLoop(ctx context.Context, d *dispatcher) {
	err := d.run(ctx)
	if ctx.Err() != nil || errors.Is(err, commitlog.ErrClosed) || errors.Is(err, ErrPoisoned) {
		return // a poisoned log has said so itself
	}
	s.poison(fmt.Errorf("dispatcher: %w", err))
}

// stall makes appends return err until it is called with nil.
func (s *Store) stall(err error) {
	if err == nil {
		if s.stalled.Swap(nil) != nil {
			s.o.Logger.Info("dispatcher goes on")
			s.stallEvent(nil)
		}
		return
	}
	err = fmt.Errorf("dispatcher stalled: %w", err)
	if s.stalled.Swap(&err) == nil {
		s.o.Logger.Warn("dispatcher waits for space", "error", err)
		s.stallEvent(err)
		s.kickRetention()
	}
}

// noSpace is why appends are refused until there is space, or nil.
func (s *Store) noSpace() error {
	for _, p := range []*error{s.stalled.Load(), s.unwritten.Load()} {
		if p != nil {
			return *p
		}
	}
	return nil
}

func (s *Store) stallEvent(err error) {
	if f := s.o.Events.Stalled; f != nil {
		f(err)
	}
}

func (s *Store) damaged(e *commitlog.CorruptError) {
	s.o.Logger.Warn("damage in the log", "error", e)
	if f := s.o.Events.Damaged; f != nil {
		f(e)
	}
}
