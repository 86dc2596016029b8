// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
)

var (
	// ErrNotStore marks a path that is no store: it is missing, is no
	// directory, or has nothing of a store in it. The text says which; a
	// missing one is an fs.ErrNotExist as well.
	ErrNotStore = layout.ErrNotStore
	// ErrUnsupportedLayout is what a LayoutError unwraps to.
	ErrUnsupportedLayout = layout.ErrUnsupported
	// ErrNoQueue is returned for a topic and queue without a consume queue.
	ErrNoQueue = errors.New("no such queue")
	// ErrNoIndexFile is returned for an index file, or a slot of one, that is not
	// there.
	ErrNoIndexFile = errors.New("no such index file")
	// ErrWrongID is returned for a message id that is of no message here.
	ErrWrongID = errors.New("no message of this store has the id")
	// ErrEntry marks a queue entry that names no record, or another queue's.
	ErrEntry = errors.New("queue entry does not fit its record")
	// ErrUndeliverable marks a delayed message that can't be delivered.
	ErrUndeliverable = errors.New("undeliverable")
	// ErrUnreadable marks bytes that the file system could not deliver: a
	// failing disk, or a file that became shorter while it was read.
	ErrUnreadable = errors.New("unreadable bytes")
)

// LayoutError names a layout that is not read, and what gave it away: consume
// queues in RocksDB, a log wrapped by DLedger, a commit log spread over several
// directories.
type LayoutError = layout.Error

// DamageError is a stretch of the commit log that holds no intact record.
type DamageError struct {
	// Skipped is how many bytes lie between the start of the damage and the
	// next intact record, filler included. It is 0 when none follows: then
	// nothing is known about how far the damage goes.
	Skipped int64
	// Corrupt says where the damage begins and what is wrong there.
	Corrupt *commitlog.CorruptError
}

// Error implements error.
func (e *DamageError) Error() string {
	if e.Skipped == 0 {
		return fmt.Sprintf("%v; no intact record follows", e.Corrupt)
	}
	return fmt.Sprintf("%v; %d bytes skipped, the next intact record is at offset %d",
		e.Corrupt, e.Skipped, e.Corrupt.Offset+message.Offset(e.Skipped))
}

// Unwrap returns the commit log's own error.
func (e *DamageError) Unwrap() error { return e.Corrupt }
