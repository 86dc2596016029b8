// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/message"
)

var errTime = errors.New("the entry has another time")

// Mismatch is a place where an index and its log disagree.
type Mismatch struct {
	*DamageError
	// Record is where the record begins that the entry should name, -1 without one.
	Record message.Offset
	// Last says that it is about the end of the index: what a crash leaves there.
	Last bool
}

// Checker compares an index that was opened read-only with the records of its log,
// which it is given in order, from the log's first byte on.
type Checker struct {
	x     *Index
	trust func(message.Offset) bool
	tell  func(Mismatch) error

	slot   int64
	latest int64 // of all records so far
	begun  bool  // an entry was there
	whole  bool  // from the log's first byte on, without damage
	lacks  int64
}

// NewChecker returns one. trust reports whether a record at an offset can't be
// read, so that an entry may name it. tell gets what is wrong; an error of it ends
// the check.
func NewChecker(x *Index, trust func(message.Offset) bool, tell func(Mismatch) error) *Checker {
	return &Checker{x: x, trust: trust, tell: tell, slot: x.begin.Load(), whole: x.begin.Load() == 0}
}

// Record compares the entries that name a record. The caller guards it
// (mappedfile.Guard).
func (c *Checker) Record(m *message.Message) error {
	off, stretch := m.PhysicalOffset, c.x.o.Stretch
	for ; c.slot*stretch <= int64(off); c.slot++ {
		if err := c.compare(m); err != nil {
			return err
		}
	}
	c.latest = max(c.latest, clamp(m.StoreTimestamp))
	return nil
}

// Pass is Record for one that no entry names, as most are, by its offset and store
// time; it reports whether that is so. It touches no mapped memory.
func (c *Checker) Pass(off message.Offset, stored int64) bool {
	if c.slot*c.x.o.Stretch <= int64(off) {
		return false
	}
	c.latest = max(c.latest, clamp(stored))
	return true
}

func (c *Checker) compare(m *message.Message) error {
	if c.slot >= c.x.end.Load() {
		if c.x.written(c.slot) {
			return c.damage(m.PhysicalOffset, errSlot) // it can't be believed, so it did not count
		}
		c.lacks++
		return nil
	}
	e, ok := c.x.read(c.slot)
	if !ok {
		if !c.x.written(c.slot) && (!c.begun || !mayHold(c.slot, c.x.o.Stretch, m.PhysicalOffset)) {
			c.whole = false
			return nil // it begins later, or a stretch that long was damaged
		}
		return c.damage(m.PhysicalOffset, errSlot)
	}
	c.begun = true
	switch {
	case e.offset != m.PhysicalOffset && c.trust(e.offset):
		c.whole = false
	case e.offset != m.PhysicalOffset || e.mark != markOf(m):
		return c.damage(m.PhysicalOffset, fmt.Errorf("%w: it names offset %d", errOther, e.offset))
	case c.whole && e.time != c.latest:
		return c.damage(m.PhysicalOffset, fmt.Errorf("%w: %d, the newest record before it is of %d", errTime, e.time, c.latest))
	}
	return nil
}

func (c *Checker) damage(record message.Offset, cause error) error {
	path := c.x.o.Dir
	if f := c.x.files.Find(position(c.slot)); f != nil {
		path = f.Path()
	}
	return c.tell(Mismatch{
		DamageError: &DamageError{Path: path, At: position(c.slot) % FileSize, Cause: cause}, Record: record, Last: c.slot >= c.x.end.Load()-1,
	})
}

// Damaged says that a part of the log can't be read, and so how new what stood
// there was.
func (c *Checker) Damaged() { c.whole = false }

// Finish reports entries for a log that goes on further than this one does, and
// returns how many are missing at the end. That is no damage: who opens the store
// fills them in.
func (c *Checker) Finish() (lacks int64, err error) {
	for ; c.slot < c.x.end.Load(); c.slot++ {
		e, ok := c.x.read(c.slot)
		if ok && !c.trust(e.offset) {
			err = c.damage(-1, fmt.Errorf("%w: offset %d, which the log has not", errOther, e.offset))
			return c.lacks, err
		}
	}
	return c.lacks, nil
}
