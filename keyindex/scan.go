// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"fmt"
	"math"

	"github.com/stelelog/stele/message"
)

// everything is beyond any offset.
const everything = message.Offset(math.MaxInt64)

// content is what the entries of a file say, read from the first to the last.
type content struct {
	n     int     // entries
	heads []int32 // by slot: the newest entry of its chain
	used  int32   // slots with a chain
	// bad is why the entries can't be relied upon; then n of them can.
	bad *DamageError
}

// scan reads the entries of records below from, which were all written whole. It
// believes neither slots nor header. What stands behind them may be anything.
func (m Image) scan(from message.Offset) content {
	c := content{heads: make([]int32, m.Slots)}
	h, count, last := m.Header(), m.next(), message.Offset(0)
	k := 1
	for ; k < m.Entries; k++ {
		e := m.Entry(k)
		// Of the log's first record the first entry may be all zeros; otherwise it
		// is one that was not written.
		if e == (Entry{}) && (k >= count || k == 1 && h.BeginOffset != 0) || e.Offset >= from {
			break
		}
		if cause := m.contradiction(e, last, c.heads); cause != nil {
			// At the end it is a torn entry of a record beyond from.
			if m.goesOn(k+1, last, from) {
				c.bad = m.damage(-1, k, cause)
			}
			break
		}
		slot := m.SlotOf(e.Hash)
		if c.heads[slot] == 0 {
			c.used++
		}
		c.heads[slot] = int32(k)
		last = e.Offset
	}
	c.n = k - 1
	if c.bad == nil && h.Count > 1 && int(h.Count) <= m.Entries && c.n < int(h.Count)-1 && h.EndOffset < from {
		c.bad = m.damage(-1, k, fmt.Errorf("%w: it is one of %d", ErrEntry, h.Count-1))
	}
	return c
}

// contradiction says why e can't be the next entry, nil if it can. heads are the chains
// of the entries before it.
func (m Image) contradiction(e Entry, last message.Offset, heads []int32) error {
	switch {
	case e.Hash < 0 || e.Seconds < 0 || e.Offset < last:
		return ErrEntry
	case heads[m.SlotOf(e.Hash)] != e.Prev:
		return fmt.Errorf("%w: entry %d is said to be before it, and %d is", ErrChain, e.Prev, heads[m.SlotOf(e.Hash)])
	}
	return nil
}

// goesOn reports whether entry k or one behind it is of a record in [last, from).
func (m Image) goesOn(k int, last, from message.Offset) bool {
	for count := m.next(); k < m.Entries; k++ {
		e := m.Entry(k)
		if e == (Entry{}) && k >= count {
			return false
		}
		if e.Offset >= last && e.Offset < from && e != (Entry{}) {
			return true
		}
	}
	return false
}

// Problems reads all of the file and yields what is wrong with it, until yield
// returns false. Entries that are put meanwhile are left out.
func (m Image) Problems(yield func(*DamageError) bool) {
	n := m.Len()
	h := m.Header()
	c := m.scan(everything)
	if c.bad != nil {
		yield(c.bad)
		return // the chains of what stands behind it can't be told
	}
	if c.n < n && !yield(m.damage(-1, c.n+1, fmt.Errorf("%w: the header counts %d", ErrHeader, n))) {
		return
	}
	if n > 0 && h.BeginOffset != m.Entry(1).Offset &&
		!yield(m.damage(-1, 1, fmt.Errorf("%w: it begins with offset %d", ErrHeader, h.BeginOffset))) {
		return
	}
	// The header moves with each entry: where it stands still, it must fit.
	if e := m.Entry(n).Offset; n > 0 && h.EndOffset != e && m.Len() == n && m.Header() == h &&
		!yield(m.damage(-1, n, fmt.Errorf("%w: it ends with offset %d", ErrHeader, h.EndOffset))) {
		return
	}
	for i, head := range c.heads {
		got := m.Slot(i)
		if got == head || int(got) > c.n && int(got) <= m.next() {
			continue
		}
		if !yield(m.damage(i, 0, fmt.Errorf("%w: %d instead of %d", ErrSlot, got, head))) {
			return
		}
	}
}

// Stats are figures about the chains of a file.
type Stats struct {
	Entries   int
	SlotsUsed int
	Longest   int // entries of the longest chain
	// Lengths counts slots by the length of their chain: [0] the empty ones, the
	// last all that are as long or longer.
	Lengths [9]int
}

// Stats walks all chains. Damaged ones count as far as they go.
func (m Image) Stats() Stats {
	st := Stats{Entries: m.Len()}
	for i := range m.Slots {
		n := 0
		_ = m.Chain(i, func(int, Entry) bool { // Problems tells what is damaged
			n++
			return true
		})
		if n > 0 {
			st.SlotsUsed++
		}
		st.Longest = max(st.Longest, n)
		st.Lengths[min(n, len(st.Lengths)-1)]++
	}
	return st
}
