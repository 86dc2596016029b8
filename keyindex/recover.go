// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/stelelog/stele/message"
)

// Trust is what Recover may believe of a directory.
type Trust int

const (
	// TrustAll is for one that was closed in order.
	TrustAll Trust = iota
	// TrustOrder is for one whose owner was killed: everything was written in
	// order, and all of it is there.
	TrustOrder
	// TrustNothing is for one that lost power, or whose owner says nothing: what
	// was written of records at or beyond the offset that Recover is told may be
	// there or not, page by page.
	TrustNothing
)

// Recover makes the Set ready for the records from offset from on: it takes back
// what it knows of them, since they are put again or are gone. It returns the
// offset from which records must be put: from, or a smaller one when a file was
// damaged and removed; then the records from the end of what is left on.
//
// noted is the newest file of the Note, "" where there is none. If it is gone, so
// is what came behind it.
//
// Of a directory that was closed in order, and has no record at or beyond from,
// no byte changes. Recover may be called again with another offset. Nothing may
// run beside it.
func (s *Set) Recover(from message.Offset, trust Trust, noted string) (message.Offset, error) {
	if s.o.ReadOnly {
		return 0, fmt.Errorf("%s: recover: %w", s.o.Dir, ErrReadOnly)
	}
	s.recovered = false
	whole, err := s.keepNoted(noted)
	sound := false
	if err == nil && trust == TrustNothing {
		sound, err = s.examine(from)
	} else if err == nil {
		sound, err = s.undo(from)
	}
	if err == nil {
		err = s.findEnd()
	}
	if err != nil {
		return 0, fmt.Errorf("key index: %w", err)
	}
	s.flushAll = s.flushAll || trust != TrustAll
	s.recovered = true
	if !sound || !whole {
		from = min(from, s.End())
	}
	return from, nil
}

// keepNoted removes the files behind the noted one if that is gone. They may
// have a hole before them.
func (s *Set) keepNoted(noted string) (whole bool, err error) {
	files := s.Files()
	i, there := slices.BinarySearchFunc(files, noted, func(f *File, name string) int { return cmp.Compare(f.name, name) })
	if noted == "" || there {
		return true, nil
	}
	return false, s.dropFrom(i)
}

// record returns the record at an offset, nil where that can't be told since it
// has expired; ok is false when there is none.
func (s *Set) record(off message.Offset) (m *message.Message, ok bool, err error) {
	m, err = s.o.Record(off)
	if errors.Is(err, ErrNoRecord) {
		return nil, false, nil
	}
	return m, err == nil, err
}

// End is the offset of the last record that has an entry, 0 when there is none:
// whether records behind it were put can't be told from the files. It is the
// writer's to call.
func (s *Set) End() message.Offset { return max(s.lastOffset, 0) }

// undo takes entries back, newest first, until it meets one of a record below
// from. It returns false after it had to remove a file that is not sound.
func (s *Set) undo(from message.Offset) (sound bool, err error) {
	sound = true
	for f := s.newest(); f != nil; f = s.newest() {
		m, err := f.image()
		if err != nil {
			return false, err
		}
		left, ok, err := s.takeBack(f, m, from)
		if err == nil && !ok {
			left, ok, err = s.mend(f, m, from)
		}
		if err != nil {
			return false, err
		}
		if ok && left > 0 {
			return sound, nil
		}
		sound = sound && ok
		if err := s.drop(f); err != nil {
			return false, err
		}
	}
	return sound, nil
}

