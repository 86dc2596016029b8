// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/message"
)

var (
	// ErrOffsetOutOfRange is what an OffsetError wraps.
	ErrOffsetOutOfRange = errors.New("queue offset out of range")
	// ErrInvalidEntry is returned by Put for an entry that is not Valid.
	ErrInvalidEntry = errors.New("invalid entry")
	// ErrNotRecovered is returned by changes to a queue that has files and was
	// not recovered since OpenSet, so that its end is not known.
	ErrNotRecovered = errors.New("queue not recovered")
	// ErrRemoved is returned by reads and waits on a queue that was removed.
	ErrRemoved = errors.New("queue removed")
	// ErrBadName is returned for a topic that is no name of a directory, and
	// for a negative queue id.
	ErrBadName = errors.New("impossible queue name")
	// ErrNoStoreTime is returned by a search by time in a set without
	// Options.StoreTime.
	ErrNoStoreTime = errors.New("no store times")
	// ErrInnerBatch is why a record whose body is a batch that the reader unwraps
	// is in no queue: such records have batch consume queues of their own.
	ErrInnerBatch = errors.New("inner batches are not supported")
	// ErrGap says that a queue lacks the entries before a record: it does not fit
	// the log.
	ErrGap = errors.New("queue has a gap")
)

// EntryError says which entry of a queue is damaged. Cause tells how.
type EntryError struct {
	Path  string // the file, "" when it is not there any more
	Topic string
	Queue int32
	At    message.QueueOffset
	Cause error
}

// Error implements error.
func (e *EntryError) Error() string {
	return fmt.Sprintf("%s: damaged entry of %s/%d at offset %d: %v", e.Path, e.Topic, e.Queue, e.At, e.Cause)
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Cause }

// OffsetError says that a queue has no entry at From. It wraps
// ErrOffsetOutOfRange.
type OffsetError struct {
	Topic    string
	Queue    int32
	From     message.QueueOffset
	Min, Max message.QueueOffset // the queue's range at that moment, Max excluded
}

// Error implements error.
func (e *OffsetError) Error() string {
	return fmt.Sprintf("%s/%d: %v: %d is outside [%d, %d)", e.Topic, e.Queue, ErrOffsetOutOfRange, e.From, e.Min, e.Max)
}

// Unwrap returns ErrOffsetOutOfRange.
func (e *OffsetError) Unwrap() error { return ErrOffsetOutOfRange }
