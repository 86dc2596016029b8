// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"fmt"
)

var (
	// ErrCut is the cause of a SourceError when a file ends before the bytes that
	// were to be sent: somebody has cut it.
	ErrCut = errors.New("file is shorter than it was")
	// ErrUnsupported is returned for a method that the system, the source or the
	// writer can't do. Auto never chooses one.
	ErrUnsupported = fmt.Errorf("way to send: %w", errors.ErrUnsupported)
)

// SourceError says that bytes that were to be sent can't be had. Every other
// error of a Send is about the connection.
type SourceError struct {
	Path   string
	Offset int64 // of the first byte that was not sent, in the log
	// Cause is ErrCut, what the system said, or a memory fault.
	Cause error
}

// Error implements error.
func (e *SourceError) Error() string {
	return fmt.Sprintf("%s: bytes from offset %d can't be read: %v", e.Path, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Cause }

func (r Run) failed(at int64, cause error) error {
	return &SourceError{Path: r.Source.Path, Offset: r.Source.Base + at, Cause: cause}
}
