// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Speed is how fast a log is replayed. The zero value is as fast as can be.
type Speed struct {
	// Times is a multiple of the speed at which the messages were stored: with 2 an
	// hour takes half an hour. 0 is no bound.
	Times float64
	// PerSecond is how many messages a second. 0 is no bound.
	PerSecond float64
}

// ParseSpeed reads max, a multiple of the stored speed like 1x or 0.5x, or a
// number of messages a second like 200/s.
func ParseSpeed(text string) (s Speed, err error) {
	field, number := &s.Times, ""
	if text == "max" {
		return s, nil
	} else if head, ok := strings.CutSuffix(text, "x"); ok {
		number = head
	} else if head, ok := strings.CutSuffix(text, "/s"); ok {
		field, number = &s.PerSecond, head
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 1e-6 && f <= 1e9) { // also when it is NaN
		return Speed{}, fmt.Errorf("%q is no speed: write max, a multiple like 10x, or messages a second like 200/s", text)
	}
	*field = f
	return s, nil
}

// String returns what ParseSpeed reads.
func (s Speed) String() string {
	switch {
	case s.Times > 0:
		return strconv.FormatFloat(s.Times, 'g', -1, 64) + "x"
	case s.PerSecond > 0:
		return strconv.FormatFloat(s.PerSecond, 'g', -1, 64) + "/s"
	}
	return "max"
}

// pacer says when the next message goes.
type pacer struct {
	speed  Speed
	begin  time.Time // when the first message went
	first  int64     // its store time
	newest int64     // the clock of the store may have been set back: time stands still then
	n      float64   // messages that went
}

// wait returns for how long the message that was stored at ms must wait still.
func (p *pacer) wait(now time.Time, ms int64) time.Duration {
	if p.speed == (Speed{}) {
		return 0
	}
	if p.n == 0 {
		p.begin, p.first, p.newest = now, ms, ms
	}
	p.newest = max(p.newest, ms)
	after := p.n / p.speed.PerSecond * float64(time.Second)
	if p.speed.Times > 0 {
		after = float64(p.newest-p.first) / p.speed.Times * float64(time.Millisecond)
	}
	p.n++
	return p.begin.Add(time.Duration(min(after, math.MaxInt64/2))).Sub(now)
}

// sleep waits on a timer, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
