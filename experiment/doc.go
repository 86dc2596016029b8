// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package experiment measures what a store can do on the machine at hand, and
// what the machine could do at best.
//
//	Append ─┐                          ┌─▶ WriteTable
//	Flush  ─┼─▶ rounds ─▶ Report ──────┼─▶ JSON
//	  …    ─┘    │                     └─▶ WriteHTML
//	             └─ a case after the other, and again; in each:
//	                store in an empty directory ─▶ load ─▶ figures
//	                bare loop in the same directory ─▶ floor
//
// # What a figure is
//
// Each case is measured in several rounds, and in a round all cases take turns:
// a slow spell of the machine then meets all of them. A figure is the median of
// the rounds; a percentile is the median of the rounds' percentiles; a maximum is
// the greatest of all. What runs first is discarded.
//
// In the same round, right after the case, its floor is measured: a loop that
// does only what can't be done without. The ratio of the two is what says
// something about the store; the figure alone is mostly about the machine. How
// far the floor was apart between rounds says how even the machine was, and a
// report warns when that is more than NoisyAbove.
//
// # Measuring costs
//
// A look at the clock takes a good part of the time of an append to memory. So
// throughput is measured without one, and latencies in a pass of their own. At a
// rate, latencies count from the moment at which an append was due, so that what
// waits behind a slow one counts as slow; the loop that keeps the rate spins, for
// a timer is a millisecond late, and is measured alone too.
//
// # Goroutines and locks
//
// An experiment runs on the goroutine that calls it, with one more for each
// producer, all of which have ended when a pass ends. A producer has its message,
// its queue and its histogram for itself, so there are no locks. A Report is
// written by its experiment and belongs to the caller afterwards.
//
// # What is on disk after a crash
//
// A directory stele-bench-* in Schedule.Dir, which nobody needs. It is removed
// when an experiment ends, also by an error or a cancelled context.
package experiment
