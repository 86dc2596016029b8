// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
)

var (
	// ErrSizes is returned when the files of a directory do not tell how many
	// slots and entries they have, or for sizes that are impossible.
	ErrSizes = errors.New("numbers of index slots and entries not known")
	// ErrReadOnly is returned by changes to a Set that was opened read-only.
	ErrReadOnly = mappedfile.ErrReadOnly
	// ErrNoRecord is what Options.Record returns when no intact record begins
	// where it was asked for one.
	ErrNoRecord = errors.New("no record")
	// ErrNotRecovered is returned by Put before Recover.
	ErrNotRecovered = errors.New("index not recovered")
)

// What can be wrong with the bytes of a file. A DamageError around it says where.
var (
	// ErrHeader marks a header that the entries contradict.
	ErrHeader = errors.New("header does not fit the entries")
	// ErrSlot marks a slot that names an entry that is not there, or not the
	// newest of its chain.
	ErrSlot = errors.New("slot does not name the newest entry of its chain")
	// ErrChain marks an entry that stands in the chain of another slot, or whose
	// predecessor is not older than itself, as in a loop.
	ErrChain = errors.New("broken chain")
	// ErrEntry marks an entry that no writer makes: its hash or its time is
	// negative, or its offset lies before that of the entry in front of it.
	ErrEntry = errors.New("impossible entry")
)

// DamageError says where a file is damaged.
type DamageError struct {
	Path  string
	Slot  int // -1 when it is not about one
	Entry int // 0 when it is not about one
	Cause error
}

// Error implements error.
func (e *DamageError) Error() string {
	switch {
	case e.Entry > 0 && e.Slot >= 0:
		return fmt.Sprintf("%s: slot %d, entry %d: %v", e.Path, e.Slot, e.Entry, e.Cause)
	case e.Entry > 0:
		return fmt.Sprintf("%s: entry %d: %v", e.Path, e.Entry, e.Cause)
	case e.Slot >= 0:
		return fmt.Sprintf("%s: slot %d: %v", e.Path, e.Slot, e.Cause)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Cause)
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Cause }
