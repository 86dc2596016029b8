// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"fmt"

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
// Of a directory that was closed in order, or is past from in nothing, no byte
// changes. Recover may be called again with another offset. Nothing may run
// beside it.
func (s *Set) Recover(from message.Offset, trust Trust) (message.Offset, error) {
	if s.o.ReadOnly {
		return 0, fmt.Errorf("%s: recover: %w", s.o.Dir, ErrReadOnly)
	}
	s.recovered = false
	var sound bool
	var err error
	if trust == TrustNothing {
		sound, err = s.examine(from)
	} else {
		sound, err = s.undo(from)
	}
	if err != nil {
		return 0, fmt.Errorf("key index: %w", err)
	}
	if err := s.findEnd(); err != nil {
		return 0, fmt.Errorf("key index: %w", err)
	}
	s.flushAll = s.flushAll || trust != TrustAll
	s.recovered = true
	if !sound {
		from = min(from, s.End())
	}
	return from, nil
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
	if !s.headerFits(m, h) {
		return 0, false, nil
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
	return n, true, s.conclude(f, m, n, h.SlotsUsed)
}

// headerFits reports whether a header can be that of a file whose writer was
// killed at any moment: then one entry more may be there than it counts.
func (s *Set) headerFits(m Image, h Header) bool {
	n := m.Len()
	var more Entry
	if n+1 < m.Entries {
		more = m.Entry(n + 1)
	}
	if h.Count < 1 || int(h.Count) > m.Entries || more.Hash < 0 {
		return false
	}
	if n+2 < m.Entries && m.Entry(n+2) != (Entry{}) {
		return false
	}
	if n == 0 {
		return true
	}
	first, last := m.Entry(1), m.Entry(n)
	if h.BeginOffset != first.Offset || !s.storedAt(first.Offset, h.BeginTime) {
		return false
	}
	if more != (Entry{}) {
		return true // the end may be its own
	}
	return h.EndOffset == last.Offset && s.storedAt(last.Offset, h.EndTime)
}

// storedAt reports whether the record at an offset was stored at a time, as far
// as that can be told.
func (s *Set) storedAt(off message.Offset, t int64) bool {
	m, err := s.o.Record(off)
	return err != nil || m == nil || m.StoreTimestamp == t
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
		pos = m.slotAt(m.SlotOf(e.Hash))
	}
	if err := f.reserve(pos, m.entryAt(k+1)); err != nil {
		return err
	}
	if e.Hash >= 0 {
		m.store32(pos, e.Prev)
	}
	m.putEntry(k, Entry{})
	f.touch(m.entryAt(k + 1))
	return nil
}

// conclude makes n the number of entries, and the header that of the n-th.
func (s *Set) conclude(f *File, m Image, n int, used int32) error {
	if err := f.reserveFront(0); err != nil {
		return err
	}
	first, last := m.Entry(1), m.Entry(n)
	if r, err := s.o.Record(first.Offset); err == nil && r != nil {
		m.store64(beginTimeAt, r.StoreTimestamp)
	}
	m.store64(beginOffsetAt, int64(first.Offset))
	end := m.load64(beginTimeAt) + int64(last.Seconds)*1000 + 999 // as late as it may be
	if r, err := s.o.Record(last.Offset); err == nil && r != nil {
		end = r.StoreTimestamp
	}
	m.store64(endTimeAt, end)
	m.store64(endOffsetAt, int64(last.Offset))
	m.store64(countsAt, int64(used)<<32|int64(n+1))
	f.touch(HeaderSize)
	return nil
}

// mend makes slots and header anew from the entries of records below from, and
// clears what stands behind them. ok is false when the entries contradict each
// other.
func (s *Set) mend(f *File, m Image, from message.Offset) (left int, ok bool, err error) {
	c := m.scan(from)
	if c.bad != nil {
		return 0, false, nil
	}
	// A torn entry can look like one of a record below from: as the last one.
	for c.n > 0 && !s.isKeyed(m, c.n) {
		e := m.Entry(c.n)
		slot := m.SlotOf(e.Hash)
		if c.heads[slot] = e.Prev; e.Prev == 0 {
			c.used--
		}
		c.n--
	}
	if c.n == 0 {
		return 0, true, nil
	}
	for i, head := range c.heads {
		if m.Slot(i) == head {
			continue
		}
		if err := f.reserveFront(m.slotAt(i)); err != nil {
			return 0, false, err
		}
		m.store32(m.slotAt(i), head)
		f.touch(m.slotAt(i) + SlotSize)
	}
	r, err := f.mapped()
	if err != nil {
		return 0, false, err
	}
	if at := m.entryAt(c.n + 1); at < int64(len(m.data)) {
		if err := r.Zero(at, int64(len(m.data))-at); err != nil {
			return 0, false, err
		}
		f.touch(int64(len(m.data)))
	}
	return c.n, true, s.conclude(f, m, c.n, c.used)
}

// isKeyed reports whether entry n is of a record that has expired, or that has
// such a key in that place.
func (s *Set) isKeyed(m Image, n int) bool {
	e := m.Entry(n)
	r, err := s.o.Record(e.Offset)
	if err != nil || r == nil {
		return err == nil
	}
	i := 0
	for n-i > 1 && m.Entry(n-i-1).Offset == e.Offset {
		i++
	}
	found := false
	var text []byte
	_ = eachKey(r, func(key []byte) error {
		text = append(append(append(text[:0], r.Topic...), '#'), key...)
		// The first ones of a record may be in the file before.
		found = found || i <= 0 && positive(message.HashBytes(text)) == e.Hash
		i--
		return nil
	})
	return found
}

// examine mends the files that a power cut may have torn: the newest, and those
// before it that are not full of records below from. It returns false after it
// had to remove one that is not sound, with those behind it.
func (s *Set) examine(from message.Offset) (sound bool, err error) {
	files := s.Files()
	first := len(files)
	for first > 0 {
		m, err := files[first-1].image()
		if err != nil {
			return false, err
		}
		first--
		if n := m.Len(); m.Full() && m.Header().EndOffset < from && m.Entry(n).Offset == m.Header().EndOffset && first < len(files)-1 {
			first++
			break
		}
	}
	for i := first; i < len(files); i++ {
		m, err := files[i].image()
		if err != nil {
			return false, err
		}
		left, ok, err := s.mend(files[i], m, from)
		if err != nil {
			return false, err
		}
		if ok && left == m.Entries-1 {
			continue
		}
		// It is the last one. What stands behind it in the log comes again, unless
		// the next file shows that there was more in it.
		ok = ok && !s.startsBelow(files[i+1:], from)
		if ok && left > 0 {
			i++
		}
		return ok, s.dropFrom(i)
	}
	return true, nil
}

// startsBelow reports whether the first of files begins with a record below from.
func (s *Set) startsBelow(files []*File, from message.Offset) bool {
	if len(files) == 0 {
		return false
	}
	m, err := files[0].image()
	if err != nil {
		return true
	}
	e := m.Entry(1)
	return e != (Entry{}) && e.Offset < from
}

// dropFrom removes the files from number i on, the last one first.
func (s *Set) dropFrom(i int) error {
	var errs []error
	files := s.Files()
	for j := len(files) - 1; j >= i; j-- {
		errs = append(errs, s.drop(files[j]))
	}
	return errors.Join(errs...)
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
