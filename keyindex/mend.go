// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"

	"github.com/stelelog/stele/message"
)

// conclude makes n the number of entries, and the header that of the n-th.
func (s *Set) conclude(f *File, m Image, n int, used int32) error {
	if err := f.reserveFront(0); err != nil {
		return err
	}
	first, last := m.Entry(1), m.Entry(n)
	r, _, err := s.record(first.Offset)
	if err != nil {
		return err
	}
	if r != nil {
		m.store64(beginTimeAt, r.StoreTimestamp)
	}
	m.store64(beginOffsetAt, int64(first.Offset))
	end := m.load64(beginTimeAt) + int64(last.Seconds)*1000 + 999 // as late as it may be
	if r, _, err = s.record(last.Offset); err != nil {
		return err
	}
	if r != nil {
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
	if sound := c.bad == nil; !sound {
		return 0, false, nil
	}
	// A torn entry can look like one of a record below from: as the last one.
	for c.n > 0 {
		if ok, err = s.isKeyed(m, c.n); err != nil {
			return 0, false, err
		}
		if ok {
			break
		}
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
		if err := f.reserveFront(m.SlotAt(i)); err != nil {
			return 0, false, err
		}
		m.store32(m.SlotAt(i), head)
		f.touch(m.SlotAt(i) + SlotSize)
	}
	r, err := f.mapped()
	if err != nil {
		return 0, false, err
	}
	if at := m.EntryAt(c.n + 1); at < int64(len(m.data)) {
		if err := r.Zero(at, int64(len(m.data))-at); err != nil {
			return 0, false, err
		}
		f.touch(int64(len(m.data)))
	}
	return c.n, true, s.conclude(f, m, c.n, c.used)
}

// isKeyed reports whether entry n is of a record that has expired, or that has
// such a key in that place.
func (s *Set) isKeyed(m Image, n int) (bool, error) {
	e := m.Entry(n)
	r, ok, err := s.record(e.Offset)
	if err != nil || r == nil {
		return ok, err
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
	return found, nil
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
