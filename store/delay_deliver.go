// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// readDelayed is delay.Options.Read.
func (s *Store) readDelayed(q delay.Queue, from message.QueueOffset, visit func(delay.Item) bool) (message.QueueOffset, error) {
	cq := s.queues.Get(q.Topic, q.ID)
	if cq == nil {
		return from, nil
	}
	from = max(from, cq.Min())
	for from < cq.Max() {
		b, err := s.batch(cq, from, message.TagFilter{}, Limit{}.withDefaults())
		if err != nil {
			return from, err
		}
		next, more := b.visitDelayed(visit)
		b.Release()
		if from = next; !more {
			break
		}
	}
	return from, nil
}

// visitDelayed visits what the batch holds, and what it should hold and the log
// has lost. It returns where to go on.
func (b *Batch) visitDelayed(visit func(delay.Item) bool) (next message.QueueOffset, more bool) {
	next = b.From
	i := 0
	for m, err := range b.All() {
		at := b.records[i].at
		i++
		if next, more = b.visitGone(next, at, visit); !more {
			return next, false
		}
		it := delay.Item{At: at, Message: m, Err: err}
		if m != nil {
			// Whoever visits reads them with locks held: they are not views.
			it.Err = mappedfile.Guard(func() error {
				m.Properties = m.Properties.Clone()
				return nil
			})
			if it.Err != nil {
				it.Message = nil
			}
			if e, err := b.queue.EntryAt(at); err == nil {
				it.Due = e.TagsCode
			}
		}
		if !visit(it) {
			return at, false
		}
		next = at + 1
	}
	return b.visitGone(next, b.Next, visit)
}

// visitGone visits the offsets of [next, to) that had a message: it expired.
func (b *Batch) visitGone(next, to message.QueueOffset, visit func(delay.Item) bool) (message.QueueOffset, bool) {
	for ; next < to; next++ {
		e, err := b.queue.EntryAt(next)
		if err != nil || e.IsBlank() {
			continue
		}
		if !visit(delay.Item{At: next, Err: delay.ErrGone}) {
			return next, false
		}
	}
	return next, true
}

// deliver is delay.Options.Deliver: it appends a message to its real topic, as
// ScheduleMessageService.java does, with everything that it has. What the topic's
// declaration forbids by now does not count: the message was accepted.
//
// It does not wait for the flush. In synchronous mode nobody sees the message
// before that, so it is asked for.
func (s *Store) deliver(m *message.Message) error {
	switch err := s.Err(); {
	case s.closing.Load():
		return delay.ErrStopped
	case err != nil:
		return fmt.Errorf("%w: %w", delay.ErrStopped, err)
	}
	if err := s.noSpace(); err != nil {
		return err
	}
	if err := s.diskRefusal(); err != nil {
		return err
	}
	topic, queue, err := delay.Target(m)
	if err != nil {
		return fmt.Errorf("%w: %w", delay.ErrUndeliverable, err)
	}
	p := pendingPool.Get().(*pending)
	defer p.recycle()
	p.msg = *m
	c := &p.msg
	c.Topic, c.QueueID = topic, queue
	// The body is a view. Properties without room for the mark go without it.
	err = mappedfile.Guard(func() (err error) {
		c.Properties.Set(message.PropertyDelayed, strconv.FormatInt(int64(m.PhysicalOffset), 10))
		p.buf, err = s.delayed.Load().encoder.Append(p.buf[:0], c)
		if errors.Is(err, message.ErrPropertiesTooLarge) {
			c.Properties = m.Properties
			p.buf, err = s.delayed.Load().encoder.Append(p.buf[:0], c)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", delay.ErrUndeliverable, err)
	}
	r, err := s.log.Append(commitlog.Item{Record: p.buf, Sequence: s.sequence(queueKey{topic, queue}), Step: c.QueueStep()})
	switch {
	case errors.Is(err, ErrRecordTooLarge):
		return fmt.Errorf("%w: %w", delay.ErrUndeliverable, err)
	case errors.Is(err, ErrPoisoned), errors.Is(err, commitlog.ErrClosed):
		return fmt.Errorf("%w: %w", delay.ErrStopped, err)
	case err != nil:
		return s.fullNow(err)
	}
	s.counters.appendedMessages.Add(1)
	s.counters.appendedBytes.Add(int64(r.Size))
	if s.o.Flush == FlushSync {
		s.log.KickFlush()
	}
	return nil
}

// undelivered is delay.Options.Skipped.
func (s *Store) undelivered(q delay.Queue, at message.QueueOffset, off message.Offset, reason error) {
	reason = fmt.Errorf("delayed message %d of %s/%d: %w", at, q.Topic, q.ID, reason)
	s.o.Logger.Warn("delayed message is not delivered", "offset", off, "reason", reason)
	if f := s.o.Events.Undelivered; f != nil {
		f(off, reason)
	}
}
