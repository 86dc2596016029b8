// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package watermark provides a position that only grows and that goroutines
// can wait on.
//
// The engine is held together by such positions: appended, flushed and
// dispatched are byte positions in the commit log, and each queue has one
// counted in messages. The side that advances a mark pays an atomic store when
// nobody waits. The side that waits never polls: it parks on a channel until
// the mark has reached its target, the mark has failed, its context is done or
// its time is up.
//
// A Mark is safe for concurrent use. The mutexes inside it are leaves: no other
// lock is ever taken while one of them is held, but freeMu inside mu.
package watermark

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrTimeout is returned by Wait when its timeout ran out before the mark
// reached the target.
var ErrTimeout = errors.New("watermark: timeout")

// Mark is a position that only grows. Its zero value stands at 0.
type Mark struct {
	value   atomic.Int64
	waiting atomic.Int32 // waiters that are parked, or about to be

	mu      sync.Mutex
	waiters []*waiter
	failure error

	// A lock of its own: those who were woken give their waiters back while
	// others are still being woken, and new ones queue up.
	freeMu sync.Mutex
	free   []*waiter
}

// waiter is one parked goroutine. Waiters are kept with their channel and timer
// so that waiting allocates nothing once the program is warm. They are kept per
// Mark, not in a global pool: a channel that was made inside a testing/synctest
// bubble must not be met outside of it.
type waiter struct {
	target int64
	done   chan error
	timer  *time.Timer // nil until a wait with a timeout needs one
}

// maxFree bounds the waiters that a mark keeps for reuse.
const maxFree = 256

// Load returns the position.
func (m *Mark) Load() int64 { return m.value.Load() }

// Reset puts the mark at v, also backwards. It is meant for recovery, before
// any goroutine waits on the mark.
func (m *Mark) Reset(v int64) { m.value.Store(v) }

// Advance moves the mark up to v and wakes whoever waited for a position up to
// it. A v at or below the present position changes nothing.
func (m *Mark) Advance(v int64) {
	for {
		cur := m.value.Load()
		if v <= cur {
			return
		}
		if m.value.CompareAndSwap(cur, v) {
			break
		}
	}
	if m.waiting.Load() > 0 {
		m.wake()
	}
}

// wake answers those whose target is reached. To wake a goroutine takes longer
// than to take it off the list, so it is done without the lock, some at a time.
func (m *Mark) wake() {
	var some [64]*waiter
	for {
		n := m.take(some[:])
		for _, w := range some[:n] {
			w.done <- nil
		}
		if n < len(some) {
			return
		}
	}
}

// take moves waiters whose target is reached from the list to some, the first
// ones, and returns how many.
func (m *Mark) take(some []*waiter) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.value.Load()
	kept := m.waiters[:0]
	for _, w := range m.waiters {
		if w.target > v || n == len(some) {
			kept = append(kept, w)
			continue
		}
		some[n] = w
		n++
	}
	clear(m.waiters[len(kept):])
	m.waiters = kept
	return n
}

// Fail ends every wait, present and future, for a position that the mark has
// not reached: they return err. The first failure stays; later ones are
// ignored. Load and Advance go on working.
func (m *Mark) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		return
	}
	m.failure = err
	v := m.value.Load()
	for _, w := range m.waiters {
		if w.target <= v {
			w.done <- nil
		} else {
			w.done <- err
		}
	}
	clear(m.waiters)
	m.waiters = m.waiters[:0]
}

// Wait returns nil once the mark has reached target. Otherwise it returns the
// error given to Fail, ErrTimeout after the timeout (0 waits without end), or
// the cause of ctx.
func (m *Mark) Wait(ctx context.Context, target int64, timeout time.Duration) error {
	if m.value.Load() >= target {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	m.mu.Lock()
	// Checked again behind the announcement in m.waiting: an Advance that did
	// not see it has stored its value before, so this load sees that.
	if m.value.Load() >= target {
		m.mu.Unlock()
		return nil
	}
	if m.failure != nil {
		err := m.failure
		m.mu.Unlock()
		return err
	}
	w := m.park(target)
	m.mu.Unlock()
	defer m.recycle(w)

	var expired <-chan time.Time
	if timeout > 0 {
		if w.timer == nil {
			w.timer = time.NewTimer(timeout)
		} else {
			w.timer.Reset(timeout)
		}
		defer w.timer.Stop()
		expired = w.timer.C
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return m.leave(w, context.Cause(ctx))
	case <-expired:
		return m.leave(w, ErrTimeout)
	}
}

// park puts a waiter for target on the list. m.mu is held.
func (m *Mark) park(target int64) *waiter {
	w := m.reuse()
	if w == nil {
		w = &waiter{done: make(chan error, 1)}
	}
	w.target = target
	m.waiters = append(m.waiters, w)
	return w
}

// reuse returns a waiter that was recycled, or nil.
func (m *Mark) reuse() *waiter {
	m.freeMu.Lock()
	defer m.freeMu.Unlock()
	n := len(m.free)
	if n == 0 {
		return nil
	}
	w := m.free[n-1]
	m.free = m.free[:n-1]
	return w
}

// recycle keeps w, which is on no list and whose channel is empty.
func (m *Mark) recycle(w *waiter) {
	m.freeMu.Lock()
	defer m.freeMu.Unlock()
	if len(m.free) < maxFree {
		m.free = append(m.free, w)
	}
}

// leave takes w off the list and returns err, unless w was taken off meanwhile:
// then its answer counts, which is there or on its way, and the channel must be drained before the waiter
// goes back to the pool.
func (m *Mark) leave(w *waiter, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, x := range m.waiters {
		if x == w {
			last := len(m.waiters) - 1
			m.waiters[i] = m.waiters[last]
			m.waiters[last] = nil
			m.waiters = m.waiters[:last]
			return err
		}
	}
	return <-w.done
}
