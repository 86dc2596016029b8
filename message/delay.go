// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The topics in which messages wait that are delivered later.
const (
	// DelayTopic has one queue for each delay level, level - 1
	// (TopicValidator.RMQ_SYS_SCHEDULE_TOPIC). An entry of its queues holds the
	// time of delivery instead of a tags code.
	DelayTopic = "SCHEDULE_TOPIC_XXXX"
	// TimerTopic has the messages with a time of delivery of their own, in queue
	// 0 (TimerMessageStore.TIMER_TOPIC).
	TimerTopic = "rmq_sys_wheel_timer"
)

// IsDelayTopic reports whether a topic is one of those.
func IsDelayTopic(topic string) bool { return topic == DelayTopic || topic == TimerTopic }

// DefaultDelayLevels are RocketMQ's levels, 1 to 18
// (MessageStoreConfig.messageDelayLevel).
const DefaultDelayLevels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

// maxDelayLevels bounds their number: each has a queue.
const maxDelayLevels = 1 << 10

// DelayLevels are the delays of the levels, from level 1 on.
type DelayLevels []time.Duration

// ParseDelayLevels reads levels as a broker's configuration has them: whole
// numbers of s, m, h or d, separated by spaces.
func ParseDelayLevels(text string) (DelayLevels, error) {
	var levels DelayLevels
	for word := range strings.FieldsSeq(text) {
		unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[word[len(word)-1]]
		n, err := strconv.ParseInt(word[:len(word)-1], 10, 32)
		if err != nil || n <= 0 || unit == 0 {
			return nil, fmt.Errorf("%w: level %d is %q, must be a number of s, m, h or d", ErrBadDelay, len(levels)+1, word)
		}
		if time.Duration(n) > math.MaxInt64/unit {
			return nil, fmt.Errorf("%w: level %d is %q, which is too long", ErrBadDelay, len(levels)+1, word)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	if len(levels) == 0 || len(levels) > maxDelayLevels {
		return nil, fmt.Errorf("%w: %d levels, must be 1 to %d", ErrBadDelay, len(levels), maxDelayLevels)
	}
	return levels, nil
}

// Longest is the longest delay of all levels.
func (l DelayLevels) Longest() (longest time.Duration) {
	for _, d := range l {
		longest = max(longest, d)
	}
	return longest
}

// SetDelayLevel has the message delivered after the delay of a level, from 1; 0
// takes that back. Which levels there are is the store's to say.
func (m *Message) SetDelayLevel(level int) {
	if level == 0 {
		m.Properties.Delete(PropertyDelayLevel)
		return
	}
	m.Properties.Set(PropertyDelayLevel, strconv.Itoa(level))
}

// SetDeliverAt has the message delivered at a time, to the millisecond; the zero
// time takes that back. A delay level takes precedence.
func (m *Message) SetDeliverAt(t time.Time) {
	m.Properties.Delete(PropertyTimerDelaySec)
	m.Properties.Delete(PropertyTimerDelayMS)
	if t.IsZero() {
		m.Properties.Delete(PropertyTimerDeliverMS)
		return
	}
	// What is less than a millisecond is rounded up: nothing is early.
	ms := t.Add(time.Millisecond - time.Nanosecond).UnixMilli()
	m.Properties.Set(PropertyTimerDeliverMS, strconv.FormatInt(ms, 10))
}

// DelayWish is what the properties of a message say about when it is to be
// delivered.
type DelayWish struct {
	// Level is the delay level; 0 is none. When there is one, nothing else counts.
	Level int32
	// At is a time in milliseconds since the Unix epoch, or with After so many
	// milliseconds from now; they count when Timed is set.
	Timed, After bool
	At           int64
	// Prepared says that somebody has set TIMER_OUT_MS: the message has been
	// through a delay, and is not delayed again by its times.
	Prepared bool
}

// Delay returns what the message's properties wish, as HookUtils.java reads
// them: DELAY before TIMER_DELAY_SEC before TIMER_DELAY_MS before
// TIMER_DELIVER_MS. ok is false when they wish nothing. A time that is no number
// is an error that wraps ErrBadProperty; DELAY is checked by the encoder.
func (m *Message) Delay() (w DelayWish, ok bool, err error) {
	if len(m.Properties.block) == 0 {
		return w, false, nil
	}
	var level, sec, ms, at []byte
	for rest := m.Properties.block; len(rest) > 0; {
		var s []byte
		s, rest = cutSegment(rest)
		if len(s) < len(PropertyDelayLevel) || s[0] != 'D' && s[0] != 'T' {
			continue
		}
		name, value, pair := cutPair(s)
		if !pair {
			continue
		}
		switch string(name) {
		case PropertyDelayLevel:
			level = value
		case PropertyTimerDelaySec:
			sec = value
		case PropertyTimerDelayMS:
			ms = value
		case PropertyTimerDeliverMS:
			at = value
		case PropertyTimerOutMS:
			w.Prepared = true
		}
	}
	if level != nil {
		n, err := strconv.ParseInt(string(level), 10, 32)
		if err != nil {
			return w, false, fmt.Errorf("%w: %s is %q", ErrBadProperty, PropertyDelayLevel, level)
		}
		if n != 0 {
			return DelayWish{Level: int32(n)}, true, nil
		}
	}
	name, value := PropertyTimerDelaySec, sec
	w.After = true
	switch {
	case sec != nil:
	case ms != nil:
		name, value = PropertyTimerDelayMS, ms
	case at != nil:
		name, value, w.After = PropertyTimerDeliverMS, at, false
	default:
		return DelayWish{}, false, nil
	}
	if w.At, err = strconv.ParseInt(string(value), 10, 64); err != nil {
		return w, false, fmt.Errorf("%w: %s is %q, must be a number", ErrBadProperty, name, value)
	}
	if sec != nil {
		w.At = max(min(w.At, math.MaxInt64/1000), math.MinInt64/1000) * 1000
	}
	w.Timed = true
	return w, true, nil
}
