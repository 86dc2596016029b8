// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package wallclock tells the time of day in milliseconds for half the price.
//
// time.Now reads two clocks of the system, the time of day and the monotonic
// one, and each takes 25 ns; that is a good part of what it takes to append a
// message. So the time of day is read now and then, and in between it is that
// plus what the monotonic clock says has passed.
package wallclock

import (
	"sync/atomic"
	"time"
)

// Renewal is how old the last look at the time of day may become. A step of the
// system's clock is noticed that much later, and within it a clock that is being
// slewed, by 500 ppm at most, is off by 0.05 ms.
const Renewal = 100 * time.Millisecond

// Clock tells milliseconds since the Unix epoch. It is safe for concurrent use.
type Clock struct {
	given func() time.Time // nil: the system's clock
	base  time.Time
	last  atomic.Pointer[look]
}

// look is a look at both clocks.
type look struct {
	at   time.Duration // since base
	wall int64         // nanoseconds since the Unix epoch
}

// New returns a Clock that tells what given does, each time anew, or with nil the
// system's time.
func New(given func() time.Time) *Clock {
	c := &Clock{given: given}
	if given == nil {
		c.base = time.Now()
		c.renew()
	}
	return c
}

// Given returns what New was given.
func (c *Clock) Given() func() time.Time { return c.given }

// UnixMilli returns the time. Two goroutines may see it in another order by less
// than a millisecond, and it goes back where the system's clock does.
func (c *Clock) UnixMilli() int64 {
	if c.given != nil {
		return c.given().UnixMilli()
	}
	since := time.Since(c.base)
	last := c.last.Load()
	if since-last.at >= Renewal {
		last = c.renew()
	}
	return (last.wall + int64(since-last.at)) / int64(time.Millisecond)
}

func (c *Clock) renew() *look {
	now := time.Now()
	l := &look{at: now.Sub(c.base), wall: now.UnixNano()}
	c.last.Store(l)
	return l
}
