// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package progress shows on a terminal how far a piece of work has come: how
// much is done, how fast it goes, and how long it will take.
//
//	stderr ◀── Screen ◀── words (Write)
//	             ▲  ▲──── data that is seen on the same terminal (Beside)
//	             └─────── Bar: one line that is drawn again and again
//
// # Invariants
//
// Nothing but words is written to a Screen that is no terminal. Work that takes
// less than a second shows nothing. A line of progress never mixes with words or
// data: it is taken away before them and drawn again when they have ended their
// line.
//
// # Ownership and concurrency
//
// A Screen and a Bar are safe for concurrent use. The goroutine of a Bar ends in
// Stop, which waits for it. What is measured pays an atomic addition; drawing is
// the goroutine's own business.
package progress
