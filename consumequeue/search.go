// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Boundary says which entry a search by time means.
type Boundary int

const (
	// Lower is the first message stored at or after the time.
	Lower Boundary = iota
	// Upper is the last message stored at or before the time.
	Upper
)

// OffsetByTime searches for a time in milliseconds since the Unix epoch, as
// getOffsetInQueueByTime of ConsumeQueueStore.java does. Lower is the offset of
// the first message stored at or after ms, Max when there is none. Upper is
// that of the last message stored at or before ms, Min when there is none. Of
// several messages stored in that very millisecond, Lower is the first and
// Upper the last.
//
// Store times are taken to grow along the queue. Where the clock was set back,
// the answer is an entry at which the times cross ms, not always the first.
func (q *Queue) OffsetByTime(ms int64, b Boundary) (message.QueueOffset, error) {
	if q.set.o.StoreTime == nil {
		return 0, q.wrap(ErrNoStoreTime)
	}
	var at int64
	err := mappedfile.Guard(func() (err error) {
		at, err = q.offsetByTime(ms, b)
		return err
	})
	if err != nil {
		return 0, q.wrap(err)
	}
	return message.QueueOffset(max(at, q.min.Load())), nil
}

func (q *Queue) offsetByTime(ms int64, b Boundary) (int64, error) {
	lo, hi := q.min.Load(), q.max.Load()
	at, _, err := q.search(lo, hi, func(e Entry) (bool, error) {
		t, err := q.set.o.StoreTime(e.Offset, e.Size)
		if err != nil {
			return false, fmt.Errorf("store time of the record at %d: %w", e.Offset, err)
		}
		if b == Upper {
			return t > ms, nil
		}
		return t >= ms, nil
	})
	if err == nil && b == Upper {
		_, at, err = q.lastValid(lo, at)
	}
	return at, err
}

// search returns the first valid entry in [lo, hi) that reached is true for, or
// hi. reached is false for entries up to some point, and true from there on; an
// entry whose record or file has expired lies before it.
func (q *Queue) search(lo, hi int64, reached func(Entry) (bool, error)) (int64, Entry, error) {
	at, found := hi, Entry{}
	for lo < hi {
		mid := lo + (hi-lo)/2
		i, e, err := q.nextValid(mid, hi)
		if errors.Is(err, ErrOffsetOutOfRange) {
			lo = mid + 1 // the file went meanwhile
			continue
		}
		if err != nil {
			return 0, Entry{}, err
		}
		if i == hi {
			hi = mid
			continue
		}
		ok, err := reached(e)
		switch {
		case errors.Is(err, mappedfile.ErrExpired):
			lo = i + 1
		case err != nil:
			return 0, Entry{}, err
		case ok:
			at, found, hi = i, e, mid
		default:
			lo = i + 1
		}
	}
	return at, found, nil
}

// nextValid returns the first valid entry in [from, to), or to.
func (q *Queue) nextValid(from, to int64) (int64, Entry, error) {
	for from < to {
		es, err := q.view(from, to)
		if err != nil {
			return 0, Entry{}, err
		}
		i, e, ok := es.firstValid()
		if from += i; ok {
			return from, e, nil
		}
	}
	return to, Entry{}, nil
}

// firstValid returns the first valid entry, or Len() where there is none, and
// releases them all.
func (e Entries) firstValid() (int64, Entry, bool) {
	n := e.Len()
	defer e.Release()
	for i := range n {
		if u := e.At(i); u.Valid() {
			return int64(i), u, true
		}
	}
	return int64(n), Entry{}, false
}

// CorrectMin moves Min up to the first entry whose record lies at or above
// logMin, where the log begins now; to Max when there is none. Blank entries
// are skipped. Min never goes down.
func (q *Queue) CorrectMin(logMin message.Offset) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.wrap(mappedfile.Guard(func() error { return q.correctMin(logMin) }))
}