// takeBack undoes the puts of a file from offset from on, and one that was cut
// short. It returns how many entries are left; ok is false when the file
// contradicts itself, which it may have noticed half-way.
func (s *Set) takeBack(f *File, m Image, from message.Offset) (left int, ok bool, err error) {
	h, n := m.Header(), m.Len()
	if ok, err = s.headerFits(m, h); err != nil || !ok {
		return 0, false, err
	}
	if n > 0 && m.Entry(1).Offset >= from {
		return 0, true, nil // the whole file goes
	}
	changed := false
	if n+1 < m.Entries && m.Entry(n+1) != (Entry{}) {
		if changed, ok, err = s.uncounted(f, m, n+1, from); err != nil || !ok {
			return 0, false, err
		}
	}
	for ; n > 0; n-- {
		e := m.Entry(n)
		if e.Offset < from {
			break
		}
		if e.Hash < 0 || m.Slot(m.SlotOf(e.Hash)) != int32(n) || e.Prev < 0 || int(e.Prev) >= n {
			return 0, false, nil
		}
		if err := s.unput(f, m, n, e); err != nil {
			return 0, false, err
		}
		if e.Prev == 0 {
			h.SlotsUsed--
		}
		changed = true
	}
	if n == 0 || !changed && h.EndOffset == m.Entry(n).Offset {
		return n, true, nil
	}
	s.flushAll = true // somebody else was here
	return n, true, s.conclude(f, m, n, h.SlotsUsed)
}

// headerFits reports whether a header can be that of a file whose writer was
// killed at any moment: then one entry more may be there than it counts.
func (s *Set) headerFits(m Image, h Header) (bool, error) {
	n := m.Len()
	var more Entry
	if n+1 < m.Entries {
		more = m.Entry(n + 1)
	}
	if h.Count < 1 || int(h.Count) > m.Entries || more.Hash < 0 {
		return false, nil
	}
	if n+2 < m.Entries && m.Entry(n+2) != (Entry{}) {
		return false, nil
	}
	if n == 0 {
		return true, nil
	}
	first, last := m.Entry(1), m.Entry(n)
	fits, err := s.storedAt(first.Offset, h.BeginTime)
	if err != nil || !fits || h.BeginOffset != first.Offset {
		return false, err
	}
	if more != (Entry{}) {
		return true, nil // the end may be its own
	}
	fits, err = s.storedAt(last.Offset, h.EndTime)
	return fits && h.EndOffset == last.Offset, err
}

// storedAt reports whether the record at an offset was stored at a time, as far
// as that can be told.
func (s *Set) storedAt(off message.Offset, t int64) (bool, error) {
	m, _, err := s.record(off)
	return m == nil || m.StoreTimestamp == t, err
}

// uncounted takes back the entry behind the last one that is counted: its writer
// was killed before it came to that. ok is false when it is whole and was counted
// once: puts of records below from were not cut short.
func (s *Set) uncounted(f *File, m Image, k int, from message.Offset) (changed, ok bool, err error) {
	e := m.Entry(k)
	switch {
	case m.Slot(m.SlotOf(e.Hash)) != int32(k):
		e.Hash = -1 // it had not come to its slot either
	case e.Offset < from:
		return false, false, nil
	}
	return true, true, s.unput(f, m, k, e)
}

// unput clears entry k and gives its slot, unless its hash is negative, back to
// the entry before it.
func (s *Set) unput(f *File, m Image, k int, e Entry) error {
	pos := int64(0)
	if e.Hash >= 0 {
		pos = m.SlotAt(m.SlotOf(e.Hash))
	}
	if err := f.reserve(pos, m.EntryAt(k+1)); err != nil {
		return err
	}
	if e.Hash >= 0 {
		m.store32(pos, e.Prev)
	}
	m.putEntry(k, Entry{})
	f.touch(m.EntryAt(k + 1))
	return nil
}

// findEnd finds the last record that has entries, and how many.
func (s *Set) findEnd() error {
	s.tail, s.image, s.lastOffset, s.lastCount = nil, Image{}, -1, 0
	files := s.Files()
	for i := len(files) - 1; i >= 0; i-- {
		m, err := files[i].image()
		if err != nil {
			return err
		}
		if s.tail == nil {
			s.tail, s.image = files[i], m
		}
		for k := m.Len(); k > 0; k-- {
			e := m.Entry(k)
			if s.lastOffset < 0 {
				s.lastOffset = e.Offset
			}
			if e.Offset != s.lastOffset {
				return nil
			}
			s.lastCount++
		}
	}
	return nil
}
