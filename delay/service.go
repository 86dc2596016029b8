// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stelelog/stele/message"
)

// Queue names a queue of messages that wait.
type Queue struct {
	Topic string
	ID    int32
}

// TimerQueue is the one with messages that have a time of their own.
var TimerQueue = Queue{Topic: message.TimerTopic}

// Item is one message of such a queue.
type Item struct {
	At message.QueueOffset
	// Due is what the entry of a level's queue says: when to deliver, in
	// milliseconds since the Unix epoch. In the timer queue the message says it.
	Due int64
	// Message is borrowed until the callback returns; nil when it can't be read,
	// and then Err says why.
	Message *message.Message
	Err     error
}

// Errors that Deliver returns. After any other one the message is tried again.
var (
	// ErrUndeliverable says that this message never can be delivered.
	ErrUndeliverable = errors.New("undeliverable")
	// ErrStopped says that nothing is delivered any more.
	ErrStopped = errors.New("delivery stopped")
)

// Options of a Service: three functions that it stands on, and some words.
type Options struct {
	// Read visits the messages of a queue in order, from an offset on or where
	// the queue begins, until visit returns false or the queue ends, and returns
	// where to go on. A queue that does not exist is empty.
	Read func(q Queue, from message.QueueOffset, visit func(Item) bool) (next message.QueueOffset, err error)
	// Deliver appends a waiting message to its real topic.
	Deliver func(m *message.Message) error
	// End is where the log ends.
	End func() message.Offset

	// Levels are the delays of the levels.
	Levels message.DelayLevels
	// Clock tells when it is; nil is time.Now.
	Clock func() time.Time
	// Skipped is told of a message that is not delivered, and why; off is 0 when
	// its record can't be read. It runs on the goroutine of Run. May be nil.
	Skipped func(q Queue, at message.QueueOffset, off message.Offset, reason error)
}

const (
	// retryInterval is how long it takes until a delivery that failed, for want
	// of space most likely, is tried again.
	retryInterval = 500 * time.Millisecond
	// longestSleep bounds a sleep: the clock that tells when a message is due may
	// be set, and the one that a timer goes by does not notice.
	longestSleep = time.Minute
	// turn is how many messages of one queue are delivered before the next queue
	// has its turn.
	turn = 64
	// addTurn is how many timers are added before those due are delivered.
	addTurn = 4096
)

// Service delivers. Load, Settle and Run belong to one goroutine, in that order;
// the other methods are safe for concurrent use.
type Service struct {
	o    Options
	wake chan struct{}
	// armed is until when Run sleeps, in milliseconds; math.MaxInt64 while it
	// works.
	armed atomic.Int64

	mu       sync.Mutex
	levels   map[int32]*level
	timers   *Timers
	loaded   bool
	held     map[message.QueueOffset]int // timers that so many are cancelling
	flying   message.QueueOffset         // the timer that is being delivered; -1: none
	progress Progress
	counts   counts
}

// level is the queue of one delay level.
type level struct {
	id   int32
	next message.QueueOffset // the first one that is not settled
	due  int64               // of that one; math.MaxInt64: not known, or none
	// found are the ones from next on that Settle was told of. They need not be
	// next to each other: where the log has lost something in the middle, a later
	// delivery can be there and an earlier one not.
	found map[message.QueueOffset]struct{}
}

// Progress is what is settled.
type Progress struct {
	// Levels is the next offset in each level's queue, by queue id.
	Levels map[int32]message.QueueOffset
	Timers TimerProgress
	// End is where the log ended: what was delivered since lies behind it.
	End message.Offset
	// Delivered counts the deliveries that it covers, since New.
	Delivered int64
}

// New returns a Service that goes on from a progress.
func New(o Options, was Progress, broker BrokerProgress) *Service {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Service{
		o: o, wake: make(chan struct{}, 1), levels: map[int32]*level{}, timers: NewTimers(was.Timers, broker),
		held: map[message.QueueOffset]int{}, flying: -1, progress: was,
	}
	s.progress.Delivered = 0
	s.armed.Store(math.MaxInt64)
	for id := range int32(len(o.Levels)) {
		s.level(id)
	}
	for id, next := range was.Levels {
		s.level(id).next = next
	}
	return s
}

// level returns a level's queue; mu is held, or nobody else knows s.
func (s *Service) level(id int32) *level {
	l := s.levels[id]
	if l == nil {
		l = &level{id: id, due: math.MaxInt64}
		s.levels[id] = l
	}
	return l
}

// Notify says that a message was put in a queue, where it can be read. due is
// what its entry says. It never waits.
func (s *Service) Notify(q Queue, due int64) {
	if q.Topic == message.DelayTopic {
		if due >= s.armed.Load() {
			return // Run looks at all levels when it wakes up
		}
		s.mu.Lock()
		s.level(q.ID)
		s.mu.Unlock()
	}
	s.kick()
}

