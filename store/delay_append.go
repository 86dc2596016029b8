// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/message"
)

// Errors of appends of messages that are to be delivered later. Nothing was
// written.
var (
	// ErrDelayLevel is returned for a delay level that there is none of. (A
	// broker takes the highest one instead.)
	ErrDelayLevel = errors.New("no such delay level")
	// ErrDelayTooLong is returned for a time of delivery that lies further ahead
	// than DelayOptions.MaxDelay.
	ErrDelayTooLong = errors.New("time of delivery too far ahead")
	// ErrTooManyTimers is returned when DelayOptions.MaxTimers messages wait.
	ErrTooManyTimers = errors.New("too many messages with a time of delivery wait")
	// ErrDelayOff is returned when DelayOptions.Off is set.
	ErrDelayOff = errors.New("delayed delivery is off")
	// ErrDelayTopic is returned for a message to one of the topics in which
	// messages wait that is not what stands there.
	ErrDelayTopic = errors.New("topic is for messages that wait")
)

// divert turns a message that wishes to be delivered later into the one that is
// stored: in a queue of messages that wait, with its topic and queue as
// properties, as HookUtils.java does. It returns when that is to be: in
// milliseconds since the Unix epoch, negative when it is so long after the store
// time; 0 when the message is delivered at once.
func (s *Store) divert(c *message.Message) (due int64, err error) {
	if s.o.Verbatim {
		return 0, nil
	}
	if t := c.SysFlag.Transaction(); t != message.TransactionNone && t != message.TransactionCommit {
		return 0, nil
	}
	if message.IsDelayTopic(c.Topic) {
		if s.o.Delay.Off {
			return 0, nil // a topic like any other
		}
		return s.asItIs(c)
	}
	w, ok, err := c.Delay()
	if err != nil || !ok || w.Prepared && w.Level == 0 {
		return 0, err
	}
	if s.o.Delay.Off {
		return 0, fmt.Errorf("topic %q: %w", c.Topic, ErrDelayOff)
	}
	var wait string
	var id int32
	if w.Level != 0 {
		levels := s.o.Delay.levels
		if w.Level < 0 || int(w.Level) > len(levels) {
			return 0, fmt.Errorf("topic %q: %w: %d, there are 1 to %d", c.Topic, ErrDelayLevel, w.Level, len(levels))
		}
		for _, name := range []string{message.PropertyTimerDelaySec, message.PropertyTimerDelayMS, message.PropertyTimerDeliverMS} {
			c.Properties.Delete(name)
		}
		wait, id, due = message.DelayTopic, w.Level-1, -levels[w.Level-1].Milliseconds()
	} else {
		if due, err = s.dueTime(c, w); due == 0 || err != nil {
			return 0, err
		}
		wait = message.TimerTopic
		c.Properties.Delete(message.PropertyCancel)
		c.Properties.Set(message.PropertyTimerOutMS, strconv.FormatInt(due, 10))
	}
	// What the delivery would be refused for is refused now.
	if err := s.deliverable(c); err != nil {
		return 0, err
	}
	c.Properties.Set(message.PropertyRealTopic, c.Topic)
	c.Properties.Set(message.PropertyRealQueueID, strconv.FormatInt(int64(c.QueueID), 10))
	c.Topic, c.QueueID = wait, id
	return due, nil
}

// dueTime returns when a message with a time of its own is to be delivered, or 0
// when that has come.
func (s *Store) dueTime(c *message.Message, w message.DelayWish) (int64, error) {
	now := s.o.Clock().UnixMilli()
	ahead := w.At
	if !w.After {
		ahead = max(w.At, now) - now
		if ahead < 0 {
			ahead = math.MaxInt64 // a clock that tells a time before 1970
		}
	}
	_, cancels := c.Properties.Lookup(message.PropertyTimerDelUniqKey)
	switch {
	case ahead <= 0 && cancels:
		return 0, fmt.Errorf("topic %q: %w: %s at a time that has come", c.Topic, ErrBadProperty, message.PropertyTimerDelUniqKey)
	case ahead <= 0:
		return 0, nil
	case ahead > s.o.Delay.MaxDelay.Milliseconds():
		return 0, fmt.Errorf("topic %q: %w: %d ms from now, at most %v", c.Topic, ErrDelayTooLong, ahead, s.o.Delay.MaxDelay)
	}
	if d := s.delayed.Load(); d != nil && d.Pending() >= s.o.Delay.MaxTimers {
		return 0, fmt.Errorf("topic %q: %w: %d", c.Topic, ErrTooManyTimers, s.o.Delay.MaxTimers)
	}
	return now + ahead, nil
}

// markLen is the length of the longest PropertyDelayed with its value, and of a
// separator before it.
const markLen = len(message.PropertyDelayed) + 1 + 19 + 1 + 1