// correctMin does it. q.mu is held.
func (q *Queue) correctMin(logMin message.Offset) error {
	lo, hi := q.min.Load(), q.max.Load()
	if lo >= hi || logMin <= q.floor {
		return nil
	}
	// Most queues that have anything expired have all of it expired, and
	// what Recover saw of them tells that without mapping a file.
	last := q.found.last
	if q.found.max != hi {
		var err error
		if last, _, err = q.lastValid(lo, hi); err != nil {
			return err
		}
	}
	at, floor := hi, logMin
	if last.Offset >= logMin {
		i, e, err := q.search(lo, hi, func(e Entry) (bool, error) { return e.Offset >= logMin, nil })
		if err != nil {
			return err
		}
		at = i
		if i < hi {
			floor = e.Offset
		}
	}
	q.min.Store(at)
	q.floor = floor
	return nil
}

// FirstFrom returns where in the log the first message at or behind an offset of
// the queue lies, and false when there is none. Below Min it is the one at Min.
// For a damaged entry it is where its record lies at the earliest.
func (q *Queue) FirstFrom(at message.QueueOffset) (off message.Offset, ok bool, err error) {
	err = mappedfile.Guard(func() (err error) {
		off, ok, err = q.firstFrom(int64(at))
		return err
	})
	return off, ok, q.wrap(err)
}

func (q *Queue) firstFrom(at int64) (message.Offset, bool, error) {
	for {
		lo, hi := q.min.Load(), q.max.Load()
		if at = max(at, lo); at >= hi {
			return 0, false, nil
		}
		es, err := q.view(at, hi)
		if errors.Is(err, ErrOffsetOutOfRange) && q.min.Load() > at {
			continue // the file went meanwhile
		}
		if err != nil {
			return 0, false, err
		}
		e, n := es.firstMessage()
		switch {
		case n == int64(es.Len()):
			at += n
		case e.Valid():
			return e.Offset, true, nil
		default:
			before, _, err := q.lastValid(lo, at+n)
			return before.End(), true, err
		}
	}
}

// firstMessage returns the first entry that is not blank, and how many are, and
// releases them all.
func (e Entries) firstMessage() (Entry, int64) {
	defer e.Release()
	for i := range e.Len() {
		if u := e.At(i); !u.IsBlank() {
			return u, int64(i)
		}
	}
	return Entry{}, int64(e.Len())
}

// RemoveBefore removes the files from the front whose entries all name records
// below logMin, never the last file, and then does CorrectMin. It returns how
// many files went. What readers borrowed stays valid.
func (q *Queue) RemoveBefore(logMin message.Offset) (int, error) {
	if q.set.o.ReadOnly {
		return 0, q.wrap(mappedfile.ErrReadOnly)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	err := mappedfile.Guard(func() (err error) {
		if n, err = q.removeBefore(logMin); err == nil {
			err = q.correctMin(logMin)
		}
		return err
	})
	return n, q.wrap(err)
}

// removeBefore removes the files. q.mu is held, so no file is added meanwhile.
func (q *Queue) removeBefore(logMin message.Offset) (int, error) {
	files := q.files.Files()
	// Files below Min may be there still: a crash came before they went.
	if len(files) < 2 || logMin <= q.floor && files[0].End() > q.min.Load()*EntrySize {
		return 0, nil
	}
	// A power cut could take the name of the last file, which a killed process
	// may have left to its next flush, and leave nothing that tells Max.
	if err := q.syncNames(); err != nil {
		return 0, err
	}
	cut := int64(-1)
	end := q.max.Load() * EntrySize
	for _, f := range files[:len(files)-1] {
		if f.End() > end {
			break
		}
		last, at, err := q.lastValid(f.Base()/EntrySize, f.End()/EntrySize)
		if err != nil {
			return 0, err
		}
		if at >= 0 && last.Offset >= logMin {
			break
		}
		cut = f.End()
	}
	if cut < 0 {
		return 0, nil
	}
	// Min first: a reader that finds no file must find that it is below Min.
	if first := cut / EntrySize; first > q.min.Load() {
		q.min.Store(first)
	}
	return q.files.RemoveBefore(cut)
}
