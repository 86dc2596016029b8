// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
)

// AppendResult says where a message went.
type AppendResult struct {
	Topic       string
	QueueID     int32
	QueueOffset message.QueueOffset // its place in its queue
	Offset      message.Offset      // of its record in the log
	Size        int32               // of its record, in bytes
	StoreTime   int64               // milliseconds since the Unix epoch
	StoreHost   netip.AddrPort
	// DeliverAt is when a message that waits will be delivered, in milliseconds
	// since the Unix epoch; 0 for all others. Topic, QueueID and QueueOffset are
	// those of the queue that it waits in.
	DeliverAt int64
}

// fix makes DeliverAt a time. Until the append it is what divert returned.
func (r *AppendResult) fix() {
	if r.DeliverAt < 0 {
		r.DeliverAt = r.StoreTime - r.DeliverAt
	}
}

// ID is the message id: the host and the offset, as RocketMQ writes them.
func (r AppendResult) ID() string { return message.FormatID(r.StoreHost, r.Offset) }

// pending is what an append works with; it is pooled so that appending
// allocates nothing once the buffer has grown to the messages' size.
type pending struct {
	buf     []byte
	msg     message.Message
	due     int64 // of msg, as divert returns it
	items   []commitlog.Item
	results []commitlog.Result
	queues  []*queueState
	ends    []int
	last    lastQueue
	now     int64 // what the clock said while encoding, in milliseconds; 0 if nobody asked
	waited  waited
}

// keepBuf bounds the buffer that goes back to the pool, in bytes.
const keepBuf = 1 << 20

var pendingPool = sync.Pool{New: func() any { return new(pending) }}

func (p *pending) recycle() {
	if cap(p.buf) > keepBuf {
		p.buf = nil
	}
	p.msg = message.Message{}
	p.waited = waited{}
	if len(p.items) > 0 || len(p.queues) > 0 { // of a batch
		clear(p.items)
		clear(p.queues)
		p.items, p.results, p.queues, p.ends = p.items[:0], p.results[:0], p.queues[:0], p.ends[:0]
	}
	pendingPool.Put(p)
}

// Append writes m behind everything that was appended before and returns where
// it went. m is only read, and nothing of it is kept. A BornTimestamp of 0
// becomes the present (but for Options.Verbatim), hosts that are not set become Options.StoreHost.
//
// With FlushAsync the message is in the log's memory on return. With FlushSync
// it is on disk, unless its WAIT property says not to wait. If ctx ends or
// FlushTimeout passes meanwhile, the message is in the log and may or may not be
// durable: the error is the cause of ctx, or ErrFlushTimeout, and the result is
// valid. The same holds for ErrPoisoned when the flush that was waited for is the
// one that failed; then the result's Size is not 0. After any other error nothing
// was appended.
//
// The errors are listed at ErrEmptyTopic and below it.
func (s *Store) Append(ctx context.Context, m *message.Message) (AppendResult, error) {
	if err := s.admit(ctx); err != nil {
		return AppendResult{}, err
	}
	p := pendingPool.Get().(*pending)
	defer p.recycle()
	p.buf = p.buf[:0]
	q, err := s.encode(p, m)
	if err != nil {
		return AppendResult{}, err
	}
	r, err := s.log.Append(commitlog.Item{Record: p.buf, Sequence: q.seq, Step: p.msg.QueueStep(), StoreTime: p.now, Waits: &p.waited.log})
	if err != nil && r.Size == 0 {
		s.noteWaits(p, &AppendResult{Topic: m.Topic, QueueID: m.QueueID}, err)
		return AppendResult{}, s.fullNow(s.storeError(err))
	}
	s.counters.appendedMessages.Add(1)
	s.counters.appendedBytes.Add(int64(r.Size))
	res := AppendResult{
		Topic: p.msg.Topic, QueueID: p.msg.QueueID, QueueOffset: r.QueueOffset,
		Offset: r.Offset, Size: r.Size, StoreTime: r.StoreTime, StoreHost: p.msg.StoreHost, DeliverAt: p.due,
	}
	res.fix()
	if err == nil && s.o.Flush == FlushSync {
		err = s.settle(ctx, r.End(), m.WaitStored(), &p.waited)
	}
	s.noteWaits(p, &res, err)
	return res, s.storeError(err)
}

