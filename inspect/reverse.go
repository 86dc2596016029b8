// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"io/fs"
	"math"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// reverseStretch is how many bytes of the log are turned round at a time.
const reverseStretch = 1 << 20

// backward yields what a walk does, the last item first. Records can be found
// from the front only: a body may hold bytes that look like one. So a file is
// walked once to learn where a record begins in each of its stretches, and how
// many of the records there are wanted, and then each stretch that has some is
// walked again, the last one first. Memory is that of one stretch.
//
// A file's first record has none before it here, with whose time a record behind
// damage at the very begin of the file could be compared.
type backward struct {
	*walk
	all  matcher // without limit and end, which are for a walk from the front
	from message.Offset
	// held is damage from the first byte of the file that was done last. It may
	// be part of damage that begins in the file before.
	held *DamageError
}

// stretches of a file: each begins with a record, or with the file.
type stretchMark struct {
	from message.Offset
	used bool // it has a wanted record, or damage
}

// runBackward walks from the end of the range to its begin.
func (w *walk) runBackward(from message.Offset) error {
	b := &backward{walk: w, all: *w.match, from: from}
	b.all.Limit, b.all.behind = 0, math.MaxInt64
	starts, end := w.log.Starts(), w.to
	for i := len(starts) - 1; i >= 0 && end > from; i-- {
		if starts[i] >= end {
			continue
		}
		if _, ok := w.passOver(starts[i]); ok {
			if err := b.release(); err != nil {
				return ended(err)
			}
			end = starts[i]
			continue
		}
		if err := b.file(max(starts[i], from), end); err != nil {
			return ended(err)
		}
		end = starts[i]
	}
	return ended(b.release())
}

// ended is how a walk ends that its consumer may have left.
func ended(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// file goes through [from, to), which lies in one file and the hole behind it.
func (b *backward) file(from, to message.Offset) error {
	marks, err := b.marks(from, to)
	if err != nil {
		return err
	}
	for i := len(marks) - 1; i >= 0; i-- {
		end := to
		if i+1 < len(marks) {
			end = marks[i+1].from
		}
		if !marks[i].used {
			continue
		}
		if err := b.stretch(marks[i].from, end, from, to); err != nil {
			return err
		}
	}
	if f := b.log.Files().Find(int64(from)); f != nil {
		return f.Drop()
	}
	return nil
}

// marks divides a range into stretches.
func (b *backward) marks(from, to message.Offset) ([]stretchMark, error) {
	marks := []stretchMark{{from: from}}
	last := func() *stretchMark { return &marks[len(marks)-1] }
	sub := b.part(to, func(_ Record, err error) bool {
		if err != nil {
			last().used = true
		}
		return true
	})
	sub.each = func(m *message.Message, wanted bool) {
		if m.PhysicalOffset-last().from >= reverseStretch {
			marks = append(marks, stretchMark{from: m.PhysicalOffset})
		}
		last().used = last().used || wanted
	}
	end := min(b.to, message.Offset(b.log.Files().End()))
	sub.progress = func(done, _ int64) { // the files behind this one are done
		b.progress(int64(max(end-to, 0))+done, int64(end-b.from))
	}
	err := sub.run(from)
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		last().used, err = true, nil
	}
	return marks, err
}

// part is a walk over a part of the range.
func (b *backward) part(to message.Offset, yield func(Record, error) bool) *walk {
	return &walk{ctx: b.ctx, log: b.log, match: &b.all, yield: yield, last: -1, to: to, progress: func(int64, int64) {}}
}

// reverseItem is a record, by its place, or damage.
type reverseItem struct {
	at     message.Offset
	size   int64
	damage *DamageError
}

// stretch yields what is in [from, to), which lies in the file's range
// [first, end), the last item first.
func (b *backward) stretch(from, to, first, end message.Offset) error {
	var items []reverseItem
	sub := b.part(to, func(r Record, err error) bool {
		var damage *DamageError
		if errors.As(err, &damage) {
			items = append(items, reverseItem{at: damage.Corrupt.Offset, damage: damage})
			return true
		}
		items = append(items, reverseItem{at: r.PhysicalOffset, size: int64(r.Size)})
		return err == nil
	})
	err := sub.run(from)
	var damage *DamageError
	if errors.As(err, &damage) {
		items = append(items, reverseItem{at: damage.Corrupt.Offset, damage: damage})
	} else if err != nil {
		return err
	}
	for i := len(items) - 1; i >= 0; i-- {
		if err := b.one(&items[i], first, end); err != nil {
			return err
		}
	}
	return nil
}

// one yields an item of the range [first, end).
func (b *backward) one(it *reverseItem, first, end message.Offset) error {
	if d := it.damage; d != nil {
		if b.held != nil && (d.Skipped == 0 || it.at+message.Offset(d.Skipped) > end) {
			b.held = nil // a part of this one
		}
		if err := b.release(); err != nil {
			return err
		}
		if it.at == first {
			b.held = d
			return nil
		}
		return b.damaged(d)
	}
	if err := b.release(); err != nil {
		return err
	}
	return b.record(it)
}

// release yields damage that was held.
func (b *backward) release() error {
	d := b.held
	if b.held = nil; d == nil {
		return nil
	}
	return b.damaged(d)
}

func (b *backward) damaged(d *DamageError) error {
	if !b.yield(Record{}, d) {
		return errStop
	}
	return nil
}

// record decodes a record once more and yields it.
func (b *backward) record(it *reverseItem) error {
	if b.found%ctxEvery == 0 && b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	f := b.log.Files().Find(int64(it.at))
	v, err := f.View(int64(it.at)-f.Base(), it.size)
	if errors.Is(err, mappedfile.ErrExpired) || errors.Is(err, fs.ErrNotExist) {
		return nil // the owner removed the file since it was walked
	}
	if err != nil {
		return unreadable(err)
	}
	defer v.Release()
	var m message.Message
	if err := guard(func() error { return (&message.Decoder{}).Decode(v.Bytes(), &m) }); err != nil {
		return err
	}
	if !b.yield(Record{Message: &m, Raw: message.Record(v.Bytes())}, nil) {
		return errStop
	}
	if b.found++; b.found == b.match.Limit {
		return errStop
	}
	return nil
}
