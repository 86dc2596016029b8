// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package warmup has the pages of a mapped byte range present before somebody
// writes to them: what RocketMQ calls warmMappedFile. The first write to a page
// that is not there costs a fault, and under load a fault costs a disk.
//
//	        Plan.Run, slice by slice
//	┌─────────┬─────────┬─────────┬─────────┬──────── ─ ─ ─
//	│ present │ present │ at work │ cold    │ cold
//	└─────────┴─────────┴─────────┴─────────┴──────── ─ ─ ─
//	  advise ▶ touch or populate ▶ lock        then the next slice
//
// A Plan says what to do with a range, a Result what was done, what the system
// refused and why, and what it cost. A refusal is no failure: what can't be
// warmed up is slower, not wrong.
//
// # Invariants
//
// No byte changes. A touch adds 0 to a word of the page, atomically: a store
// that another goroutine makes to the same word meanwhile is not lost, on any
// processor that Go runs on. Populating is the kernel's and never writes. So a
// range may be warmed up while it is appended to.
//
// Locking comes last: locking a cold page has it present for reading only, and
// the first write still faults.
//
// # Who owns what
//
// The package keeps no state and starts no goroutine. The bytes are the
// caller's, who keeps them mapped until the call returns, and who guards against
// the fault of a file that was cut (mappedfile.Guard): touching meets it,
// populating returns it.
//
// # What is on disk after a crash
//
// The same bytes as without it. Pages that were touched or populated are dirty,
// though they hold what they held: the next sync of the file writes them.
//
// On other systems than Linux pages are touched, and everything else is refused
// with errors.ErrUnsupported.
package warmup
