// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// queue dumps the entries of a consume queue's file. Runs of entries that name no
// message are one field.
func (d *dumper) queue() error {
	const size = consumequeue.EntrySize
	last := message.Offset(-1) // where the newest entry points to
	at := d.o.From / size * size
	for at+size <= d.file.size {
		b, err := d.file.bytes(at, size)
		if err != nil {
			return err
		}
		if len(b) < size {
			break
		}
		e := consumequeue.DecodeEntry(b)
		if e == (consumequeue.Entry{}) || e.IsBlank() {
			next, err := d.emptyEntries(at, e)
			if err != nil {
				return err
			}
			at = next
			continue
		}
		if err := d.item(); err != nil {
			return err
		}
		if err := d.entry(at, e, last); err != nil {
			return err
		}
		if e.Valid() {
			last = e.Offset
		}
		at += size
	}
	if at < d.file.size {
		return d.put("bytes", "half an entry", at, d.file.size-at, "", fmt.Errorf("a queue file is a multiple of %d bytes long", size))
	}
	return nil
}

// entry dumps one entry. last is where the one before it points to.
func (d *dumper) entry(at int64, e consumequeue.Entry, last message.Offset) error {
	var wrongOffset, wrongSize error
	switch {
	case e.Offset < 0:
		wrongOffset = errors.New("negative")
	case !e.Valid():
		wrongSize = errors.New("no record has this size")
	case e.Size < message.MinRecordSize:
		wrongSize = fmt.Errorf("the shortest record has %d bytes", message.MinRecordSize)
	case e.Offset <= last:
		wrongOffset = fmt.Errorf("not behind %d, to which the entry before it points", last)
	}
	if err := d.put(d.entryName(at), "record at", at, 8, fmt.Sprint(e.Offset), wrongOffset); err != nil {
		return err
	}
	if err := d.put("", "its size", at+8, 4, fmt.Sprint(e.Size), wrongSize); err != nil {
		return err
	}
	return d.put("", "tags code", at+12, 8, fmt.Sprint(e.TagsCode), nil)
}

// entryName says which entry of the queue stands at a position.
func (d *dumper) entryName(at int64) string {
	if d.base < 0 {
		return fmt.Sprintf("entry %d of the file", at/consumequeue.EntrySize)
	}
	return fmt.Sprintf("queue offset %d", (d.base+at)/consumequeue.EntrySize)
}

// emptyEntries dumps a run of entries that are like e, and returns where it ends.
func (d *dumper) emptyEntries(at int64, e consumequeue.Entry) (next int64, err error) {
	const size = consumequeue.EntrySize
	next = at
	for next+size <= d.file.size {
		if next%(size<<15) == 0 && d.ctx.Err() != nil {
			return 0, d.ctx.Err()
		}
		b, err := d.file.bytes(next, size)
		if err != nil {
			return 0, err
		}
		if len(b) < size || consumequeue.DecodeEntry(b) != e {
			break
		}
		next += size
	}
	n := (next - at) / size
	name, value := "never filled", fmt.Sprintf("%d entries", n)
	var hole error
	if e.IsBlank() {
		name = "blank"
	} else if next+size <= d.file.size {
		hole = errors.New("entries that were never filled, with others behind them")
	}
	return next, d.put(d.entryName(at), name, at, next-at, value, hole)
}
