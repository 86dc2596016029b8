// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// firstStoreTime returns the store time of the record that begins a file, and
// false when none does.
func firstStoreTime(f *mappedfile.File) (int64, bool) {
	m, ok := recordAt(f, f.Base())
	return m.StoreTimestamp, ok
}

// intactAt reports whether an intact record stands at an offset of the log that
// f holds.
func intactAt(f *mappedfile.File, off int64) bool {
	_, ok := recordAt(f, off)
	return ok
}

// recordAt decodes the record at an offset of the log that f holds. What the
// result borrowed is cut off, so it outlives the mapping.
func recordAt(f *mappedfile.File, off int64) (message.Message, bool) {
	var m message.Message
	v, err := f.View(off-f.Base(), f.End()-off)
	if err != nil {
		return m, false
	}
	defer v.Release()
	dec := message.Decoder{Check: message.CheckAll}
	ok := dec.Decode(v.Bytes(), &m) == nil && int64(m.PhysicalOffset) == off
	m.Body, m.Properties = nil, message.Properties{}
	return m, ok
}

// guard runs do and turns a fault in mapped memory into ErrUnreadable.
func guard(do func() error) error { return unreadable(mappedfile.Guard(do)) }

// unreadable is ErrUnreadable for a memory fault, once.
func unreadable(err error) error {
	if err == nil || !errors.Is(err, mappedfile.ErrFault) || errors.Is(err, ErrUnreadable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreadable, err)
}
