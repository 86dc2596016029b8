// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/message"
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("commit log closed")
	// ErrPoisoned is returned by every append after a flush failed, or a write
	// to the mapping. What the kernel did with the pages of a failed flush
	// cannot be known, so nothing is acknowledged any more; reads go on.
	// Reopening recovers what is there.
	ErrPoisoned = errors.New("commit log poisoned by a failed flush or write")
	// ErrFlushTimeout is returned when a message is in the log but its flush
	// was not confirmed in time: it may or may not be durable.
	ErrFlushTimeout = errors.New("stored, but the flush was not confirmed in time")
	// ErrRecordTooLarge is returned for a record that can't fit in a file.
	ErrRecordTooLarge = errors.New("record too large for a commit log file")
	// ErrBatchTooLarge is returned for a batch that can't fit in a file: a
	// batch is never split over two.
	ErrBatchTooLarge = errors.New("batch too large for a commit log file")
	// ErrOutOfRange is returned for an offset that holds nothing (yet).
	ErrOutOfRange = errors.New("offset outside the commit log")
	// ErrExpired is returned for an offset whose file was removed.
	ErrExpired = errors.New("offset expired")
	// ErrPosition marks a record that claims to stand somewhere else.
	ErrPosition = errors.New("physical offset is not the record's position")
	// ErrFiller marks a filler whose size is not what is left of its file.
	ErrFiller = errors.New("filler does not close its file")
	// ErrEmpty marks zeros where a record was expected.
	ErrEmpty = errors.New("zeros where a record was expected")
	// ErrStale marks a record that stood behind the end of the log when newer
	// ones were written before it.
	ErrStale = errors.New("old record behind a newer end")
	// ErrTorn marks a record whose last bytes, and with them its property CRC,
	// never reached the disk.
	ErrTorn = errors.New("properties end in zeros")
)

// CorruptError says which bytes of the log are damaged. Cause tells how: it
// wraps ErrPosition, ErrFiller, ErrEmpty, ErrTorn, ErrStale or an error of package message.
type CorruptError struct {
	Path   string         // the file
	Offset message.Offset // of the damaged record, in the log
	Cause  error
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: damaged record at offset %d: %v", e.Path, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Cause }
