// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"context"
	"fmt"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// SetBack is by how much the clock of a log without an index may have been set
// back and every record is still found: what RocketMQ itself allows its clock.
const SetBack = 3 * time.Second

// Log is the commit log as a search sees it; commitlog.Log is one.
type Log interface {
	// Starts returns the first offset of each file, in order.
	Starts() []message.Offset
	// ViewRecord returns the record that begins at an offset.
	ViewRecord(off message.Offset) (mappedfile.View, error)
	// FirstStoredAt returns the first record in [from, to), from where a record
	// begins, that was stored at ms or later.
	FirstStoredAt(ctx context.Context, from, to message.Offset, ms int64) (at message.Offset, ok bool, err error)
}

// Found is what a search found and what it cost.
type Found struct {
	// Offset is where the record begins, when OK; else the end of the search.
	Offset message.Offset
	OK     bool
	// From is where the scan began, Scanned how many bytes of the log it took.
	From    message.Offset
	Scanned int64
	// Indexed says that an entry of the index told where to begin.
	Indexed bool
	// Entries and Headers are how many entries of the index, and first records
	// of log files, were looked at.
	Entries, Headers int
}

// Search finds the first record below to, in the order of the log, that was
// stored at ms (milliseconds since the Unix epoch) or later. x may be nil; the
// package comment says what an index makes certain. The error is that of log.
func Search(ctx context.Context, log Log, x *Index, to message.Offset, ms int64) (Found, error) {
	starts := log.Starts()
	if len(starts) == 0 {
		return Found{Offset: to, From: to}, nil
	}
	found := Found{From: starts[0], Offset: to}
	bound, exact := to, false
	if x != nil {
		// A fault in the index is like damage in it.
		err := mappedfile.Guard(func() error {
			bound, exact = x.place(log, starts[0], to, ms, &found)
			return nil
		})
		if err != nil {
			x.damagedSlot(x.begin.Load(), err)
			found.From, found.Indexed, bound, exact = starts[0], false, to, false
		}
	}
	if !exact {
		err := mappedfile.Guard(func() error {
			byFiles(log, starts, bound, ms, &found)
			return nil
		})
		if err != nil {
			return found, err
		}
	}
	bound = max(min(bound, to), found.From)
	err := found.scan(ctx, log, bound, ms)
	if err != nil || found.OK || bound >= to {
		return found, err
	}
	// The record that was stored at ms or later, and that the next entry knows
	// of, is damaged.
	found.From = bound
	err = mappedfile.Guard(func() error {
		byFiles(log, starts, to, ms, &found)
		return nil
	})
	if err == nil {
		err = found.scan(ctx, log, to, ms)
	}
	return found, err
}

// scan looks through the log from found.From up to an offset.
func (f *Found) scan(ctx context.Context, log Log, to message.Offset, ms int64) error {
	at, ok, err := log.FirstStoredAt(ctx, f.From, to, ms)
	if !ok {
		f.Scanned += int64(max(0, to-f.From))
		return err
	}
	f.Scanned += int64(at - f.From)
	f.Offset, f.OK = at, true
	return nil
}

// place sets found.From to the record of the last entry before which nothing was
// stored at ms or later. bound is where the next entry's record begins; exact
// says that no entry is missing between them.
func (x *Index) place(log Log, lo, to message.Offset, ms int64, found *Found) (bound message.Offset, exact bool) {
	var last entry
	slot, bound := int64(-1), to
	from, end := max(x.begin.Load(), int64(lo)/x.o.Stretch), x.end.Load()
	// Behind the last entry of an index that is being fed, a stretch remains.
	exact = !x.readOnly
	for ms = clamp(ms); from < end; {
		mid := from + (end-from)/2
		k, e, ok := x.atOrBelow(mid, from, found)
		switch {
		case !ok:
			from = mid + 1
		case e.time < ms:
			slot, last, from = k, e, mid+1
		default:
			bound, end, exact = e.offset, k, true
		}
	}
	if slot < 0 || last.offset < lo {
		return to, false
	}
	if err := agrees(log, last); err != nil {
		x.damagedSlot(slot, err)
		return to, false
	}
	found.From, found.Indexed = last.offset, true
	return bound, exact && end == slot+1
}

// atOrBelow returns the nearest entry in [from, slot] that can be believed.
func (x *Index) atOrBelow(slot, from int64, found *Found) (int64, entry, bool) {
	for k := slot; k >= from; k-- {
		found.Entries++
		if e, ok := x.read(k); ok {
			return k, e, true
		}
		if k >= x.begin.Load() { // else it expired meanwhile
			x.damagedSlot(k, errSlot)
		}
	}
	return 0, entry{}, false
}

// agrees returns nil when the record of an entry is the one that it was made for.
func agrees(log Log, e entry) error {
	m, err := recordAt(log, e.offset, message.CheckNone)
	if err == nil && markOf(&m) != e.mark {
		err = errOther
	}
	if err != nil {
		return fmt.Errorf("the record at offset %d: %w", e.offset, err)
	}
	return nil
}

// recordAt decodes a record. What it borrows is cut off.
func recordAt(log Log, off message.Offset, check message.Check) (m message.Message, err error) {
	v, err := log.ViewRecord(off)
	if err != nil {
		return m, err
	}
	defer v.Release()
	err = (&message.Decoder{Check: check}).Decode(v.Bytes(), &m)
	m.Body, m.Properties = nil, message.Properties{}
	return m, err
}

// byFiles moves found.From up to the last file below bound that begins with a
// record stored before ms, by bisection.
func byFiles(log Log, starts []message.Offset, bound message.Offset, ms int64, found *Found) {
	lo, hi := 0, len(starts)
	for lo < hi {
		mid := lo + (hi-lo)/2
		if starts[mid] >= bound {
			hi = mid
			continue
		}
		switch i, stored, ok := firstStored(log, starts, mid, lo, found); {
		case !ok: // nothing down to lo can be read, or was written
			lo = mid + 1
		case stored >= ms-SetBack.Milliseconds():
			hi = i
		default:
			found.From, lo = max(found.From, starts[i]), mid+1
		}
	}
}

// firstStored returns the store time of the record that begins the nearest file
// at or before starts[mid] that begins with one.
func firstStored(log Log, starts []message.Offset, mid, lo int, found *Found) (int, int64, bool) {
	for i := mid; i >= lo; i-- {
		found.Headers++
		if m, err := recordAt(log, starts[i], message.CheckAll); err == nil {
			return i, m.StoreTimestamp, true
		}
	}
	return lo, 0, false
}
