// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"bytes"
	"errors"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// DefaultRebuild is what reading takes a fraction of a second, or a few on a slow
// disk.
const DefaultRebuild = 256 << 20

// candidates is how many entries are tried against the log. The record of one can
// be damaged.
const candidates = 8

// Recover makes the index ready to be fed from offset from on, in a log that
// begins at lo, and returns where feeding must begin: at from, or before it by
// what the index lacks. What it holds about records at or behind that is given up,
// durably. log has the records below from.
//
// The caller guards it against faults (mappedfile.Guard).
func (x *Index) Recover(from, lo message.Offset, log Log) (message.Offset, error) {
	if from <= lo {
		return from, x.restart(from, lo)
	}
	if x.files.Len() > 0 {
		at, ok, err := x.resume(from, lo, log)
		if err != nil || ok {
			return at, err
		}
	}
	if int64(from-lo) <= x.o.Rebuild {
		from = lo
	}
	return from, x.restart(from, lo)
}

// restart begins an empty index with the first record at or behind from.
func (x *Index) restart(from, lo message.Offset) error {
	if x.files.Len() > 0 {
		if err := x.wipe(); err != nil {
			return err
		}
		if err := x.list(); err != nil {
			return err
		}
	}
	x.latest, x.next, x.headed, x.flushed = 0, from, -1, -1
	// The log's first record is the first one in its stretch, and nothing lies
	// before it. Elsewhere a record of the stretch may, which nobody knows of.
	x.seeded = from <= lo
	first := int64(from) / x.o.Stretch
	if !x.seeded {
		first = (int64(from) + x.o.Stretch - 1) / x.o.Stretch
	}
	x.begin.Store(first)
	x.end.Store(first)
	return nil
}

// resume goes on from the last entry below from that the log agrees with. It
// reports false when there is none, or one too far away, and when the index lacks
// the beginning of a log that is short enough to be read again.
func (x *Index) resume(from, lo message.Offset, log Log) (message.Offset, bool, error) {
	files := x.files.Files()
	x.begin.Store(max(firstSlot(files[0]), int64(lo)/x.o.Stretch))
	last := files[len(files)-1]
	stretch, headErr := headerOf(last)
	if headErr != nil && !errors.Is(headErr, ErrUnbegun) {
		// Each entry speaks for itself, and the header is written again.
		x.damaged(last.Path(), 0, headErr)
		if errors.Is(headErr, errVersion) {
			return 0, false, nil
		}
	} else if headErr == nil && stretch != x.o.Stretch {
		return 0, false, nil
	}
	slot, e, ok := x.lastGood(min((int64(from)-1)/x.o.Stretch, firstSlot(last)+perFile-1), from, log)
	if !ok {
		return 0, false, nil
	}
	slot, e = x.whole(slot, e, from)
	x.skipUnwritten(slot)
	if lacks := x.begin.Load() > int64(lo)/x.o.Stretch; lacks && int64(from-lo) <= x.o.Rebuild || int64(from-e.offset) > x.o.Rebuild {
		x.damagedSlot(x.begin.Load()-1, errSlot)
		return 0, false, nil
	}
	if err := x.cut(slot + 1); err != nil {
		return 0, false, err
	}
	x.latest, x.seeded, x.next, x.flushed = e.time, true, e.offset, -1
	x.end.Store(slot + 1)
	x.headed = -1
	if headErr == nil {
		x.headed = last.Base()
		return e.offset, true, nil
	}
	return e.offset, true, x.head(x.files.Last())
}

// lastGood returns the last entry at or before a slot that names a record below
// from, and that the log agrees with.
func (x *Index) lastGood(slot int64, from message.Offset, log Log) (int64, entry, bool) {
	torn := 0
	for tries := 0; slot >= x.begin.Load() && tries < candidates; slot-- {
		e, ok := x.read(slot)
		if !ok && x.written(slot) {
			// A killed process may have been writing it, but no two.
			if torn++; torn == 2 {
				x.damagedSlot(slot, errSlot)
			}
		}
		if !ok || e.offset >= from {
			continue
		}
		err := agrees(log, e)
		if err == nil {
			return slot, e, true
		}
		if tries++; tries == 1 {
			x.damagedSlot(slot, err)
		}
	}
	return 0, entry{}, false
}

