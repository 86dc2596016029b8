// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// IndexFile is one file of the key index.
type IndexFile struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Slots   int    `json:"slots"`
	Entries int    `json:"entries"` // there is room for, entry 0 included
	Full    bool   `json:"full"`
	// What the header says. Times are store times in milliseconds.
	Count       int            `json:"count"` // entries that are there
	SlotsUsed   int            `json:"slotsUsed"`
	BeginTime   int64          `json:"beginTime"`
	EndTime     int64          `json:"endTime"`
	BeginOffset message.Offset `json:"beginOffset"`
	EndOffset   message.Offset `json:"endOffset"`
	// Chains are figures about its chains, if they were asked for.
	Chains *IndexChains `json:"chains,omitempty"`
	// Problems are *keyindex.DamageErrors, the first so many of them.
	Problems []Problem `json:"problems"`
}

// IndexChains are figures about the chains of a file.
type IndexChains struct {
	Used    int `json:"used"`    // slots with a chain
	Longest int `json:"longest"` // entries
	// Lengths counts slots by the length of their chain; the last number counts
	// all that are as long or longer.
	Lengths []int `json:"lengths"`
}

// indexProblems bounds IndexFile.Problems: a file of noise has millions.
const indexProblems = 100

// IndexFiles reads all of the key index and yields its files, oldest first. A
// *mappedfile.FileError for a file that is passed over is yielded in between;
// any other error is the last thing. sizes are as in KeyQuery.
func (d *Dir) IndexFiles(ctx context.Context, sizes keyindex.Sizes, chains bool) iter.Seq2[IndexFile, error] {
	return func(yield func(IndexFile, error) bool) {
		set, err := d.openIndex(sizes)
		if err != nil {
			yield(IndexFile{}, err)
			return
		}
		defer func() { _ = set.Close() }()
		for _, p := range set.Problems() {
			if !yield(IndexFile{}, p) {
				return
			}
		}
		for _, f := range set.Files() {
			if err := ctx.Err(); err != nil {
				yield(IndexFile{}, context.Cause(ctx))
				return
			}
			row, err := indexFile(f, chains)
			if errors.Is(err, mappedfile.ErrExpired) {
				continue
			}
			if !yield(row, unreadable(err)) || err != nil {
				return
			}
		}
	}
}

func indexFile(f *keyindex.File, chains bool) (row IndexFile, err error) {
	err = f.Read(func(m keyindex.Image) error {
		h := m.Header()
		row = IndexFile{
			Name: f.Name(), Path: f.Path(), Slots: m.Slots, Entries: m.Entries, Full: m.Full(),
			Count: m.Len(), SlotsUsed: int(h.SlotsUsed), BeginTime: h.BeginTime, EndTime: h.EndTime,
			BeginOffset: h.BeginOffset, EndOffset: h.EndOffset, Problems: []Problem{},
		}
		for p := range m.Problems {
			if row.Problems = append(row.Problems, Problem{p}); len(row.Problems) == indexProblems {
				break
			}
		}
		if chains {
			st := m.Stats()
			row.Chains = &IndexChains{Used: st.SlotsUsed, Longest: st.Longest, Lengths: st.Lengths[:]}
		}
		return nil
	})
	return row, err
}

// IndexEntry is one entry of an index file.
type IndexEntry struct {
	Number int
	Slot   int
	keyindex.Entry
}

// AppendJSON appends the entry as an object to dst: number, slot, hash,
// physicalOffset, seconds, previous.
func (e IndexEntry) AppendJSON(dst []byte) []byte {
	dst = appendInt(append(dst, `{"number":`...), int64(e.Number))
	dst = appendInt(append(dst, `,"slot":`...), int64(e.Slot))
	dst = appendInt(append(dst, `,"hash":`...), e.Hash)
	dst = appendInt(append(dst, `,"physicalOffset":`...), e.Offset)
	dst = appendInt(append(dst, `,"seconds":`...), e.Seconds)
	dst = appendInt(append(dst, `,"previous":`...), e.Prev)
	return append(dst, '}')
}

// IndexEntries yields the entries of one index file, by number; with a slot that
// is not negative its chain alone, newest entry first. An error is the last
// thing: a *keyindex.DamageError where a chain is broken, ErrNoIndexFile, and
// what keeps the file from being read.
func (d *Dir) IndexEntries(ctx context.Context, sizes keyindex.Sizes, name string, slot int) iter.Seq2[IndexEntry, error] {
	return func(yield func(IndexEntry, error) bool) {
		set, err := d.openIndex(sizes)
		if err != nil {
			yield(IndexEntry{}, err)
			return
		}
		defer func() { _ = set.Close() }()
		for _, f := range set.Files() {
			if f.Name() != name {
				continue
			}
			w := entryWalk{ctx: ctx, slot: slot, yield: yield}
			if err := f.Read(w.run); err != nil && !w.stopped {
				yield(IndexEntry{}, unreadable(err))
			}
			return
		}
		yield(IndexEntry{}, fmt.Errorf("%w: %s in %s", ErrNoIndexFile, name, d.path))
	}
}

type entryWalk struct {
	ctx     context.Context
	slot    int
	stopped bool
	yield   func(IndexEntry, error) bool
}

func (w *entryWalk) run(m keyindex.Image) error {
	one := func(slot, k int, e keyindex.Entry) bool {
		w.stopped = !w.yield(IndexEntry{Number: k, Slot: slot, Entry: e}, nil)
		return !w.stopped
	}
	if w.slot >= m.Slots {
		return fmt.Errorf("%w: slot %d of %d", ErrNoIndexFile, w.slot, m.Slots)
	}
	if w.slot >= 0 {
		return m.Chain(w.slot, func(k int, e keyindex.Entry) bool { return one(w.slot, k, e) })
	}
	for k := 1; k <= m.Len(); k++ {
		if k%(1<<16) == 0 && w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		e := m.Entry(k)
		slot := -1 // a damaged one has none
		if e.Hash >= 0 {
			slot = m.SlotOf(e.Hash)
		}
		if !one(slot, k, e) {
			return nil
		}
	}
	return nil
}
