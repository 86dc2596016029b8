// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/message"
)

// TimerProgress says which messages of the timer queue are settled: delivered,
// cancelled, or given up. Those are settled that lie below Low, and of those
// below Next the ones that come before (Due, At) in the order of time and queue
// offset. It is what a restart goes by.
type TimerProgress struct {
	Low, Next message.QueueOffset
	Due       int64 // milliseconds since the Unix epoch
	At        message.QueueOffset
}

// settled reports whether the progress covers a message.
func (p TimerProgress) settled(t Timer) bool {
	return t.At < p.Low || t.At < p.Next && t.before(Timer{p.Due, p.At})
}

// BrokerProgress is the same in a broker's terms (config/timercheck): of the
// messages below Next, those that were due before Read have been delivered. The
// zero value covers nothing.
type BrokerProgress struct {
	Next message.QueueOffset
	Read int64 // milliseconds since the Unix epoch
}

// ReadTimerCheck is the progress that the bytes of config/timercheck tell of. What
// is malformed covers nothing: messages come twice then.
func ReadTimerCheck(b []byte) BrokerProgress {
	t, err := brokerconfig.DecodeTimerCheck(b)
	if err != nil {
		return BrokerProgress{}
	}
	return BrokerProgress{Next: message.QueueOffset(t.Next), Read: t.Read}
}

func (p BrokerProgress) settled(t Timer) bool { return t.At < p.Next && t.Due < p.Read }

// Timers is the index of the messages in the timer queue that wait: a heap by
// time and queue offset, and one bit for each queue offset since the oldest that
// waits. It is a plain value in memory without a lock: who shares it brings one.
type Timers struct {
	heap heap
	done bitmap // of what lies below next
	// early are those from next on that were settled before they were added.
	early map[message.QueueOffset]struct{}
	low   message.QueueOffset
	next  message.QueueOffset // everything below it was added
	// last is the latest one that was delivered. What comes before it and still
	// waits was added too late for the order.
	last    Timer
	pending int64

	was    TimerProgress
	broker BrokerProgress
	// strikes are the messages that somebody has cancelled by key, by the time
	// that both are due.
	strikes map[int64][]strike
}

// strike cancels a message of a topic and key that lies before an offset.
type strike struct {
	key    string
	before message.QueueOffset
}

// Timer is one message of the timer queue.
type Timer struct {
	Due int64 // milliseconds since the Unix epoch
	At  message.QueueOffset
}

// before is the order of delivery.
func (t Timer) before(u Timer) bool { return t.Due < u.Due || t.Due == u.Due && t.At < u.At }

// NewTimers returns an index without messages, which are to be added from
// Next() on. Those that was or broker covers count as settled.
func NewTimers(was TimerProgress, broker BrokerProgress) *Timers {
	t := &Timers{low: was.Low, next: was.Low, was: was, broker: broker, strikes: map[int64][]strike{},
		early: map[message.QueueOffset]struct{}{}}
	t.done.begin(was.Low)
	// What is covered was delivered, as far as the order goes.
	t.last = Timer{was.Due, was.At - 1}
	if x := (Timer{broker.Read - 1, math.MaxInt64}); t.last.before(x) {
		t.last = x
	}
	return t
}

// Next is the queue offset of the first message that was not added.
func (t *Timers) Next() message.QueueOffset { return t.next }

// Low is the first queue offset that is not settled.
func (t *Timers) Low() message.QueueOffset {
	t.low = t.done.trim(t.next)
	return t.low
}

// Pending is how many messages wait.
func (t *Timers) Pending() int64 { return t.pending }

// Why a record is in the timer queue and not delivered.
var (
	errNoTime   = errors.New("no valid time of delivery")
	errNoTarget = errors.New("no valid topic and queue to deliver to")
	errLoop     = errors.New("the topic to deliver to is one of delayed messages")
	errHalf     = errors.New("the topic to deliver to is that of half transactions")
	errBatch    = errors.New("an inner batch can't be delivered")
	errCancel   = errors.New("malformed cancellation")
)

// Add takes the message at queue offset at; what lies between Next and that
// holds none. One below Next was added before. The error says why the message
// will not be delivered, unless that is in order.
func (t *Timers) Add(at message.QueueOffset, m *message.Message) error {
	if at < t.next {
		return nil
	}
	t.Pass(at)
	t.next = at + 1
	_, early := t.early[at]
	delete(t.early, at)
	due, err := TimerDue(m)
	if err == nil {
		_, _, err = Target(m)
	}
	if err != nil {
		t.done.set(at)
		return err
	}
	if v, ok := m.Properties.Lookup(message.PropertyCancel); ok {
		t.done.set(at)
		victim, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || victim < 0 || message.QueueOffset(victim) >= at {
			return fmt.Errorf("%w: queue offset %q", errCancel, v)
		}
		t.Settle(message.QueueOffset(victim))
		return nil
	}
	t.strike(due, at, m)
	x := Timer{due, at}
	if early || t.was.settled(x) || t.broker.settled(x) {
		t.done.set(at)
		return nil
	}
	t.heap.push(x)
	t.pending++
	return nil
}