// deliverable says why a message that is to wait could not be delivered.
func (s *Store) deliverable(c *message.Message) error {
	if message.IsDelayTopic(c.Topic) {
		return fmt.Errorf("topic %q: %w", c.Topic, ErrDelayTopic)
	}
	if err := message.CheckTopic(c.Topic); err != nil {
		return fmt.Errorf("append to topic %q, queue %d: %w", c.Topic, c.QueueID, err)
	}
	if c.QueueID < 0 || c.QueueID > MaxQueueID {
		return fmt.Errorf("append to topic %q: %w: queue %d", c.Topic, ErrNoQueue, c.QueueID)
	}
	size, err := s.encoder.EncodedLen(c)
	if err != nil {
		return fmt.Errorf("append to topic %q, queue %d: %w", c.Topic, c.QueueID, err)
	}
	// The real topic and queue come in as properties, the mark on delivery.
	more := len(message.PropertyRealTopic) + len(c.Topic) + len(message.PropertyRealQueueID) + 5 + 4 + 1 + markLen
	if n := c.Properties.Len() + more + message.PropertyCRCLen; n > message.MaxPropertiesLen {
		return fmt.Errorf("append to topic %q, queue %d: %w: %d bytes while it waits, limit %d",
			c.Topic, c.QueueID, ErrPropertiesTooLarge, n, message.MaxPropertiesLen)
	}
	if n := int64(size+more+len(message.DelayTopic)) + message.FillerSize; n > s.log.FileSize() {
		return fmt.Errorf("append to topic %q, queue %d: %w: %d bytes while it waits, the file has %d",
			c.Topic, c.QueueID, ErrRecordTooLarge, n, s.log.FileSize())
	}
	_, err = s.lookUpQueue(queueKey{c.Topic, c.QueueID})
	return err
}

// asItIs checks a message to a topic in which messages wait: one that was copied
// from such a topic.
func (s *Store) asItIs(c *message.Message) (due int64, err error) {
	if _, _, err := delay.Target(c); err != nil {
		return 0, fmt.Errorf("topic %q: %w: %w", c.Topic, ErrDelayTopic, err)
	}
	if c.Topic == message.DelayTopic {
		w, _, err := c.Delay()
		// Without a level, that of the queue counts.
		if w.Level == 0 {
			w.Level = c.QueueID + 1
		}
		if err != nil || w.Level != c.QueueID+1 || int(w.Level) > len(s.o.Delay.levels) {
			return 0, fmt.Errorf("topic %q, queue %d: %w: delay level %d", c.Topic, c.QueueID, ErrDelayTopic, w.Level)
		}
		return -s.o.Delay.levels[c.QueueID].Milliseconds(), nil
	}
	due, err = delay.TimerDue(c)
	if err != nil || c.QueueID != 0 {
		return 0, fmt.Errorf("topic %q, queue %d: %w: %w", c.Topic, c.QueueID, ErrDelayTopic, err)
	}
	return due, nil
}

// CancelResult is what became of a Cancel.
type CancelResult = delay.CancelResult

// The results of Cancel.
const (
	CancelUnknown = delay.CancelUnknown
	Cancelled     = delay.Cancelled
	CancelTooLate = delay.CancelTooLate
)

// Cancel keeps a message with a time of delivery of its own from being
// delivered. id is what AppendResult.ID said when it was appended. A message with
// a delay level can't be cancelled: it is unknown here, as is whatever else is no
// message that waits for a time.
//
// A cancellation is a record in the log, and as durable as one: on disk on
// return with FlushSync, after the next flush with FlushAsync. The errors are
// those of Append, and message.ErrBadID; with one the result is Cancelled if the
// cancellation is in the log, and may or may not be durable.
func (s *Store) Cancel(ctx context.Context, id string) (CancelResult, error) {
	if err := s.ready(ctx); err != nil {
		return CancelUnknown, err
	}
	d := s.delayed.Load()
	if d == nil {
		return CancelUnknown, ErrDelayOff
	}
	host, off, err := message.ParseID(id)
	if err != nil {
		return CancelUnknown, err
	}
	if off >= s.log.Committed() && off < s.log.Appended() {
		// It is in memory still. A flush brings it to where it can be read, or fails;
		// waiting for that alone would not end in a log that is poisoned meanwhile.
		if err := s.log.WaitFlushed(ctx, off+1, s.o.FlushTimeout); err != nil {
			return CancelUnknown, s.storeError(err)
		}
	}
	m, err := s.Get(off)
	if errors.Is(err, ErrClosed) {
		return CancelUnknown, err
	}
	if err != nil || m.Topic != message.TimerTopic || m.QueueID != 0 || m.StoreHost != host {
		return CancelUnknown, nil //nolint:nilerr // no message stands there
	}
	due, err := delay.TimerDue(m)
	if _, cancels := m.Properties.Lookup(message.PropertyTimerDelUniqKey); err != nil || cancels {
		return CancelUnknown, nil //nolint:nilerr // nor one that is ever delivered
	}
	return d.Cancel(delay.Timer{Due: due, At: m.QueueOffset}, func() (bool, error) {
		r, err := s.Append(ctx, cancellation(m, id))
		return r.Size > 0, err
	})
}

// cancellation is the record that cancels m: what a broker takes for one as
// well, by the key that the producer gave the message.
func cancellation(m *message.Message, id string) *message.Message {
	key := m.UniqKey()
	if key == "" {
		key = id // a broker knows no message of that key
	}
	c := &message.Message{Topic: message.TimerTopic}
	for _, name := range []string{message.PropertyTimerOutMS, message.PropertyRealTopic, message.PropertyRealQueueID} {
		if v, ok := m.Properties.Get(name); ok {
			c.Properties.Set(name, v)
		}
	}
	c.Properties.Set(message.PropertyTimerDelUniqKey, key)
	c.Properties.Set(message.PropertyCancel, strconv.FormatInt(int64(m.QueueOffset), 10))
	return c
}