// AddLevel makes the queue of a level known that Options.Levels does not have.
func (s *Service) AddLevel(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level(id)
}

// Refresh has Run take down the progress anew, with the log's present end.
func (s *Service) Refresh() { s.kick() }

func (s *Service) kick() {
	select {
	case s.wake <- struct{}{}:
	default: // Run is about to look
	}
}

// Load adds all timers that wait. It ends early with the cause of ctx.
func (s *Service) Load(ctx context.Context) error {
	for {
		more, err := s.addTimers()
		if err != nil || !more {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// Settle says that the log has a delivery of a message: it was delivered before
// the last crash. It reports whether the progress did not know.
func (s *Service) Settle(q Queue, at message.QueueOffset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := false
	if q == TimerQueue {
		news = s.timers.Settle(at)
	} else if l := s.level(q.ID); q.Topic == message.DelayTopic && at >= l.next {
		if l.found == nil {
			l.found = map[message.QueueOffset]struct{}{}
		}
		_, known := l.found[at]
		l.found[at] = struct{}{}
		news = !known
	}
	if news {
		s.counts.avoided++
	}
	return news
}

// OldestDue returns the first timer in its queue that waits and is due by a time
// in milliseconds; ok is false when there is none.
func (s *Service) OldestDue(by int64) (at message.QueueOffset, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.timers.heap.all {
		if x.Due <= by && (!ok || x.At < at) && !s.timers.Settled(x.At) {
			at, ok = x.At, true
		}
	}
	return at, ok
}

// Waiting returns for each queue the first offset that is not settled, as far as
// Run has looked.
func (s *Service) Waiting() map[Queue]message.QueueOffset {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[Queue]message.QueueOffset, len(s.levels)+1)
	for id, l := range s.levels {
		all[Queue{message.DelayTopic, id}] = l.next
	}
	all[TimerQueue] = s.timers.Low()
	return all
}

// Run delivers until ctx ends, or Deliver says ErrStopped.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	s.loaded = true
	s.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.note()
	for ctx.Err() == nil {
		s.armed.Store(math.MaxInt64)
		more, err := s.pass(ctx)
		s.stall(err)
		if errors.Is(err, ErrStopped) {
			return
		}
		if more && err == nil {
			continue
		}
		next := s.next()
		s.armed.Store(next)
		timer.Reset(s.sleep(next, err))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// sleep is how long to sleep until a time, or after an error.
func (s *Service) sleep(until int64, err error) time.Duration {
	if err != nil {
		return retryInterval
	}
	if until == math.MaxInt64 {
		return longestSleep
	}
	return max(min(time.UnixMilli(until).Sub(s.o.Clock()), longestSleep), 0)
}

// next is when the next message is due.
func (s *Service) next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := int64(math.MaxInt64)
	for _, l := range s.levels {
		next = min(next, l.due)
	}
	if x, ok := s.timers.Top(); ok && s.held[x.At] == 0 { // whoever holds it wakes us
		next = min(next, x.Due)
	}
	return next
}

// pass gives each queue its turn. more says that one of them has more that is
// due now.
func (s *Service) pass(ctx context.Context) (more bool, err error) {
	for _, l := range s.known() {
		if ctx.Err() != nil {
			return false, nil //nolint:nilerr // whoever stops it knows why
		}
		again, err := s.deliverLevel(ctx, l)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	again, err := s.addTimers()
	if err != nil {
		return false, err
	}
	more = more || again
	if again, err = s.deliverTimers(ctx); err != nil {
		return false, err
	}
	s.note()
	return more || again, nil
}

func (s *Service) known() []*level {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*level, 0, len(s.levels))
	for _, l := range s.levels {
		all = append(all, l)
	}
	return all
}

// note takes down the progress.
func (s *Service) note() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.timers.Progress()
	if !ok {
		return
	}
	p := Progress{Levels: make(map[int32]message.QueueOffset, len(s.levels)), Timers: t, End: s.o.End(), Delivered: s.counts.delivered}
	for id, l := range s.levels {
		p.Levels[id] = l.next
	}
	s.progress = p
}

// Progress returns what was settled when Run last looked.
func (s *Service) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

func (s *Service) stall(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.stalled = err
}

func (s *Service) now() int64 { return s.o.Clock().UnixMilli() }

// skip counts and reports a message that is not delivered.
func (s *Service) skip(q Queue, it Item, reason error) {
	s.mu.Lock()
	s.counts.skipped++
	s.mu.Unlock()
	if s.o.Skipped == nil {
		return
	}
	off := message.Offset(0)
	if it.Message != nil {
		off = it.Message.PhysicalOffset
	}
	s.o.Skipped(q, it.At, off, reason)
}

// delivered counts a delivery.
func (s *Service) delivered(due int64) {
	s.counts.delivered++
	s.counts.late.add(s.now() - due)
}
