// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/stelelog/stele/message"
)

// deliverLevel delivers what is due in a level's queue, up to a turn. more says
// that there may be more.
func (s *Service) deliverLevel(ctx context.Context, l *level) (more bool, err error) {
	if s.dueOf(l) > s.now() && s.dueOf(l) != math.MaxInt64 {
		return false, nil // its head is known, and waits
	}
	q := Queue{message.DelayTopic, l.id}
	left, due := turn, int64(math.MaxInt64)
	var failure error
	next, err := s.o.Read(q, l.next, func(it Item) bool {
		if left == 0 || ctx.Err() != nil {
			more = left == 0
			return false
		}
		left--
		if s.wasFound(l, it.At) {
			s.advance(l, it.At)
			return true
		}
		if it.Message == nil {
			s.skip(q, it, it.Err)
			s.advance(l, it.At)
			return true
		}
		if at := s.levelDue(l.id, it); at > s.now() {
			due = at
			return false
		} else if failure = s.deliver(q, it, at); failure != nil {
			return false
		}
		s.advance(l, it.At)
		return true
	})
	s.mu.Lock()
	l.due = due
	if err == nil && failure == nil && due == math.MaxInt64 && !more && ctx.Err() == nil {
		l.next = max(l.next, next) // over blank entries at the end
	}
	if failure != nil || err != nil || more {
		l.due = 0 // not known to wait
	}
	s.mu.Unlock()
	return more, errors.Join(err, failure)
}

func (s *Service) dueOf(l *level) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.due
}

// wasFound reports whether Settle was told of a message.
func (s *Service) wasFound(l *level, at message.QueueOffset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := l.found[at]
	return found
}

// advance moves a level behind an offset.
func (s *Service) advance(l *level, at message.QueueOffset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(l.found, at)
	l.next = at + 1
}

// levelDue returns when a message of a level's queue is to be delivered.
func (s *Service) levelDue(id int32, it Item) int64 {
	return LevelDue(s.o.Levels, id, it.Due, it.Message.StoreTimestamp)
}

// LevelDue returns when a message of the queue id of a level is to be delivered,
// in milliseconds since the Unix epoch: what its entry says, if that can be by the
// levels and its store time, else what the level of the queue says.
func LevelDue(levels message.DelayLevels, id int32, entry, stored int64) int64 {
	if entry >= stored && entry-stored <= levels.Longest().Milliseconds() {
		return entry
	}
	delay := time.Second // RocketMQ's for a level that it does not know
	if int(id) < len(levels) {
		delay = levels[id]
	}
	return stored + delay.Milliseconds()
}

// deliver hands a message that is due to Deliver. One that can't be delivered is
// passed over.
func (s *Service) deliver(q Queue, it Item, due int64) error {
	err := s.o.Deliver(it.Message)
	if errors.Is(err, ErrUndeliverable) {
		s.skip(q, it, err)
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivered(due)
	return nil
}

// addTimers adds the timers that came in, up to a turn. more says that there may
// be more.
func (s *Service) addTimers() (more bool, err error) {
	left := addTurn
	var failed []Item
	s.mu.Lock()
	from := s.timers.Next()
	s.mu.Unlock()
	next, err := s.o.Read(TimerQueue, from, func(it Item) bool {
		if left == 0 {
			more = true
			return false
		}
		left--
		s.mu.Lock()
		if it.Message == nil {
			s.timers.Pass(it.At + 1)
		} else {
			it.Err = s.timers.Add(it.At, it.Message)
		}
		s.mu.Unlock()
		if it.Err != nil {
			off := message.Offset(0)
			if it.Message != nil {
				off = it.Message.PhysicalOffset
			}
			it.Message = &message.Message{PhysicalOffset: off}
			failed = append(failed, it)
		}
		return true
	})
	if err == nil && !more {
		s.mu.Lock()
		s.timers.Pass(next)
		s.mu.Unlock()
	}
	for _, it := range failed {
		s.skip(TimerQueue, it, it.Err)
	}
	return more, err
}

// deliverTimers delivers the timers that are due, up to a turn.
func (s *Service) deliverTimers(ctx context.Context) (more bool, err error) {
	for range turn {
		x, ok := s.takeOff()
		if !ok || ctx.Err() != nil {
			s.land()
			return false, nil //nolint:nilerr // whoever stops it knows why
		}
		if err := s.deliverTimer(x); err != nil {
			s.land()
			return false, err
		}
	}
	return true, nil
}

// takeOff returns the next timer that is due, which from then on can't be
// cancelled.
func (s *Service) takeOff() (x Timer, ok bool) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok = s.timers.Top()
	if !ok || x.Due > now {
		return x, false
	}
	if s.held[x.At] > 0 {
		return x, false
	}
	s.flying = x.At
	return x, true
}

// land says that no timer is being delivered.
func (s *Service) land() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying = -1
}

func (s *Service) deliverTimer(x Timer) error {
	var failure error
	found := false
	_, err := s.o.Read(TimerQueue, x.At, func(it Item) bool {
		if it.At != x.At {
			return false
		}
		found = true
		switch {
		case it.Message == nil:
			s.skip(TimerQueue, it, it.Err)
		case s.struck(x, it.Message):
		default:
			failure = s.deliver(TimerQueue, it, x.Due)
		}
		return false
	})
	if err = errors.Join(err, failure); err != nil {
		return err
	}
	if !found {
		s.skip(TimerQueue, Item{At: x.At}, ErrGone)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timers.Delivered(x)
	s.flying = -1
	return nil
}

// ErrGone says that a message expired before it was due.
var ErrGone = errors.New("expired before it was due")

func (s *Service) struck(x Timer, m *message.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	struck := s.timers.Struck(x, m)
	if _, marker := m.Properties.Lookup(message.PropertyTimerDelUniqKey); struck && !marker {
		s.counts.cancelled++
	}
	return struck
}
