// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"errors"
	"fmt"
)

// What an encoder or a property refuses. Errors that wrap these say where and which limit.
var (
	ErrEmptyTopic         = errors.New("message: topic is empty")
	ErrTopicTooLong       = errors.New("message: topic is too long")
	ErrTopicChars         = errors.New("message: topic has a character outside % | a-z A-Z 0-9 _ -")
	ErrNegativeQueue      = errors.New("message: queue id is negative")
	ErrBodyTooLarge       = errors.New("message: body is too large")
	ErrPropertiesTooLarge = errors.New("message: properties are too large")
	ErrBadProperty        = errors.New("message: bad property")
	ErrBadDelay           = errors.New("message: bad delay levels")
	ErrBadBatch           = errors.New("message: bad batch")
	ErrBadID              = errors.New("message: bad message id")
	ErrTagExpression      = errors.New("message: bad tag expression")
)

// What a compressed body can be refused for.
var (
	ErrBadCompression       = errors.New("message: bad compressed body")
	ErrDecompressedTooLarge = errors.New("message: decompressed body is too large")
)

// The kinds of a DecodeError. ErrNegativeQueue is one too.
var (
	// ErrShort means that more bytes are needed; Want says how many in all.
	ErrShort       = errors.New("message: not enough bytes")
	ErrMagic       = errors.New("message: no magic number of a record")
	ErrLength      = errors.New("message: impossible length")
	ErrTopic       = errors.New("message: impossible topic")
	ErrHost        = errors.New("message: impossible host")
	ErrBodyCRC     = errors.New("message: body CRC does not match")
	ErrPropertyCRC = errors.New("message: property CRC does not match")
)

// DecodeError says what is wrong with a record, and in which field. It unwraps to Kind.
// It knows positions in the record only; file and offset are added by who knows them.
type DecodeError struct {
	Kind  error  // one of the sentinels above
	Field string // the name of the field in the format, such as BODYLEN
	At    int    // where the field starts, in bytes from the start of the record
	Want  int64  // what the field or the record should hold, or the limit that it breaks
	Got   int64  // what it holds
}

func (e *DecodeError) Error() string {
	//nolint:errorlint // Kind is a sentinel, never wrapped
	switch e.Kind {
	case ErrShort:
		return fmt.Sprintf("%v: need %d, have %d", e.Kind, e.Want, e.Got)
	case ErrTopic:
		return fmt.Sprintf("%v: %d bytes at byte %d are no name of a directory", e.Kind, e.Got, e.At)
	case ErrMagic, ErrBodyCRC, ErrPropertyCRC:
		return fmt.Sprintf("%v: %s at byte %d is %#x, want %#x", e.Kind, e.Field, e.At, e.Got, e.Want)
	}
	return fmt.Sprintf("%v: %s at byte %d is %d, and %d is what fits", e.Kind, e.Field, e.At, e.Got, e.Want)
}

func (e *DecodeError) Unwrap() error { return e.Kind }
