// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// View returns the n bytes at off, which must lie below Committed and in one
// file. The caller must Release it. The error wraps ErrExpired, ErrOutOfRange,
// ErrClosed, or says why the file can't be mapped.
func (l *Log) View(off message.Offset, n int32) (mappedfile.View, error) {
	if end := l.Committed(); off < 0 || n < 0 || off > end-message.Offset(n) {
		return mappedfile.View{}, fmt.Errorf("%s: %w: [%d, %d), committed is %d", l.o.Dir, ErrOutOfRange, off, int64(off)+int64(n), end)
	}
	v, err := l.files.View(int64(off), int64(n))
	return v, l.noBytes(err)
}

// noBytes puts an error of mappedfile in the terms of this package.
func (l *Log) noBytes(err error) error {
	switch {
	case err == nil:
		return nil
	case l.closed.Load():
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, mappedfile.ErrExpired):
		return fmt.Errorf("%w: %w", ErrExpired, err)
	case errors.Is(err, mappedfile.ErrOutOfRange):
		return fmt.Errorf("%w: %w", ErrOutOfRange, err)
	default:
		return err
	}
}

// ViewRecord returns the record that begins at off. Its size and magic number
// were looked at, and that it claims to stand at off; nothing else. The error
// is that of View, a CorruptError when no record begins there, or a
// mappedfile.FaultError.
func (l *Log) ViewRecord(off message.Offset) (v mappedfile.View, err error) {
	err = mappedfile.Guard(func() error {
		v, err = l.viewRecord(off)
		return err
	})
	return v, err
}

func (l *Log) viewRecord(off message.Offset) (mappedfile.View, error) {
	head, err := l.View(off, message.FillerSize)
	if err != nil {
		return head, err
	}
	defer head.Release()
	size, kind, err := message.Peek(head.Bytes())
	path := head.File().Path()
	switch {
	case err == nil && kind == message.KindFiller:
		err = fmt.Errorf("%w: a filler", message.ErrMagic)
	case err == nil && kind == message.KindEmpty:
		err = ErrEmpty
	}
	if err != nil {
		return mappedfile.View{}, &CorruptError{Path: path, Offset: off, Cause: err}
	}
	v, err := l.View(off, int32(size))
	if errors.Is(err, ErrOutOfRange) {
		err = &CorruptError{Path: path, Offset: off, Cause: err}
	}
	if err != nil {
		return mappedfile.View{}, err
	}
	held := v
	defer held.Release() // also when the next line faults
	if at := message.Record(v.Bytes()).PhysicalOffset(); at != off {
		return mappedfile.View{}, &CorruptError{Path: path, Offset: off, Cause: fmt.Errorf("%w: it says %d", ErrPosition, at)}
	}
	held = mappedfile.View{}
	return v, nil
}
