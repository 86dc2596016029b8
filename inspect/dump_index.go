// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/stelelog/stele/keyindex"
)

// indexSizes finds out how many slots and entries an index file has: its
// neighbours may tell where it does not.
func (d *dumper) indexSizes() (keyindex.Sizes, error) {
	z := d.o.Sizes
	if z.Slots != 0 && z.Entries != 0 {
		return z, z.Check()
	}
	if z == (keyindex.Sizes{}) && d.file.size == keyindex.DefaultSizes.FileSize() {
		return keyindex.DefaultSizes, nil
	}
	var set *keyindex.Set
	err := guard(func() (err error) {
		set, err = keyindex.OpenSet(keyindex.Options{Dir: filepath.Dir(d.path), ReadOnly: true, Damaged: true, Sizes: z})
		return err
	})
	if err != nil {
		return z, err
	}
	z = set.Sizes()
	if err := set.Close(); err != nil {
		return z, err
	}
	if !keyindex.IsFileName(filepath.Base(d.path)) && z.FileSize() != d.file.size {
		return z, fmt.Errorf("%s: %w: %d bytes", d.path, keyindex.ErrSizes, d.file.size) // its neighbours say nothing about it
	}
	return z, nil
}

// index dumps a file of the key index: header, slots, entries. Runs of empty slots,
// and the entries that are not used yet, are one field.
func (d *dumper) index() error {
	z, err := d.indexSizes()
	if err != nil {
		return err
	}
	b, err := d.file.bytes(0, keyindex.HeaderSize)
	if err != nil {
		return err
	}
	if len(b) < keyindex.HeaderSize {
		return d.put("header", "bytes", 0, int64(len(b)), "", fmt.Errorf("the file ends in its header of %d bytes", keyindex.HeaderSize))
	}
	count := max(int64(be32(b[36:])), 1)
	if d.o.From < keyindex.HeaderSize {
		if err := d.indexHeader(z, count); err != nil {
			return err
		}
	}
	if err := d.slots(z, count); err != nil {
		return err
	}
	at, err := d.indexEntries(z, min(count, int64(z.Entries)))
	if err != nil {
		return err
	}
	if err := d.indexRest(z, at); err != nil {
		return err
	}
	if d.file.size > z.FileSize() {
		return d.put("bytes", "behind the last entry", z.FileSize(), d.file.size-z.FileSize(), "", fmt.Errorf("%d slots and %d entries take %d bytes", z.Slots, z.Entries, z.FileSize()))
	}
	return nil
}

func (d *dumper) indexHeader(z keyindex.Sizes, count int64) error {
	var wrong error
	if count > int64(z.Entries) {
		wrong = fmt.Errorf("there is room for %d", z.Entries)
	}
	item := "header"
	for _, f := range []struct {
		name   string
		at, n  int64
		text   func([]byte) string
		damage error
	}{
		{"begin time", 0, 8, func(b []byte) string { return timeText(be64(b)) }, nil},
		{"end time", 8, 8, func(b []byte) string { return timeText(be64(b)) }, nil},
		{"begin offset", 16, 8, decimalText, nil},
		{"end offset", 24, 8, decimalText, nil},
		{"slots in use", 32, 4, decimalText, nil},
		{"number of the next entry", 36, 4, decimalText, wrong},
	} {
		b, err := d.file.bytes(f.at, f.n)
		if err != nil {
			return err
		}
		if err := d.put(item, f.name, f.at, f.n, f.text(b), f.damage); err != nil {
			return err
		}
		item = ""
	}
	return nil
}

// slots dumps the slots that are used, and says how many lie between them.
func (d *dumper) slots(z keyindex.Sizes, count int64) error {
	end := min(z.SlotAt(z.Slots), d.file.size)
	at := max(z.SlotAt(0), d.o.From/keyindex.SlotSize*keyindex.SlotSize) // the header is a multiple, too
	item := "slots"
	for at+keyindex.SlotSize <= end {
		next, err := d.file.zeros(d.ctx, at, end)
		if err != nil {
			return err
		}
		next = at + (next-at)/keyindex.SlotSize*keyindex.SlotSize
		if next > at {
			if err := d.put(item, "slots "+between((at-z.SlotAt(0))/keyindex.SlotSize, (next-z.SlotAt(0))/keyindex.SlotSize), at, next-at, "empty", nil); err != nil {
				return err
			}
			item, at = "", next
			continue
		}
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		b, err := d.file.bytes(at, keyindex.SlotSize)
		if err != nil || len(b) < keyindex.SlotSize {
			return err
		}
		var wrong error
		if n := int64(be32(b)); n < 0 || n >= count {
			wrong = fmt.Errorf("there is no entry of that number: the next one is %d", count)
		}
		if err := d.put(item, "slot "+strconv.FormatInt((at-z.SlotAt(0))/keyindex.SlotSize, 10), at, keyindex.SlotSize, "entry "+decimalText(b), wrong); err != nil {
			return err
		}
		item, at = "", at+keyindex.SlotSize
	}
	if at < end {
		return d.put(item, "half a slot", at, end-at, "", errors.New("the file ends here"))
	}
	return nil
}

