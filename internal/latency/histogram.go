// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package latency counts durations in a histogram of high dynamic range: from a
// nanosecond to ten minutes, each to two digits.
//
// A Histogram takes no memory before its first duration, and 22 KiB after it. Its
// mutex is a leaf, held for some ten nanoseconds. Nothing is on disk.
package latency

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Longest is what a longer duration is counted as, except by Total and Max.
const Longest = 10 * time.Minute

const digits = 2

// Histogram counts durations. The zero value is empty. It is safe for concurrent
// use.
type Histogram struct {
	mu     sync.Mutex
	counts *hdrhistogram.Histogram
	total  time.Duration
	most   time.Duration
}

// Summary is what a Histogram has counted. The percentiles are no lower than the
// true ones, and at most 1 % higher.
type Summary struct {
	Count                           int64
	Total                           time.Duration
	P50, P90, P99, P999, P9999, Max time.Duration
}

// Record counts one duration. A negative one, by a clock that went back, is 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		h.counts = hdrhistogram.New(1, int64(Longest), digits)
	}
	// It fails only for what is above Longest.
	_ = h.counts.RecordValue(int64(min(d, Longest)))
	h.total += d
	h.most = max(h.most, d)
}

// Summary returns what was counted.
func (h *Histogram) Summary() Summary {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		return Summary{}
	}
	at := func(percent float64) time.Duration {
		return min(time.Duration(h.counts.ValueAtQuantile(percent)), h.most)
	}
	return Summary{
		Count: h.counts.TotalCount(), Total: h.total,
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: h.most,
	}
}
