// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"encoding/binary"

	"github.com/stelelog/stele/message"
)

// TimerProgress says which messages with a time of delivery of their own are
// settled: delivered, cancelled or given up. Those below Low are, and those
// below Next that come before (Due, At) in the order of time and queue offset.
type TimerProgress struct {
	Low, Next message.QueueOffset
	Due       int64 // milliseconds since the Unix epoch
	At        message.QueueOffset
	// End is where the log ended then. What was delivered since lies behind it.
	End message.Offset
}

// SetDelays sets the progress of delayed delivery, that of some levels and that
// of the timers, as one change: a crash leaves all of it or nothing. It behaves
// as CommitOffset.
func (s *Store) SetDelays(levels map[int]message.QueueOffset, t TimerProgress) error {
	for level, off := range levels {
		if err := checkDelay(level, off); err != nil {
			return err
		}
	}
	if t.Low < 0 || t.Next < t.Low || t.Due < 0 || t.At < 0 || t.End < 0 {
		return invalid("progress of timers %+v", t)
	}
	return s.update(func() {
		for level, off := range levels {
			s.setDelay(int32(level), off)
		}
		if s.timer == nil || *s.timer != t {
			s.timer, s.dirty.timer = &t, true
		}
	})
}

// Timers returns the progress of the timers, and false when it was never set.
// The only error is ErrClosed.
func (s *Store) Timers() (TimerProgress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return TimerProgress{}, false, ErrClosed
	}
	if s.timer == nil {
		return TimerProgress{}, false, nil
	}
	return *s.timer, true, nil
}

func (t *TimerProgress) append(dst []byte) []byte {
	for _, v := range [...]int64{int64(t.Low), int64(t.Next), t.Due, int64(t.At), int64(t.End)} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v))
	}
	return dst
}

// decodeTimer takes the key without its first byte.
func decodeTimer(key, value []byte) (TimerProgress, error) {
	if len(key) != 0 {
		return TimerProgress{}, errKey
	}
	if len(value) != timerSize {
		return TimerProgress{}, errTimer
	}
	var v [timerSize / offsetSize]int64
	for i := range v {
		if v[i] = int64(binary.BigEndian.Uint64(value[i*offsetSize:])); v[i] < 0 {
			return TimerProgress{}, errTimer
		}
	}
	return TimerProgress{
		Low: message.QueueOffset(v[0]), Next: message.QueueOffset(v[1]), Due: v[2],
		At: message.QueueOffset(v[3]), End: message.Offset(v[4]),
	}, nil
}
