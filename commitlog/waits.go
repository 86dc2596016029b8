// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import "time"

// Waits says where one append, or one batch, spent time that is no work of its
// own.
type Waits struct {
	// Lock is for the append lock, which another append held.
	Lock time.Duration
	// Roll is for the next file, and for going on to it.
	Roll time.Duration
	// Copy is how long a copy into the mapping took that was slower than memory
	// is: its pages were cold, or being written back. 0 for all others.
	Copy time.Duration
	// Commit is for writing to the file, with WriteFile, or for others who did.
	Commit time.Duration
}

// lock takes the append lock. Only an append that does not get it at once looks
// at the clock.
func (l *Log) lock(w *Waits) {
	if w == nil {
		l.mu.Lock()
		return
	}
	if l.mu.TryLock() {
		return
	}
	start := time.Now()
	l.mu.Lock()
	w.Lock = time.Since(start)
}

// copyTimer times copies into the mapping that may meet a page fault. To look at
// the clock costs half of what it costs to append a short record, so those are
// passed over that go to a page that is known to be there: the one that the
// append before wrote to, unless a flush began or ended since, which takes the
// right to write from all pages that it covers. It belongs to the append lock.
type copyTimer struct {
	page    int64
	flushes int64
}

// clockBase makes reading the clock cheap: only the monotonic one is read.
var clockBase = time.Now()

// due reports whether a copy that ends at end is timed.
func (c *copyTimer) due(end, flushes int64) bool {
	if page := (end - 1) / pageSize; page != c.page || flushes != c.flushes {
		c.page, c.flushes = page, flushes
		return true
	}
	return false
}

// A copy is slow that takes longer than slowCopy and a nanosecond for two bytes.
// Memory takes a quarter of that; a fault takes 5 µs at least, and mostly 50.
const slowCopy = 2 * time.Microsecond

// startCopy returns when a copy began that ends at the offset end of the log, or
// -1 when it is not timed.
func (l *Log) startCopy(w *Waits, end int64) time.Duration {
	if w == nil || !l.direct || !l.copies.due(end, l.flushing.Load()) {
		return -1
	}
	return time.Since(clockBase)
}

// endCopy notes a copy of n bytes that was slow.
func (l *Log) endCopy(w *Waits, start time.Duration, n int) {
	if start < 0 {
		return
	}
	if took := time.Since(clockBase) - start; took > slowCopy+time.Duration(n/2) {
		w.Copy += took
	}
}