// between names things from one number to before another.
func between(from, to int64) string {
	if to-from == 1 {
		return strconv.FormatInt(from, 10)
	}
	return fmt.Sprintf("%d to %d", from, to-1)
}

// indexEntries dumps the entries that are counted, and returns where they end.
func (d *dumper) indexEntries(z keyindex.Sizes, count int64) (int64, error) {
	first := max((d.o.From-z.EntryAt(0)+keyindex.EntrySize-1)/keyindex.EntrySize, 0)
	for k := first; k < count; k++ {
		at := z.EntryAt(int(k))
		b, err := d.file.bytes(at, keyindex.EntrySize)
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			break
		}
		if len(b) < keyindex.EntrySize {
			return d.file.size, d.put("entry "+strconv.FormatInt(k, 10), "bytes", at, int64(len(b)), "", errors.New("the file ends here"))
		}
		if k == 0 {
			var wrong error
			if [keyindex.EntrySize]byte(b) != [keyindex.EntrySize]byte{} {
				wrong = errors.New("not zero")
			}
			if err := d.put("entry 0", "never used", at, keyindex.EntrySize, "", wrong); err != nil {
				return 0, err
			}
			continue
		}
		if err := d.item(); err != nil {
			return 0, err
		}
		if err := d.indexEntry(z, k, at, [keyindex.EntrySize]byte(b)); err != nil {
			return 0, err
		}
	}
	return z.EntryAt(int(max(count, first))), nil
}

func (d *dumper) indexEntry(z keyindex.Sizes, k, at int64, b [keyindex.EntrySize]byte) error {
	hash, off, seconds, prev := be32(b[0:]), be64(b[4:]), be32(b[12:]), be32(b[16:])
	var wrong [4]error
	slot := fmt.Sprintf("%d  slot %d", hash, int(hash)%z.Slots)
	if hash < 0 {
		slot, wrong[0] = strconv.Itoa(int(hash)), errors.New("negative")
	}
	if off < 0 {
		wrong[1] = errors.New("negative")
	}
	if seconds < 0 {
		wrong[2] = errors.New("negative")
	}
	if int64(prev) >= k || prev < 0 {
		wrong[3] = errors.New("a chain leads to entries of lower numbers")
	}
	previous := "entry " + strconv.Itoa(int(prev))
	if prev == 0 {
		previous = "none: the chain ends"
	}
	if err := d.put("entry "+strconv.FormatInt(k, 10), "hash of the key", at, 4, slot, wrong[0]); err != nil {
		return err
	}
	if err := d.put("", "record at", at+4, 8, strconv.FormatInt(off, 10), wrong[1]); err != nil {
		return err
	}
	if err := d.put("", "seconds since the begin time", at+12, 4, strconv.Itoa(int(seconds)), wrong[2]); err != nil {
		return err
	}
	return d.put("", "the one before it in the chain", at+16, 4, previous, wrong[3])
}

// indexRest dumps the entries that are not counted.
func (d *dumper) indexRest(z keyindex.Sizes, at int64) error {
	end := min(z.FileSize(), d.file.size)
	if at = max(at, d.o.From); at >= end {
		if d.file.size < z.FileSize() {
			return d.put("bytes", "the file", d.file.size, 0, "", fmt.Errorf("it ends here; %d slots and %d entries take %d bytes", z.Slots, z.Entries, z.FileSize()))
		}
		return nil
	}
	zeros, err := d.file.zeros(d.ctx, at, end)
	if err != nil {
		return err
	}
	if zeros > at {
		if err := d.put("entries", "not used yet", at, zeros-at, "zeros", nil); err != nil {
			return err
		}
	}
	if zeros < end {
		return d.put("bytes", "an entry that is not counted", zeros, end-zeros, "left by a kill, or a writer's next one", nil)
	}
	return nil
}
