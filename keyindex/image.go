// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

const (
	// HeaderSize is the length of the header in bytes.
	HeaderSize = 40
	// SlotSize and EntrySize are the lengths of a slot and of an entry.
	SlotSize  = 4
	EntrySize = 20

	// DefaultSlots and DefaultEntries are RocketMQ's maxHashSlotNum and
	// maxIndexNum.
	DefaultSlots   = 5_000_000
	DefaultEntries = 20_000_000
)

// Sizes are the numbers of slots and entries of each file of a directory. They
// are a setting: the files do not hold them.
type Sizes struct {
	Slots int
	// Entries is one more than a file holds: entry 0 is never used.
	Entries int
}

// DefaultSizes are RocketMQ's.
var DefaultSizes = Sizes{Slots: DefaultSlots, Entries: DefaultEntries}

// FileSize is the length of a file in bytes.
func (z Sizes) FileSize() int64 { return z.entriesAt() + EntrySize*int64(z.Entries) }

// SlotAt is where slot i stands in a file, in bytes.
func (z Sizes) SlotAt(i int) int64 { return HeaderSize + SlotSize*int64(i) }

// EntryAt is where entry k stands in a file, in bytes.
func (z Sizes) EntryAt(k int) int64 { return z.entriesAt() + EntrySize*int64(k) }

func (z Sizes) entriesAt() int64 { return HeaderSize + SlotSize*int64(z.Slots) }

// Check returns an error that wraps ErrSizes unless there is a slot and room for
// an entry, in a file that RocketMQ can map: of at most 2 GiB.
func (z Sizes) Check() error {
	if z.Slots < 1 || z.Entries < 2 || z.Slots > math.MaxInt32 || z.Entries > math.MaxInt32 || z.FileSize() > math.MaxInt32 {
		return fmt.Errorf("%w: %d slots and %d entries: at least 1 and 2, and at most 2 GiB together", ErrSizes, z.Slots, z.Entries)
	}
	return nil
}

// Header is the first 40 bytes of a file. Times are store times in milliseconds
// since the Unix epoch; until the first entry is put, times and offsets are the
// last ones of the file before.
type Header struct {
	BeginTime, EndTime     int64          // of the first and the last entry; the last may be below the first
	BeginOffset, EndOffset message.Offset // of their records
	SlotsUsed              int32
	Count                  int32 // number of the next entry; 1 in an empty file
}

// Entry says where the record of a key lies.
type Entry struct {
	Hash    int32
	Offset  message.Offset
	Seconds int32 // since the file's BeginTime, not below 0
	Prev    int32 // the next older entry of its chain; 0 ends it
}

// Hash is the hash of a key of a topic: Java's hash of topic#key without its
// sign, and 0 for the one value that has no positive counterpart.
func Hash(topic, key string) int32 { return positive(message.HashString(topic + "#" + key)) }

func positive(h int32) int32 {
	if h == math.MinInt32 {
		return 0
	}
	return max(h, -h)
}

// Image is the bytes of an index file, which it borrows. Reading is safe beside
// the file's writer, in this process or another. No content makes it read out
// of bounds or without end.
type Image struct {
	Sizes
	data []byte
	path string
}

// NewImage takes data, which must be as long as the sizes say, for an index
// file. path is for errors.
func NewImage(path string, data []byte, z Sizes) (Image, error) {
	if err := z.Check(); err != nil {
		return Image{}, err
	}
	if int64(len(data)) != z.FileSize() {
		return Image{}, &mappedfile.FileError{Path: path, Cause: mappedfile.ErrFileSize, Want: z.FileSize(), Got: int64(len(data))}
	}
	return Image{Sizes: z, data: data, path: path}, nil
}

// AppendTo appends a copy of the bytes to b.
func (m Image) AppendTo(b []byte) []byte { return append(b, m.data...) }

// Positions in the header.
const (
	beginTimeAt   = 0
	endTimeAt     = 8
	beginOffsetAt = 16
	endOffsetAt   = 24
	countsAt      = 32 // slots used and count: one word, so that they move together
)

// load64 and its like read and write big-endian words in one piece.
func (m Image) load64(at int64) int64 {
	w := atomic.LoadUint64((*uint64)(unsafe.Pointer(&m.data[at])))
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], w)
	return int64(binary.BigEndian.Uint64(b[:]))
}

func (m Image) store64(at, v int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(v))
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&m.data[at])), binary.NativeEndian.Uint64(b[:]))
}

func (m Image) load32(at int64) int32 {
	w := atomic.LoadUint32((*uint32)(unsafe.Pointer(&m.data[at])))
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return int32(binary.BigEndian.Uint32(b[:]))
}

func (m Image) store32(at int64, v int32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(v))
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&m.data[at])), binary.NativeEndian.Uint32(b[:]))
}

