// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"errors"
	"fmt"
)

// ErrMalformed is in the chain of every error about the text of a file.
var ErrMalformed = errors.New("brokerconfig: malformed text")

// Error is a fault at one place of one file. Unwrap gives the cause, in whose
// chain ErrMalformed is.
type Error struct {
	Path   string // the file; empty when the text did not come from a file
	Offset int64  // byte offset in the file, from 0
	Line   int    // line, from 1
	Err    error
}

func (e *Error) Error() string {
	path := e.Path
	if path == "" {
		path = "text"
	}
	return fmt.Sprintf("%s: byte %d (line %d): %v", path, e.Offset, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// inFile puts the path into an *Error that err carries.
func inFile(path string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Path = path
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
