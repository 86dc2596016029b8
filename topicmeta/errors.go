// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"
)

var (
	// ErrNotOurs is returned when the directory holds files, but not the marker of this package.
	// Nothing in it was changed.
	ErrNotOurs = errors.New("topicmeta: directory belongs to something else")
	// ErrVersion is returned when the directory was written by a newer layout version.
	ErrVersion = errors.New("topicmeta: unknown layout version")
	// ErrCorrupt is returned when an entry of the database does not decode.
	ErrCorrupt = errors.New("topicmeta: corrupt entry")
	// ErrClosed is returned once the Store is closed.
	ErrClosed = errors.New("topicmeta: store is closed")
	// ErrReadOnly is returned when a change was asked of a Store that was opened read-only.
	ErrReadOnly = errors.New("topicmeta: store is read-only")
	// ErrFailed is in the chain of every refusal after a write to disk failed.
	// It lasts until the directory is opened again, or, if there was no room, until
	// a Sync finds some; reads go on.
	ErrFailed = errors.New("topicmeta: an earlier write failed, changes are refused")
	// ErrInvalid is returned when a topic, name, queue, level or offset is outside its limits.
	ErrInvalid = errors.New("topicmeta: invalid value")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// entryError is a database entry that does not decode.
type entryError struct {
	key []byte
	err error
}

func (e *entryError) Error() string { return fmt.Sprintf("%v: key %x: %v", ErrCorrupt, e.key, e.err) }

func (e *entryError) Unwrap() []error { return []error{ErrCorrupt, e.err} }
