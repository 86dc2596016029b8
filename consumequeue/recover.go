// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Trust says how much Recover believes of the bytes that it finds.
type Trust int

const (
	// TrustNothing is for a directory that lost power, or that somebody else
	// wrote: any page of the last file may be missing, and anything may lie
	// behind the end. Recover looks at every entry of the last file.
	TrustNothing Trust = iota
	// TrustOrder is for a directory that was closed, or whose process was
	// killed while the page cache lived on: the entries are there in the order
	// in which they were put, then perhaps a torn one, then zeros. Recover
	// finds the end by bisection.
	TrustOrder
)

// ending is what Recover learned about the end of a queue.
type ending struct {
	max   int64 // one above the last valid entry below the limit
	last  Entry // that entry; the zero Entry when there is none
	clean bool  // nothing but zeros lies behind max, as far as the order is trusted
}

// Recover finds out where a queue begins and ends: Max becomes the number of
// the last entry that is intact and names a record that ends at or before
// below, plus one. Nothing changes on disk. The caller then dispatches the log
// again from below on, and calls Trim.
//
// An entry is intact when it is Valid, or blank, and all entries before it in
// its file are intact, and its record does not begin before the end of the
// previous one. Blank entries are skipped: those that follow the last real
// entry don't count, since only the entry that comes after them makes them a
// gap. Where there is no real entry at all, Max is the end of the blank run
// that the first file begins with, or else the beginning of that file, and the
// queue is empty: the next Put says where it begins.
//
// With TrustNothing, the last file whose first entry joins to the last one of
// the file before is looked at entry by entry; files before it count as whole.
//
// The entries that are kept count as durable from then on; below is a position
// that a Flush covered. (FlushAll is for when that is not so.) Recover runs
// before there is a writer or a reader, and leaves nothing mapped.
func (q *Queue) Recover(below message.Offset, how Trust) error {
	err := mappedfile.Guard(func() error { return q.recover(below, how) })
	for _, f := range q.files.Files() {
		err = errors.Join(err, f.Drop())
	}
	return q.wrap(err)
}

func (q *Queue) recover(below message.Offset, how Trust) error {
	files := q.files.Files()
	q.tail = tail{}
	end, err := findEnd(files, below, how)
	if err != nil {
		return err
	}
	start, floor, err := findStart(files, end)
	if err != nil {
		return err
	}
	if end.last == (Entry{}) {
		end.max = start
		end.clean = false
	}
	q.mu.Lock()
	q.found, q.floor = end, floor
	q.mu.Unlock()
	q.min.Store(start)
	q.max.Reset(end.max)
	q.flushed.Store(end.max * EntrySize)
	q.empty, q.lost = end.last == Entry{}, false
	return nil
}

// findEnd looks for the last valid entry, from the last file backwards.
func findEnd(files []*mappedfile.File, below message.Offset, how Trust) (ending, error) {
	for k := len(files) - 1; k >= 0; k-- {
		u, err := unitsOf(files[k])
		if err != nil {
			return ending{}, err
		}
		var n int64
		if how == TrustOrder {
			n = u.orderedEnd(below)
		} else {
			before, joined, err := endBefore(files, k)
			if err != nil {
				return ending{}, err
			}
			if joined {
				n = u.intactEnd(before, below)
			}
		}
		for n > 0 && u.at(n-1).IsBlank() {
			n--
		}
		if n > 0 {
			clean := how == TrustOrder && k == len(files)-1 && (n == u.len() || u.zeroAt(n))
			return ending{max: files[k].Base()/EntrySize + n, last: u.at(n - 1), clean: clean}, nil
		}
	}
	return ending{}, nil
}

// endBefore returns where the record of the last entry in the file before file
// k ends, 0 when that can't be told because there is none or it is blank.
// joined is false when the entry is not intact.
func endBefore(files []*mappedfile.File, k int) (end message.Offset, joined bool, err error) {
	if k == 0 {
		return 0, true, nil
	}
	u, err := unitsOf(files[k-1])
	if err != nil {
		return 0, false, err
	}
	switch e := u.at(u.len() - 1); {
	case e.Valid():
		return e.End(), true, nil
	default:
		return 0, e.IsBlank(), nil
	}
}

// findStart returns the first entry before the end that is not blank, and where
// its record lies, 0 when the entry is damaged. Where there is none it returns the end of the blank run that the first
// file begins with.
func findStart(files []*mappedfile.File, end ending) (start int64, floor message.Offset, err error) {
	if len(files) == 0 {
		return 0, 0, nil
	}
	if end.last == (Entry{}) {
		u, err := unitsOf(files[0])
		if err != nil {
			return 0, 0, err
		}
		n := int64(0)
		for n < u.len() && u.at(n).IsBlank() {
			n++
		}
		return files[0].Base()/EntrySize + n, 0, nil
	}
	for _, f := range files {
		u, err := unitsOf(f)
		if errors.Is(err, mappedfile.ErrExpired) {
			continue // beside its owner, who removed it since it was listed
		}
		if err != nil {
			return 0, 0, err
		}
		first := f.Base() / EntrySize
		for i := int64(0); i < u.len() && first+i < end.max; i++ {
			switch e := u.at(i); {
			case e.Valid():
				return first + i, e.Offset, nil
			case !e.IsBlank():
				return first + i, 0, nil // damaged: there is a message all the same
			}
		}
	}
	return end.max, 0, nil
}

