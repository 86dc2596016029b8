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
	s   *Store
	pos marks.Position
	// last queue, since records come in runs.
	topic string
	id    int32
	queue *consumequeue.Queue
	// fed is how many of Store.derived have the record at hand already, entries
	// how many it has in queues.
	fed     int
	entries int64
}

// errGap says that a queue lacks the entries before a record: it does not fit
// the log.
var errGap = errors.New("queue has a gap")

// Why a record is put in no queue.
var (
	errTaken = errors.New("queue offset taken")
	errFar   = errors.New("queue offset impossible")
)

// record puts one record in its queue and in what else is derived from the log.
// strict makes a gap an error; otherwise it is filled with blank entries, which
// readers skip. After an error the position is still before the record.
func (d *dispatcher) record(off message.Offset, m *message.Message, strict bool) error {
	if err := d.place(off, m, strict); err != nil {
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

func (d *dispatcher) place(off message.Offset, m *message.Message, strict bool) error {
	if m.QueueStep() == 0 {
		return nil // a half or rolled back transaction has no place in a queue
	}
	if m.SysFlag&message.InnerBatch != 0 {
		d.skip(off, ErrInnerBatch)
		return nil
	}
	q, err := d.queueOf(m)
	if errors.Is(err, consumequeue.ErrBadName) {
		d.skip(off, err)
		return nil
	}
	if err != nil {
		return err // a disk that fails, and not the record
	}
	e := consumequeue.EntryOf(m, d.s.o.Delay.levels)
	before := q.Max()
	if strict && before == 0 && m.QueueOffset > 0 {
		// It may be that the queue begins here; then dispatching all of the
		// log shows it.
		return fmt.Errorf("topic %q, queue %d: %w: it is empty before offset %d", m.Topic, m.QueueID, errGap, m.QueueOffset)
	}
	// Also after an error: what was filled until then is not filled again.
	defer func() { d.entries += int64(q.Max() - before) }()
	res, err := q.Put(m.QueueOffset, e)
	switch {
	case errors.Is(err, consumequeue.ErrOffsetOutOfRange):
		d.skip(off, err) // an absurd queue offset in a record of somebody else's
		return nil
	case err != nil:
		return err
	case res == consumequeue.Duplicate:
		d.duplicate(q, m)
	case res == consumequeue.Gap && strict:
		return fmt.Errorf("topic %q, queue %d: %w: offset %d follows %d", m.Topic, m.QueueID, errGap, m.QueueOffset, before-1)
	case res == consumequeue.Gap:
		return d.fill(q, m, e)
	}
	return nil
}

// duplicate reports a record whose place in the queue another one has. The
// queue keeps the first: consumers have seen it.
func (d *dispatcher) duplicate(q *consumequeue.Queue, m *message.Message) {
	e, err := q.EntryAt(m.QueueOffset)
	if err == nil && e.Offset != m.PhysicalOffset {
		d.skip(m.PhysicalOffset, fmt.Errorf("topic %q, queue %d, offset %d: %w: the record at %d has it",
			m.Topic, m.QueueID, m.QueueOffset, errTaken, e.Offset))
	}
}

// fill puts a record behind a gap, which becomes blank entries: the messages
// that were there can't be read any more. Each of them took some of the log
// behind the queue's last record, so a gap that is too large for that is none:
// the record's own queue offset is damaged, and a queue would be filled with
// blanks up to the end of the disk.
func (d *dispatcher) fill(q *consumequeue.Queue, m *message.Message, e consumequeue.Entry) error {
	last, _, ok, err := q.Last()
	if err != nil {
		return err
	}
	room := m.PhysicalOffset
	if ok {
		room -= last.End()
	}
	if gap := int64(m.QueueOffset - q.Max()); gap > int64(room)/message.MinRecordSize {
		d.skip(m.PhysicalOffset, fmt.Errorf("topic %q, queue %d, offset %d: %w: it follows %d after %d bytes of log",
			m.Topic, m.QueueID, m.QueueOffset, errFar, q.Max()-1, room))
		return nil
	}
	if err := q.Fill(m.QueueOffset); err != nil {
		return err
	}
	_, err = q.Put(m.QueueOffset, e)
	return err
}

// queueOf returns the queue of a message. A topic that can't be the name of a
// directory has none.
func (d *dispatcher) queueOf(m *message.Message) (*consumequeue.Queue, error) {
	if d.queue != nil && m.QueueID == d.id && m.Topic == d.topic {
		return d.queue, nil
	}
	q, err := d.s.queues.GetOrCreate(m.Topic, m.QueueID)
	if err != nil {
		return nil, err
	}
	d.topic, d.id, d.queue = m.Topic, m.QueueID, q
	return q, nil
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
