// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/message"
)

// Defaults of DelayOptions.
const (
	// DefaultMaxDelay is RocketMQ's timerMaxDelaySec.
	DefaultMaxDelay = 3 * 24 * time.Hour
	// DefaultMaxTimers is how many messages with a time of their own may wait:
	// they take some 16 MB of memory.
	DefaultMaxTimers = 1_000_000
)

// DelayOptions says how messages are delivered later.
type DelayOptions struct {
	// Off delivers nothing, and refuses messages that are to be delivered later.
	// What waits stays where it is.
	Off bool
	// Levels are the delay levels, as RocketMQ's messageDelayLevel: whole numbers
	// of s, m, h or d, separated by spaces. "" means
	// message.DefaultDelayLevels. Messages that wait keep the times of the
	// levels that they were appended with, unless the queues are rebuilt.
	Levels string
	// MaxDelay is how far ahead a time of delivery may lie; 0 means
	// DefaultMaxDelay. Messages that a broker accepted wait as long as they want.
	MaxDelay time.Duration
	// MaxTimers is how many messages with a time of their own may wait before
	// more are refused, roughly; 0 means DefaultMaxTimers. Each takes 16 bytes of
	// memory, and a bit from the oldest one on.
	MaxTimers int64

	levels message.DelayLevels // Levels, read
}

func (o *DelayOptions) withDefaults(bad func(format string, args ...any)) {
	if o.Levels == "" {
		o.Levels = message.DefaultDelayLevels
	}
	var err error
	if o.levels, err = message.ParseDelayLevels(o.Levels); err != nil {
		bad("Delay.Levels: %w", err)
	}
	if o.MaxDelay < 0 {
		bad("Delay.MaxDelay %v", o.MaxDelay)
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = DefaultMaxDelay
	}
	if o.MaxTimers < 0 {
		bad("Delay.MaxTimers %d", o.MaxTimers)
	}
	if o.MaxTimers == 0 {
		o.MaxTimers = DefaultMaxTimers
	}
}

// delayed is the store's side of delayed delivery.
type delayed struct {
	*delay.Service
	encoder message.Encoder // as the store's, for bodies of any length
	stop    context.CancelFunc
	done    sync.WaitGroup
	failed  atomic.Pointer[error] // loading did, and is tried again

	keeping   sync.Mutex      // guards candidate, and the order in which progresses are kept
	candidate *delay.Progress // to be saved once the log is flushed up to its end
	saved     atomic.Int64    // Progress.Delivered of what was saved last
}

// startDelay begins to deliver. The store is recovered, and open but for this.
func (s *Store) startDelay() error {
	if s.o.Delay.Off {
		return nil
	}
	was, err := s.delayProgress()
	if err != nil {
		return err
	}
	d := &delayed{encoder: message.Encoder{PropertyCRC: s.encoder.PropertyCRC, MaxBodyLen: math.MaxInt32}}
	d.Service = delay.New(delay.Options{
		Read: s.readDelayed, Deliver: s.deliver, End: s.log.Appended,
		Levels: s.o.Delay.levels, Clock: s.o.Clock, Skipped: s.undelivered,
	}, was, s.brokerTimers())
	for _, q := range s.queues.Queues() {
		if q.Topic() == message.DelayTopic {
			d.AddLevel(q.ID())
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	s.delayed.Store(d)
	s.retainer.undelivered = s.firstUndelivered
	end := s.log.Appended() // of what was there before anybody appends
	d.done.Go(func() { s.delayLoop(ctx, d, was.End, end) })
	return nil
}

// delayLoop is the goroutine that delivers.
func (s *Store) delayLoop(ctx context.Context, d *delayed, from, to message.Offset) {
	for {
		err := d.Load(ctx)
		if err == nil {
			err = s.findDelivered(ctx, d, from, to)
		}
		if ctx.Err() != nil {
			return // what the log has was not looked for: the progress stays as it was
		}
		if err == nil {
			break
		}
		d.failed.Store(&err)
		s.o.Logger.Warn("delayed messages can't be read yet", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(stallInterval):
		}
	}
	d.failed.Store(nil)
	d.Run(ctx)
}

// stopDelay ends the delivery and waits for that. Nothing that it waits for
// needs somebody who waits for this.
func (s *Store) stopDelay() {
	if d := s.delayed.Load(); d != nil {
		d.stop()
		d.done.Wait()
	}
}

// closeDelay keeps the last progress. Everything is flushed, and nobody else is
// left who keeps one.
func (s *Store) closeDelay() error {
	d := s.delayed.Load()
	if d == nil {
		return nil
	}
	d.candidate = nil
	return s.keepDelayProgress()
}

// notifyDelay tells the delivery of a record that was put in its queue.
func (s *Store) notifyDelay(m *message.Message) {
	if d := s.delayed.Load(); d != nil && message.IsDelayTopic(m.Topic) {
		d.Notify(delay.Queue{Topic: m.Topic, ID: m.QueueID}, consumequeue.EntryOf(m, s.o.Delay.levels).TagsCode)
	}
}

// DelayStats is what Stats says about delayed messages.
type DelayStats struct {
	delay.Stats
	// Pending is how many messages wait in the queue of each level, by level.
	Pending map[int]int64
	// Unsaved is how many deliveries the durable progress does not have yet. After
	// a crash they are looked for in the log.
	Unsaved int64
}

func (s *Store) delayStats() DelayStats {
	d := s.delayed.Load()
	if d == nil {
		return DelayStats{}
	}
	st := DelayStats{Stats: d.Stats(), Pending: map[int]int64{}}
	for id, next := range st.Levels {
		if q := s.queues.Get(message.DelayTopic, id); q != nil && q.Max() > next {
			st.Pending[int(id)+1] = int64(q.Max() - max(next, q.Min()))
		}
	}
	st.Unsaved = max(0, st.Delivered-d.saved.Load())
	if p := d.failed.Load(); p != nil {
		st.Stalled = *p
	}
	return st
}
