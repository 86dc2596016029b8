// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import "sync/atomic"

// Path counts what went one way.
type Path struct {
	Bytes int64 // that the writer took
	// Calls are the system calls that moved bytes, those that found the socket
	// full included: for Splice and ReadWrite both halves, and for what is not a
	// socket the calls of Write.
	Calls int64
}

// Stats is a snapshot of what a Sender did.
type Stats struct {
	Sends, Failed int64 // Failed is how many of the Sends ended with an error
	Runs          int64 // that were to be sent
	Cold          int64 // groups of runs of which something was not in memory
	paths         [Methods]Path
}

// Of returns what went by m.
func (s Stats) Of(m Method) Path {
	if m < Methods {
		return s.paths[m]
	}
	return Path{}
}

// Bytes is what went out by all methods together.
func (s Stats) Bytes() (n int64) {
	for _, p := range s.paths {
		n += p.Bytes
	}
	return n
}

// Calls are those of all methods together.
func (s Stats) Calls() (n int64) {
	for _, p := range s.paths {
		n += p.Calls
	}
	return n
}

type pathCount struct{ bytes, calls atomic.Int64 }

type counters struct {
	sends, failed, runs, cold atomic.Int64
	paths                     [Methods]pathCount
}

// Stats returns a snapshot.
func (s *Sender) Stats() Stats {
	c := &s.counters
	st := Stats{Sends: c.sends.Load(), Failed: c.failed.Load(), Runs: c.runs.Load(), Cold: c.cold.Load()}
	for m := range c.paths {
		st.paths[m] = Path{Bytes: c.paths[m].bytes.Load(), Calls: c.paths[m].calls.Load()}
	}
	return st
}
