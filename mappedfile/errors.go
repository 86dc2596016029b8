// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"fmt"
	"strconv"
)

// What can be wrong with a directory of files, or with a request for bytes in
// it. Each is wrapped in a FileError, or in text that says which offset.
var (
	// ErrStrayFile marks a file whose name is not 20 decimal digits, or is a
	// number so high that the file would end beyond the last int64.
	ErrStrayFile = errors.New("stray file")
	// ErrFileSize marks a file that is not as long as the others, or not as
	// long as was asked for.
	ErrFileSize = errors.New("wrong file size")
	// ErrMissingFile marks a hole in the run of files.
	ErrMissingFile = errors.New("missing file")
	// ErrExpired is returned for an offset below the first file, and for one
	// whose file was removed meanwhile.
	ErrExpired = errors.New("offset lies in a removed file")
	// ErrOutOfRange is returned for bytes beyond the last file, and for bytes
	// that would straddle two files.
	ErrOutOfRange = errors.New("bytes lie outside the files")
	// ErrReadOnly is returned by changes to a Queue that was opened read-only.
	ErrReadOnly = errors.New("opened read-only")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
	// ErrLocked is returned, inside a LockedError, when another process (or
	// another part of this one) holds a lock file.
	ErrLocked = errors.New("locked")
	// ErrDiskFull is returned when space for a file could not be reserved.
	ErrDiskFull = errors.New("disk full")
)

// FileError says which file is wrong and how. Want and Got are byte lengths or
// base offsets, as the cause says; both are 0 where they mean nothing.
type FileError struct {
	Path  string
	Cause error // one of the sentinels of this package
	Want  int64
	Got   int64
}

// Error implements error.
func (e *FileError) Error() string {
	switch {
	case errors.Is(e.Cause, ErrFileSize):
		return fmt.Sprintf("%s: %v: %d bytes, want %d", e.Path, e.Cause, e.Got, e.Want)
	case errors.Is(e.Cause, ErrMissingFile):
		return fmt.Sprintf("%s: %v: the next file begins at %d", e.Path, e.Cause, e.Got)
	default:
		return fmt.Sprintf("%s: %v", e.Path, e.Cause)
	}
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Cause }

// LockedError names the holder of a lock file.
type LockedError struct {
	Path string
	PID  int // 0 when the holder cannot be told, as across PID namespaces
}

// Error implements error.
func (e *LockedError) Error() string {
	holder := "by an unknown process"
	if e.PID != 0 {
		holder = "by process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("%s: locked %s", e.Path, holder)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }
