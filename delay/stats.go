// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"math"
	"math/bits"
	"time"

	"github.com/stelelog/stele/message"
)

// Stats is a snapshot of a Service. The counters begin with New.
type Stats struct {
	// Loaded says that all timers are known; before that Timers grows.
	Loaded bool
	// Levels is the next offset in each level's queue, by queue id.
	Levels map[int32]message.QueueOffset
	// Timers is how many messages with a time of their own wait.
	Timers int64
	// NextDue is when the next message is due, in milliseconds since the Unix
	// epoch; 0 when none is known to be.
	NextDue int64

	Delivered int64
	Cancelled int64
	Skipped   int64 // not delivered, and reported
	// Avoided are the messages that the progress had for undelivered, and that
	// were found delivered in the log.
	Avoided int64
	// LateMax and LateP99 are by how much deliveries were late. The second is
	// exact to an eighth.
	LateMax, LateP99 time.Duration
	// Stalled is why the last delivery failed, which is tried again; or nil.
	Stalled error
}

type counts struct {
	delivered, cancelled, skipped, avoided int64
	late                                   lateness
	stalled                                error
}

// Stats returns a snapshot.
func (s *Service) Stats() Stats {
	next := s.next()
	if next == math.MaxInt64 {
		next = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.counts
	st := Stats{
		Loaded: s.loaded, Levels: make(map[int32]message.QueueOffset, len(s.levels)), Timers: s.timers.Pending(), NextDue: next,
		Delivered: c.delivered, Cancelled: c.cancelled, Skipped: c.skipped, Avoided: c.avoided,
		LateMax: c.late.max, LateP99: c.late.quantile(0.99), Stalled: c.stalled,
	}
	for id, l := range s.levels {
		st.Levels[id] = l.next
	}
	return st
}

// Pending is how many timers wait.
func (s *Service) Pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.timers.Pending()
}

// lateness counts durations in milliseconds, each power of two in eight steps.
type lateness struct {
	counts [8 * 61]int64
	total  int64
	max    time.Duration
}

func (l *lateness) add(ms int64) {
	ms = max(ms, 0)
	l.max = max(l.max, time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond)
	l.total++
	l.counts[step(ms)]++
}

// step is the number of the step that a duration lies in.
func step(ms int64) int {
	if ms < 8 {
		return int(ms)
	}
	shift := bits.Len64(uint64(ms)) - 4
	return shift*8 + int(ms>>shift)
}

// top is the longest duration of a step.
func top(step int) int64 {
	if step < 16 {
		return int64(step)
	}
	shift := step/8 - 1
	return (int64(step-shift*8)+1)<<shift - 1
}

// quantile returns the top of the step that holds a share of all durations.
func (l *lateness) quantile(share float64) time.Duration {
	want := int64(math.Ceil(share * float64(l.total)))
	for i, n := range &l.counts {
		if want -= n; want <= 0 && l.total > 0 {
			return min(time.Duration(top(i))*time.Millisecond, l.max)
		}
	}
	return 0
}
