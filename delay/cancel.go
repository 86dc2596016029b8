// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import "fmt"

// CancelResult is what became of a cancellation.
type CancelResult uint8

const (
	// CancelUnknown: no message waits under that id, and none did.
	CancelUnknown CancelResult = iota
	// Cancelled: it will not be delivered. It may have been cancelled before.
	Cancelled
	// CancelTooLate: it was due, so it has been delivered, or is being delivered,
	// unless it was cancelled before that.
	CancelTooLate
)

var cancelNames = [...]string{"unknown", "cancelled", "already delivered"}

// String says it in words.
func (r CancelResult) String() string {
	if int(r) < len(cancelNames) {
		return cancelNames[r]
	}
	return fmt.Sprintf("CancelResult(%d)", uint8(r))
}

// Cancel keeps the timer x from being delivered, if it is not due yet: put writes
// that down, and until it has returned the message is not delivered. When put
// says that it did not come to pass, the message is delivered after all. The
// error is put's.
func (s *Service) Cancel(x Timer, put func() (done bool, err error)) (CancelResult, error) {
	now := s.now()
	s.mu.Lock()
	switch {
	case x.Due <= now || s.flying == x.At:
		s.mu.Unlock()
		return CancelTooLate, nil
	case s.timers.Settled(x.At):
		// Nothing is delivered before it is due.
		s.mu.Unlock()
		return Cancelled, nil
	}
	s.held[x.At]++
	s.mu.Unlock()

	done, err := put()
	s.mu.Lock()
	if s.held[x.At]--; s.held[x.At] == 0 {
		delete(s.held, x.At)
	}
	if done && s.timers.Settle(x.At) {
		s.counts.cancelled++
	}
	s.mu.Unlock()
	s.kick()
	if !done {
		return CancelUnknown, err
	}
	return Cancelled, err
}
