// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Unit is what a Bar counts.
type Unit uint8

const (
	// Bytes are shown with their rate.
	Bytes Unit = iota
	// Steps are shown as a percentage: they are too unequal for a rate.
	Steps
)

const (
	patience = time.Second            // work that takes less shows nothing
	every    = 250 * time.Millisecond // between two drawings
	// newest is how much the newest rate counts in the one that is shown, so that
	// it settles within a few seconds and does not jump.
	newest = 0.15
)

// Bar is one line that says how far a piece of work has come. All methods may be
// called on nil, which is a Bar that is not shown.
type Bar struct {
	screen *Screen
	unit   Unit
	done   atomic.Int64
	total  atomic.Int64
	text   atomic.Pointer[string]

	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// Start shows the progress of a piece of work from now on until Stop. text stands
// in front; total is 0 where nobody knows. It returns nil if the Screen is no
// terminal. There should be one Bar at a time.
func (s *Screen) Start(unit Unit, text string, total int64) *Bar {
	if s.width == nil {
		return nil
	}
	b := &Bar{screen: s, unit: unit, stop: make(chan struct{})}
	b.Text(text)
	b.total.Store(total)
	b.ended.Go(b.run)
	return b
}

// Add says that n more are done.
func (b *Bar) Add(n int64) {
	if b != nil {
		b.done.Add(n)
	}
}

// Set says that done of total are done.
func (b *Bar) Set(done, total int64) {
	if b != nil {
		b.done.Store(done)
		b.total.Store(total)
	}
}

// Text changes the text in front.
func (b *Bar) Text(text string) {
	if b != nil {
		b.text.Store(&text)
	}
}

// Stop takes the line away. It may be called more than once.
func (b *Bar) Stop() {
	if b == nil {
		return
	}
	b.once.Do(func() { close(b.stop) })
	b.ended.Wait()
}

// run draws until Stop.
func (b *Bar) run() {
	m := meter{unit: b.unit, began: time.Now()}
	m.last = m.began
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			b.screen.mu.Lock()
			b.screen.clear()
			b.screen.mu.Unlock()
			return
		case <-tick.C:
			now := time.Now()
			m.look(now, b.done.Load())
			if now.Sub(m.began) >= patience {
				b.screen.draw(m.line(*b.text.Load(), b.total.Load()))
			}
		}
	}
}

// meter turns what is done into a line.
type meter struct {
	unit        Unit
	began, last time.Time
	done        int64
	rate        float64 // per second
}

// look takes note of how much is done.
func (m *meter) look(now time.Time, done int64) {
	passed := now.Sub(m.last).Seconds()
	if passed <= 0 {
		return
	}
	rate := max(float64(done-m.done)/passed, 0)
	switch {
	case m.unit == Steps:
		m.rate = float64(done) / now.Sub(m.began).Seconds()
	case m.rate == 0:
		m.rate = rate
	default:
		m.rate += newest * (rate - m.rate)
	}
	m.last, m.done = now, done
}

// line is what is shown.
func (m *meter) line(text string, total int64) string {
	parts := []string{text}
	known := total > 0 && m.done <= total
	if known {
		// Never 100 % of what goes on.
		parts = append(parts, fmt.Sprintf("%d %%", min(int64(float64(m.done)/float64(total)*100), 99)))
	}
	if m.unit == Bytes {
		amount := formatBytes(float64(m.done))
		if known {
			amount += " of " + formatBytes(float64(total))
		}
		parts = append(parts, amount, formatBytes(m.rate)+"/s")
	}
	if known && m.rate > 0 && m.done > 0 {
		parts = append(parts, formatLeft(time.Duration(float64(total-m.done)/m.rate*float64(time.Second)))+" left")
	}
	return strings.Join(parts, "  ")
}

func formatBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// formatLeft rounds to what somebody who waits wants to know.
func formatLeft(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0 || d > 100*day: // also what overflowed
		return "very long"
	case d >= day:
		return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", (d+time.Second-1)/time.Second)
	}
}
