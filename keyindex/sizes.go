// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// settle finds the sizes of a directory's files: as o gives them, else as the
// files tell.
func settle(o *Options, found []mappedfile.Entry) (Sizes, error) {
	z := o.Sizes
	if z.Slots != 0 && z.Entries != 0 {
		return z, z.Check()
	}
	if len(found) == 0 {
		if o.Hint != (Sizes{}) && z == (Sizes{}) {
			z = o.Hint
		}
		z = Sizes{Slots: or(z.Slots, DefaultSlots), Entries: or(z.Entries, DefaultEntries)}
		return z, z.Check()
	}
	lengths := byLength(found)
	var err error
	for _, length := range lengths {
		var got Sizes
		if got, err = tell(o, found, length); err == nil {
			return got, nil
		}
	}
	return Sizes{}, err
}

func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// byLength returns the lengths of the files, the most common first.
func byLength(found []mappedfile.Entry) []int64 {
	count := map[int64]int{}
	var lengths []int64
	for _, e := range found {
		if count[e.Size]++; count[e.Size] == 1 {
			lengths = append(lengths, e.Size)
		}
	}
	slices.SortStableFunc(lengths, func(a, b int64) int { return count[b] - count[a] })
	return lengths
}

// tell finds the sizes of files of a length.
func tell(o *Options, found []mappedfile.Entry, length int64) (Sizes, error) {
	z := o.Sizes
	switch {
	case z.Slots != 0:
		z.Entries = int((length - HeaderSize - SlotSize*int64(z.Slots)) / EntrySize)
		return z, fits(z, length)
	case z.Entries != 0:
		z.Slots = int((length - HeaderSize - EntrySize*int64(z.Entries)) / SlotSize)
		return z, fits(z, length)
	case o.Hint != (Sizes{}) && o.Hint.Check() == nil && o.Hint.FileSize() == length:
		return o.Hint, nil
	case length == DefaultSizes.FileSize():
		return DefaultSizes, nil
	}
	for _, e := range found {
		if e.Size != length {
			continue
		}
		if z, ok, err := inferFile(o, filepath.Join(o.Dir, e.Name), Infer); ok || err != nil {
			return z, err
		}
	}
	for _, e := range found {
		if e.Size != length || !o.Damaged || !o.ReadOnly {
			continue
		}
		if z, ok, err := inferFile(o, filepath.Join(o.Dir, e.Name), guess); ok || err != nil {
			return z, err
		}
	}
	return Sizes{}, fmt.Errorf("%s: %w: files of %d bytes are not of the default sizes, and their entries do not tell", o.Dir, ErrSizes, length)
}

func fits(z Sizes, length int64) error {
	if err := z.Check(); err != nil {
		return err
	}
	if z.FileSize() != length {
		return fmt.Errorf("%w: files of %d bytes can't have %d slots and %d entries", ErrSizes, length, z.Slots, z.Entries)
	}
	return nil
}

// inferFile finds the sizes that a file's content speaks for. A file that is
// being written is looked at some more times.
func inferFile(o *Options, path string, infer func([]byte) (Sizes, bool)) (z Sizes, ok bool, err error) {
	r, err := o.Disk.Open(path, mappedfile.Mapping{ReadOnly: true, Lean: true})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, mappedfile.ErrFileSize) {
		return Sizes{}, false, nil // expired meanwhile, or just being made
	}
	if err != nil {
		return Sizes{}, false, err
	}
	err = mappedfile.Guard(func() error {
		for range 5 {
			if z, ok = infer(r.Bytes()); ok {
				break
			}
		}
		return nil
	})
	return z, ok, errors.Join(err, r.Close())
}

// Infer finds out how many slots and entries an index file has, if it can be
// told without doubt. The last word that is not zero belongs to the last entry,
// whose number the header has: that leaves five numbers of slots, of which the
// length of the file allows one. All entries must then be sound, stand in the
// chains that the slots begin, and be as many as the header says.
func Infer(data []byte) (Sizes, bool) {
	m, ok := candidate(data, counted(data))
	return m.Sizes, ok && m.sound()
}

// guess is Infer for a file that is damaged here and there, or whose last entry
// is not counted yet: most of its entries must be sound.
func guess(data []byte) (Sizes, bool) {
	for more := range int64(2) {
		if m, ok := candidate(data, counted(data)+more); ok && m.mostlySound() {
			return m.Sizes, true
		}
	}
	return Sizes{}, false
}

// counted is what the header says of how many entries there are, entry 0 included.
func counted(data []byte) int64 {
	if len(data) < HeaderSize {
		return 0
	}
	return int64(int32(binary.BigEndian.Uint32(data[countsAt+4:])))
}

// candidate is the file with the one pair of sizes that it can have if so many
// entries are in it.
func candidate(data []byte, count int64) (Image, bool) {
	if len(data) < HeaderSize+SlotSize+2*EntrySize || (len(data)-HeaderSize)%SlotSize != 0 {
		return Image{}, false
	}
	last := lastWord(data[HeaderSize:])
	if count < 2 || last < 0 {
		return Image{}, false
	}
	words := int64(len(data)-HeaderSize) / SlotSize
	const perEntry = EntrySize / SlotSize
	for j := range int64(perEntry) {
		slots := last - perEntry*(count-1) - j
		if slots < 1 || (words-slots)%perEntry != 0 {
			continue
		}
		z := Sizes{Slots: int(slots), Entries: int((words - slots) / perEntry)}
		m, err := NewImage("", data, z)
		return m, err == nil && count <= int64(z.Entries)
	}
	return Image{}, false
}

// mostlySound reports whether three of four entries at least can stand where they
// do. With a wrong number of slots next to none can.
func (m Image) mostlySound() bool {
	n, good, last := m.Len(), 0, message.Offset(0)
	for k := 1; k <= n; k++ {
		e := m.Entry(k)
		if e.Hash < 0 || e.Seconds < 0 || e.Prev < 0 || int(e.Prev) >= k || e.Offset < last {
			continue
		}
		if e.Prev == 0 || m.SlotOf(m.Entry(int(e.Prev)).Hash&math.MaxInt32) == m.SlotOf(e.Hash) {
			good++
		}
		last = e.Offset
	}
	return n > 0 && 4*good >= 3*n
}

// lastWord is the last 32-bit word of b that is not zero, -1 when there is none.
func lastWord(b []byte) int64 {
	n := int64(len(b)) / SlotSize
	for n > 0 && n%2 == 0 && binary.NativeEndian.Uint64(b[SlotSize*(n-2):]) == 0 {
		n -= 2
	}
	for n > 0 && binary.NativeEndian.Uint32(b[SlotSize*(n-1):]) == 0 {
		n--
		for n > 0 && n%2 == 0 && binary.NativeEndian.Uint64(b[SlotSize*(n-2):]) == 0 {
			n -= 2
		}
	}
	return n - 1
}

// sound reports whether header, slots and entries agree in everything.
func (m Image) sound() bool {
	h, n := m.Header(), m.Len()
	if n == 0 || n+1 != int(h.Count) || m.Entry(0) != (Entry{}) || h.BeginOffset != m.Entry(1).Offset || h.EndOffset != m.Entry(n).Offset {
		return false
	}
	c := m.scan(everything)
	if c.bad != nil || c.n != n || c.used != h.SlotsUsed {
		return false
	}
	for i, head := range c.heads {
		if m.Slot(i) != head {
			return false
		}
	}
	return true
}