// Header returns the header as it stands.
func (m Image) Header() Header {
	counts := m.load64(countsAt)
	return Header{
		BeginTime: m.load64(beginTimeAt), EndTime: m.load64(endTimeAt),
		BeginOffset: message.Offset(m.load64(beginOffsetAt)), EndOffset: message.Offset(m.load64(endOffsetAt)),
		SlotsUsed: int32(counts >> 32), Count: int32(counts),
	}
}

// next is the number of the next entry: the header's count, between 1 and
// Entries whatever stands there.
func (m Image) next() int { return min(max(int(int32(m.load64(countsAt))), 1), m.Entries) }

// Len is the number of entries, by the header.
func (m Image) Len() int { return m.next() - 1 }

// Full reports whether no entry has room any more.
func (m Image) Full() bool { return m.next() == m.Entries }

// SlotOf is the slot of a hash.
func (m Image) SlotOf(hash int32) int { return int(hash) % m.Slots }

// Slot returns what slot i holds, which must be in [0, Slots).
func (m Image) Slot(i int) int32 { return m.load32(m.SlotAt(i)) }

// NextDifferent returns the first slot from i on that does not hold what want says,
// which has a number for each slot, or Slots if there is none.
func (m Image) NextDifferent(i int, want []int32) int {
	// By way of the bytes: a load for each would take most of the time of a check.
	slots := m.data[m.SlotAt(0):m.SlotAt(m.Slots)]
	var some [256 * SlotSize]byte
	for i < m.Slots {
		n := min(m.Slots-i, len(some)/SlotSize)
		for k, w := range want[i : i+n] {
			binary.BigEndian.PutUint32(some[SlotSize*k:SlotSize*k+SlotSize], uint32(w))
		}
		if bytes.Equal(some[:SlotSize*n], slots[SlotSize*i:SlotSize*(i+n)]) {
			i += n
			continue
		}
		for k := range n {
			if m.Slot(i+k) != want[i+k] {
				return i + k
			}
		}
		i += n // its writer put it right meanwhile
	}
	return m.Slots
}

// Entry returns entry k, which must be in [0, Entries).
func (m Image) Entry(k int) Entry {
	b := m.data[m.EntryAt(k):][:EntrySize]
	return Entry{
		Hash:    int32(binary.BigEndian.Uint32(b)),
		Offset:  message.Offset(binary.BigEndian.Uint64(b[4:])),
		Seconds: int32(binary.BigEndian.Uint32(b[12:])),
		Prev:    int32(binary.BigEndian.Uint32(b[16:])),
	}
}

func (m Image) putEntry(k int, e Entry) {
	b := m.data[m.EntryAt(k):][:EntrySize]
	binary.BigEndian.PutUint32(b, uint32(e.Hash))
	binary.BigEndian.PutUint64(b[4:], uint64(e.Offset))
	binary.BigEndian.PutUint32(b[12:], uint32(e.Seconds))
	binary.BigEndian.PutUint32(b[16:], uint32(e.Prev))
}

// Chain walks the chain of a slot, which must be in [0, Slots), newest entry
// first, until visit returns false. The error is a *DamageError; what was
// visited before it is good.
func (m Image) Chain(slot int, visit func(k int, e Entry) bool) error {
	k := int(m.Slot(slot))
	// The count is read after the slot, so it is behind by one put at most.
	if n := m.next(); k < 0 || k > n || k >= m.Entries {
		return m.damage(slot, 0, fmt.Errorf("%w: entry %d of %d", ErrSlot, k, n-1))
	}
	for k > 0 {
		e := m.Entry(k)
		if e.Hash < 0 || m.SlotOf(e.Hash) != slot {
			return m.damage(slot, k, fmt.Errorf("%w: its hash %#x belongs elsewhere", ErrChain, uint32(e.Hash)))
		}
		if !visit(k, e) {
			return nil
		}
		if e.Prev < 0 || int(e.Prev) >= k {
			return m.damage(slot, k, fmt.Errorf("%w: entry %d is said to be before it", ErrChain, e.Prev))
		}
		k = int(e.Prev)
	}
	return nil
}

func (m Image) damage(slot, entry int, cause error) *DamageError {
	return &DamageError{Path: m.path, Slot: slot, Entry: entry, Cause: cause}
}

// mayLie reports whether the record of entry k may have a store time in [begin,
// end]. The entry knows it to the second, and not at all below the file's begin;
// that of the first entry is reckoned from the end of the file before.
func (m Image) mayLie(k int, e Entry, begin, end int64) bool {
	if k == 1 || e.Seconds < 0 {
		return true
	}
	at := m.load64(beginTimeAt) + int64(e.Seconds)*1000
	if at+999 < begin && e.Seconds < math.MaxInt32 {
		return false
	}
	return at <= end || e.Seconds == 0
}