func unitsOf(f *mappedfile.File) (units, error) {
	b, err := f.Bytes()
	return units(b), err
}

// intactEnd counts the entries at the beginning of u that are intact and below
// the limit, one by one. before is where the record of the entry before them
// ends.
func (u units) intactEnd(before, below message.Offset) int64 {
	for i, n := int64(0), u.len(); i < n; i++ {
		e := u.at(i)
		if e.IsBlank() {
			continue
		}
		if !e.Valid() || e.Offset < before || e.End() > below {
			return i
		}
		before = e.End()
	}
	return u.len()
}

// orderedEnd counts the same for entries that lie in order, looking at few of
// them: the first page, then ever larger steps, then by bisection.
func (u units) orderedEnd(below message.Offset) int64 {
	const page = 4096 / EntrySize
	if !u.counts(0, 0, below) {
		return 0
	}
	lo, hi := int64(0), min(page, u.len()) // all below lo count; what is at hi-1 is looked at next
	for u.counts(lo, hi-1, below) {
		if lo = hi; lo == u.len() {
			return lo
		}
		hi = min(2*hi, u.len())
	}
	hi-- // the entry at hi doesn't count
	for lo < hi {
		mid := lo + (hi-lo)/2
		if u.counts(lo, mid, below) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// counts reports whether the entry at i is intact and below the limit. A blank
// one is what the entries before it are, down to lo, below which all count.
func (u units) counts(lo, i int64, below message.Offset) bool {
	for ; i >= lo; i-- {
		if e := u.at(i); !e.IsBlank() {
			return e.Valid() && e.End() <= below
		}
	}
	return true
}

// zeroAt reports whether the unit at i is all zero.
func (u units) zeroAt(i int64) bool {
	for _, b := range u[i*EntrySize : (i+1)*EntrySize] {
		if b != 0 {
			return false
		}
	}
	return true
}

// GoesOn reports whether something other than zeros stands at offset end, where
// the queue should end: an entry that is damaged, or that nothing in the log stands
// behind. It runs where Trim may.
func (q *Queue) GoesOn(end message.QueueOffset) (bool, error) {
	pos := int64(end) * EntrySize
	f := q.files.Find(pos)
	if f == nil {
		return false, nil
	}
	u, err := unitsOf(f)
	if err != nil {
		return false, q.wrap(err)
	}
	return !u.zeroAt((pos - f.Base()) / EntrySize), nil
}

// Trim removes what lies behind Max: files that begin there, and bytes in the
// last file, which become zero. It runs after Recover and the dispatch that
// follows it, and keeps entries of a former life from being taken for new ones
// by a later recovery. What it does is durable on return. With TrustOrder the
// entry behind Max tells whether there is anything.
func (q *Queue) Trim(how Trust) error {
	return q.wrap(mappedfile.Guard(func() error { return q.trim(how) }))
}

func (q *Queue) trim(how Trust) error {
	switch {
	case q.set.o.ReadOnly:
		return mappedfile.ErrReadOnly
	case q.lost:
		return ErrNotRecovered
	}
	end := q.max.Load()
	q.mu.Lock()
	clean := q.found.clean && q.found.max == end
	q.mu.Unlock()
	if how == TrustOrder && clean {
		return nil
	}
	pos := end * EntrySize
	if _, err := q.files.RemoveFrom(pos); err != nil {
		return err
	}
	f := q.files.Find(pos)
	if f == nil {
		return nil
	}
	u, err := unitsOf(f)
	if err != nil {
		return err
	}
	in := pos - f.Base()
	if how == TrustNothing && !zeroFrom(f, u, in) || !u.zeroAt(in/EntrySize) {
		err = f.ZeroFrom(in)
	}
	if q.tail.file != f {
		err = errors.Join(err, f.Drop())
	}
	return err
}

// zeroFrom reports whether everything from pos on is zero, without looking at
// what was never written. false may also mean that the Disk can't tell.
func zeroFrom(f *mappedfile.File, u units, pos int64) bool {
	const page = 4096
	next := min((pos+page-1)/page*page, f.Size())
	for _, b := range u[pos:next] {
		if b != 0 {
			return false
		}
	}
	return f.NextData(next) == f.Size()
}

// Recover recovers all queues, so many at a time. See Queue.Recover.
func (s *Set) Recover(below message.Offset, how Trust, parallelism int) error {
	return each(s.Queues(), parallelism, func(q *Queue) error { return q.Recover(below, how) })
}

// Trim trims all queues, so many at a time. See Queue.Trim.
func (s *Set) Trim(how Trust, parallelism int) error {
	if s.o.ReadOnly {
		return fmt.Errorf("%s: trim: %w", s.o.Dir, mappedfile.ErrReadOnly)
	}
	return each(s.Queues(), parallelism, func(q *Queue) error { return q.Trim(how) })
}

// each runs do on all queues, so many at a time, and stops at the first error.
func each(queues []*Queue, parallelism int, do func(*Queue) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(parallelism, 1), len(queues)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(queues)) {
					return
				}
				if err := mappedfile.Guard(func() error { return do(queues[i]) }); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