// written reports whether a slot holds anything.
func (x *Index) written(slot int64) bool {
	v, err := x.files.View(position(slot), entrySize)
	if err != nil {
		return false
	}
	defer v.Release()
	return !allZero(v.Bytes())
}

// head writes the header of a file, the last one.
func (x *Index) head(f *mappedfile.File) error {
	if err := f.Reserve(headerSize); err != nil {
		return err
	}
	b, err := f.Bytes()
	if err != nil {
		return err
	}
	publishHeader(b, x.o.Stretch)
	x.headed = f.Base()
	return nil
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// whole looks for damage in the entries before a slot, as far as it can be filled
// in, and goes back to before it.
func (x *Index) whole(slot int64, e entry, from message.Offset) (int64, entry) {
	bad := int64(-1) // the lowest slot of the damage above the entry at hand
	least := max(x.begin.Load(), (int64(from)-x.o.Rebuild)/x.o.Stretch)
	for k := slot - 1; k >= least; k-- {
		below, ok := x.read(k)
		switch {
		case !ok:
			bad = k
		case bad >= 0:
			x.damagedSlot(bad, errSlot)
			slot, e, bad = k, below, -1
		}
	}
	return slot, e // what has no entry below it, a search steps over
}

// skipUnwritten moves begin up to the first entry.
func (x *Index) skipUnwritten(last int64) {
	for begin := x.begin.Load(); begin <= last; begin++ {
		if _, ok := x.read(begin); ok {
			x.begin.Store(begin)
			return
		}
	}
}

// cut removes all slots from one on, durably.
func (x *Index) cut(slot int64) error {
	pos := position(slot)
	if slot%perFile == 0 {
		pos = slot / perFile * FileSize // the whole file
	}
	if _, err := x.files.RemoveFrom(pos); err != nil {
		return err
	}
	f := x.files.Find(pos)
	if f == nil {
		return nil
	}
	v, err := f.View(pos-f.Base(), f.End()-pos)
	if err != nil {
		return err
	}
	defer v.Release()
	if allZero(v.Bytes()) {
		return nil
	}
	return f.ZeroFrom(pos - f.Base())
}

// Put takes the next record of the log; one that it has is passed over. After an
// error that wraps mappedfile.ErrDiskFull it can be put again.
//
// The caller guards it against faults.
func (x *Index) Put(m *message.Message) error {
	off := m.PhysicalOffset
	if off < x.next {
		return nil
	}
	if !x.seeded {
		// Nothing is known about what lies before. As in the log's files, store
		// times are taken to have grown until here.
		x.latest, x.seeded = clamp(m.StoreTimestamp), true
	}
	for slot := x.end.Load(); slot*x.o.Stretch <= int64(off); slot++ {
		if err := x.write(slot, off, m); err != nil {
			return err
		}
		x.end.Store(slot + 1)
	}
	x.latest = max(x.latest, clamp(m.StoreTimestamp))
	x.next = off + message.Offset(m.Size)
	return nil
}

// write fills a slot with the record that it names.
func (x *Index) write(slot int64, off message.Offset, m *message.Message) error {
	f, err := x.fileOf(slot)
	if err != nil {
		return err
	}
	at := position(slot) - f.Base()
	if err := f.Reserve(at + entrySize); err != nil {
		return err
	}
	b, err := f.Bytes()
	if err != nil {
		return err
	}
	if x.headed != f.Base() {
		if err := x.head(f); err != nil {
			return err
		}
	}
	if mayHold(slot, x.o.Stretch, off) { // else a stretch that long was damaged
		entry{time: x.latest, offset: off, mark: markOf(m)}.encode(b[at:], slot, x.o.Stretch)
	}
	return nil
}

// fileOf returns the file of a slot, the last one, and makes it if need be.
func (x *Index) fileOf(slot int64) (*mappedfile.File, error) {
	if f := x.files.Find(position(slot)); f != nil {
		return f, nil
	}
	if last := x.files.Last(); last != nil {
		// What Flush does not look at any more.
		if err := last.Flush(0, FileSize); err != nil {
			return nil, err
		}
	}
	return x.files.Add(slot / perFile * FileSize)
}