// strike notes which other messages this one cancels.
func (t *Timers) strike(due int64, at message.QueueOffset, m *message.Message) {
	before := message.QueueOffset(math.MaxInt64)
	key, ok := m.Properties.Lookup(message.PropertyTimerDelUniqKey)
	if !ok {
		// A broker takes a message that waits for long through its queue again.
		if _, ok = m.Properties.Lookup(message.PropertyTimerRollTimes); ok {
			key, ok = m.Properties.Lookup(message.PropertyUniqKey)
			before = at
		}
	}
	if ok {
		topic, _ := m.Properties.Lookup(message.PropertyRealTopic)
		t.strikes[due] = append(t.strikes[due], strike{string(topic) + "+" + string(key), before})
	}
}

// Struck reports whether a message that is due is not to be delivered: it
// cancels others, or was cancelled by its key, or taken through the queue again.
func (t *Timers) Struck(x Timer, m *message.Message) bool {
	if _, ok := m.Properties.Lookup(message.PropertyTimerDelUniqKey); ok {
		return true
	}
	all := t.strikes[x.Due]
	if len(all) == 0 {
		return false
	}
	topic, _ := m.Properties.Lookup(message.PropertyRealTopic)
	key, ok := m.Properties.Lookup(message.PropertyUniqKey)
	if !ok {
		return false
	}
	for _, s := range all {
		if x.At < s.before && s.key == string(topic)+"+"+string(key) {
			return true
		}
	}
	return false
}

// Pass says that there is no message from Next up to at.
func (t *Timers) Pass(at message.QueueOffset) {
	if at-t.next > farApart {
		t.done.skip(t.next, at)
		t.next = at
	}
	for ; t.next < at; t.next++ {
		t.done.set(t.next)
	}
	for early := range t.early {
		if early < at {
			delete(t.early, early)
		}
	}
}

// farApart is from how many offsets on that hold nothing they get no bits of
// their own: a queue need not begin at 0, nor go on where it ended.
const farApart = 1 << 12

// Settle says that a message needs no delivery any more. It may not have been
// added yet. It reports whether that is news.
func (t *Timers) Settle(at message.QueueOffset) bool {
	if t.Settled(at) {
		return false
	}
	if at >= t.next {
		t.early[at] = struct{}{}
		return true
	}
	t.done.set(at)
	t.pending--
	return true
}

// Settled reports whether a message needs no delivery any more.
func (t *Timers) Settled(at message.QueueOffset) bool {
	if at < t.next {
		return at < t.low || t.done.has(at)
	}
	_, early := t.early[at]
	return early
}

// Top is the message that is due first; ok is false when none waits.
func (t *Timers) Top() (x Timer, ok bool) {
	for t.heap.len() > 0 {
		x = t.heap.top()
		if !t.Settled(x.At) {
			return x, true
		}
		t.heap.pop()
	}
	clear(t.strikes)
	return Timer{}, false
}

// Delivered settles what Top returned.
func (t *Timers) Delivered(x Timer) {
	if t.last.before(x) {
		t.last = x
	}
	t.Settle(x.At)
}

// Progress returns what is settled, in the terms of a restart. ok is false while
// something waits that came too late for the order: it is delivered soon.
func (t *Timers) Progress() (p TimerProgress, ok bool) {
	t.Low()
	x, ok := t.Top()
	if !ok {
		return TimerProgress{Low: t.next, Next: t.next}, true
	}
	for due := range t.strikes {
		if due < x.Due {
			delete(t.strikes, due)
		}
	}
	return TimerProgress{Low: t.low, Next: t.next, Due: x.Due, At: x.At}, t.last.before(x)
}

// TimerDue returns when a record of the timer queue is to be delivered, in
// milliseconds since the Unix epoch: its TIMER_OUT_MS.
func TimerDue(m *message.Message) (int64, error) {
	v, ok := m.Properties.Lookup(message.PropertyTimerOutMS)
	if !ok {
		return 0, fmt.Errorf("%w: no %s", errNoTime, message.PropertyTimerOutMS)
	}
	due, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || due <= 0 {
		return 0, fmt.Errorf("%w: %s is %q", errNoTime, message.PropertyTimerOutMS, v)
	}
	return due, nil
}

// MaxQueueID is the largest queue that a message is delivered to.
const MaxQueueID = 1<<16 - 1

// halfTopic is where a broker keeps messages of transactions that are not
// decided (TopicValidator.RMQ_SYS_TRANS_HALF_TOPIC).
const halfTopic = "RMQ_SYS_TRANS_HALF_TOPIC"

// Target returns the topic and queue that a delayed message is delivered to, its
// REAL_TOPIC and REAL_QID, or why it can't be.
func Target(m *message.Message) (topic string, queue int32, err error) {
	if m.SysFlag&(message.InnerBatch|message.NeedUnwrap) != 0 {
		return "", 0, errBatch
	}
	v, _ := m.Properties.Lookup(message.PropertyRealTopic)
	topic = string(v)
	if err := message.CheckTopic(topic); err != nil {
		return "", 0, fmt.Errorf("%w: %s: %w", errNoTarget, message.PropertyRealTopic, err)
	}
	switch {
	case message.IsDelayTopic(topic):
		return "", 0, fmt.Errorf("%w: %s", errLoop, topic)
	case topic == halfTopic:
		return "", 0, errHalf
	}
	v, _ = m.Properties.Lookup(message.PropertyRealQueueID)
	id, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || id < 0 || id > MaxQueueID {
		return "", 0, fmt.Errorf("%w: %s is %q", errNoTarget, message.PropertyRealQueueID, v)
	}
	return topic, int32(id), nil
}
