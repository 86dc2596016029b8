// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"sync/atomic"
	"time"

	"github.com/stelelog/stele/warmup"
)

const (
	// blockSize is how much of a file is looked at together. To ask about 64
	// pages takes as long as to ask about one (0.6 µs), and most of that is the
	// call: so what was found is kept for a moment.
	blockSize = 256 << 10
	// knownFor is how long a block is taken to be in memory after that was found.
	// It is rare that one goes meanwhile, and then a page fault is all it costs.
	knownFor = time.Second
	// knownBlocks is how many blocks a Sender remembers: 1 GiB of log, in 32 KiB.
	// Consumers that go through more than that in a second ask again and again.
	knownBlocks = 4096
	pageShift   = 12
)

// residency remembers which blocks of the log were in memory a moment ago. Where
// two blocks share a place the later one is kept, and the other is asked about
// again: nothing depends on it.
type residency struct {
	// Each is where a block begins, in pages of 4 KiB, << 32 | milliseconds since
	// the program began; both cut to 32 bits.
	known [knownBlocks]atomic.Uint64
}

// began is what moments are counted from.
var began = time.Now()

// cold reports whether any page of the runs is not in memory. What can't be told
// is not cold.
func (r *residency) cold(runs []Run, now time.Duration) bool {
	ms := uint64(now.Milliseconds()) & 0xffffffff
	for _, run := range runs {
		for at := run.From / blockSize * blockSize; at < run.To; at += blockSize {
			if r.coldBlock(run, at, ms) {
				return true
			}
		}
	}
	return false
}

// coldBlock looks at the part of a run that lies in the block at a position.
func (r *residency) coldBlock(run Run, at int64, ms uint64) bool {
	number := uint64(run.Source.Base+at) >> pageShift & 0xffffffff
	place := &r.known[(number/(blockSize>>pageShift)^number)%knownBlocks]
	if was := place.Load(); was>>32 == number && was&0xffffffff != 0 && (ms-was)&0xffffffff < uint64(knownFor.Milliseconds()) {
		return false
	}
	data := run.Source.Data
	if resident(data[at:min(at+blockSize, int64(len(data)))]) {
		place.Store(number<<32 | max(ms, 1))
		return false
	}
	return !resident(data[max(at, run.From):min(at+blockSize, run.To)])
}

// resident reports whether all pages of data are in memory, or that can't be
// told.
func resident(data []byte) bool {
	pages, err := warmup.Residency(data)
	if err != nil {
		return true
	}
	for _, p := range pages {
		if p&1 == 0 {
			return false
		}
	}
	return true
}

// willNeed has the kernel begin to read the runs, all of them, before the first
// is waited for. It is advice: what is refused is not done.
func willNeed(runs []Run) {
	for _, r := range runs {
		_ = warmup.Advise(r.bytes(), warmup.WillNeed)
	}
}