// AppendBatch writes messages one behind the other, with nothing between them
// and one store time, and waits for them together. They may name different
// topics and queues. All of them go to one file: a batch that does not fit in
// one is ErrBatchTooLarge. Either all are appended or, after an error, none,
// with the exceptions that Append names; but a crash may keep the first few and
// lose the others.
func (s *Store) AppendBatch(ctx context.Context, msgs []*message.Message) ([]AppendResult, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	p := pendingPool.Get().(*pending)
	defer p.recycle()
	out := make([]AppendResult, len(msgs))
	wait, err := s.encodeBatch(p, msgs, out)
	if err != nil {
		return nil, err
	}
	p.items[0].Waits = &p.waited.log
	err = s.log.AppendBatch(p.items, p.results)
	if err != nil && p.results[0].Size == 0 {
		s.noteWaits(p, &out[0], err)
		return nil, s.fullNow(s.storeError(err))
	}
	for i, r := range p.results {
		out[i].QueueOffset, out[i].Offset = r.QueueOffset, r.Offset
		out[i].Size, out[i].StoreTime = r.Size, r.StoreTime
		out[i].fix()
		s.counters.appendedBytes.Add(int64(r.Size))
	}
	s.counters.appendedMessages.Add(int64(len(msgs)))
	if err == nil && s.o.Flush == FlushSync {
		err = s.settle(ctx, p.results[len(p.results)-1].End(), wait, &p.waited)
	}
	s.noteWaits(p, &out[0], err)
	return out, s.storeError(err)
}

// encodeBatch encodes all messages into one buffer. wait is false when none of
// them wants to be waited for.
func (s *Store) encodeBatch(p *pending, msgs []*message.Message, out []AppendResult) (wait bool, err error) {
	p.buf = p.buf[:0]
	for i, m := range msgs {
		q, err := s.encode(p, m)
		if err != nil {
			return false, fmt.Errorf("message %d of the batch: %w", i, err)
		}
		wait = wait || m.WaitStored()
		p.queues, p.ends = append(p.queues, q), append(p.ends, len(p.buf))
		p.items = append(p.items, commitlog.Item{Sequence: q.seq, Step: p.msg.QueueStep()})
		out[i] = AppendResult{Topic: p.msg.Topic, QueueID: p.msg.QueueID, StoreHost: p.msg.StoreHost, DeliverAt: p.due}
	}
	start := 0
	for i, end := range p.ends {
		p.items[i].Record = p.buf[start:end]
		start = end
	}
	p.results = append(p.results, make([]commitlog.Result, len(msgs))...)
	return wait, nil
}

// encode appends the record of m to p.buf, leaves the message as it was encoded
// in p.msg, and returns its queue.
func (s *Store) encode(p *pending, m *message.Message) (*queueState, error) {
	p.msg = *m
	c := &p.msg
	if c.SysFlag&(message.InnerBatch|message.NeedUnwrap) != 0 {
		return nil, fmt.Errorf("topic %q: %w", m.Topic, ErrInnerBatch)
	}
	p.now = 0
	if c.BornTimestamp == 0 && !s.o.Verbatim {
		p.now = s.o.clock.UnixMilli()
		c.BornTimestamp = p.now
	}
	if !c.StoreHost.IsValid() {
		c.StoreHost = s.o.StoreHost
	}
	if !c.BornHost.IsValid() {
		c.BornHost = c.StoreHost
	}
	var err error
	if p.due, err = s.divert(c); err != nil {
		return nil, err
	}
	buf, err := s.encoder.Append(p.buf, c)
	if err != nil {
		return nil, fmt.Errorf("append to topic %q, queue %d: %w", m.Topic, m.QueueID, err)
	}
	p.buf = buf
	return s.queueFor(&p.last, c.Topic, c.QueueID)
}

// settle waits for the flush of a synchronous append, or only asks for it.
func (s *Store) settle(ctx context.Context, end message.Offset, wait bool, w *waited) error {
	if !wait {
		err := s.log.Commit(end)
		s.log.KickFlush()
		return err
	}
	start := time.Now()
	err := s.log.WaitFlushed(ctx, end, s.o.FlushTimeout)
	w.flush = time.Since(start)
	return err
}

// Flush returns once everything that was appended before the call is on disk.
// The errors are those of a synchronous append.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.storeError(s.log.Flush(ctx))
}

// admit says why a message can't be appended.
func (s *Store) admit(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.diskRefusal()
}

// ready says why an append, or a flush, can't begin.
func (s *Store) ready(ctx context.Context) error {
	if s.closing.Load() {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.noSpace(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
