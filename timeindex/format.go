// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/stelelog/stele/message"
)

// FileSize is the length of an index file in bytes. At DefaultStretch one covers
// 1016 MiB of the log.
const FileSize = 64 << 10

const (
	headerSize = 512
	entrySize  = 16
	perFile    = (FileSize - headerSize) / entrySize

	magic   = "STELETIM"
	version = 1
)

// DefaultStretch is the length of a stretch in bytes; MinStretch and MaxStretch
// bound it.
const (
	DefaultStretch = 256 << 10
	MinStretch     = 512
	MaxStretch     = 1 << 30
)

// ErrUnbegun is the cause of a DamageError about a file that has zeros where its
// magic goes, which is written last: it was being made when it was looked at, or
// when its maker was killed.
var ErrUnbegun = errors.New("no header of a time index yet")

// What is wrong with an index.
var (
	errHeader  = errors.New("no header of a time index")
	errVersion = errors.New("another version of the time index")
	errSlot    = errors.New("the entry is torn, stale or was never written")
	errOther   = errors.New("the entry is about another record")
)

// DamageError says that a part of the index can't be believed. Nothing is lost: a
// search goes on without it.
type DamageError struct {
	Path  string
	At    int64 // bytes from the start of the file
	Cause error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: time index damaged at byte %d: %v", e.Path, e.At, e.Cause)
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Cause }

// encodeHeader writes the header: magic 8, version 4, CRC 4, stretch 8.
func encodeHeader(dst []byte, stretch int64) {
	copy(dst, magic)
	binary.BigEndian.PutUint32(dst[8:], version)
	binary.BigEndian.PutUint64(dst[16:], uint64(stretch))
	binary.BigEndian.PutUint32(dst[12:], headerSum(dst))
}

// publishHeader writes the header into a mapping that others may be reading: until
// its magic is there, which is the last and comes in one piece, the file has none.
func publishHeader(dst []byte, stretch int64) {
	var h [24]byte
	encodeHeader(h[:], stretch)
	copy(dst[8:], h[8:])
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&dst[0])), binary.NativeEndian.Uint64(h[:]))
}

// headerBegun reports whether a mapping has the magic, and so the rest.
func headerBegun(b []byte) bool {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&b[0]))) != 0
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:12]), crc32.IEEETable, b[16:24])
}

// decodeHeader returns the stretch of a file.
func decodeHeader(b []byte) (stretch int64, err error) {
	switch {
	case len(b) < headerSize || string(b[:8]) != magic:
		return 0, errHeader
	case binary.BigEndian.Uint32(b[8:]) != version:
		return 0, fmt.Errorf("%w: %d, this is version %d", errVersion, binary.BigEndian.Uint32(b[8:]), version)
	case binary.BigEndian.Uint32(b[12:]) != headerSum(b):
		return 0, fmt.Errorf("%w: its checksum is wrong", errHeader)
	}
	stretch = int64(binary.BigEndian.Uint64(b[16:]))
	if stretch < MinStretch || stretch > MaxStretch {
		return 0, fmt.Errorf("%w: a stretch of %d bytes", errHeader, stretch)
	}
	return stretch, nil
}

// entry is what a slot says.
type entry struct {
	time   int64 // ms; the latest store time before offset
	offset message.Offset
	mark   uint32 // 24 bits
}

// mayHold reports whether a slot can name a record at off.
func mayHold(slot, stretch int64, off message.Offset) bool {
	ahead := int64(off) - slot*stretch
	return ahead >= 0 && ahead <= math.MaxUint32
}

func (e entry) encode(dst []byte, slot, stretch int64) {
	_ = dst[entrySize-1]
	var b [entrySize]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.time)<<16)
	binary.BigEndian.PutUint32(b[6:], uint32(int64(e.offset)-slot*stretch))
	put24(b[10:], e.mark)
	put24(b[13:], slotSum(b[:], slot, stretch))
	copy(dst, b[:])
}

// decodeEntry returns what a slot says, and false when it can't be believed.
func decodeEntry(b []byte, slot, stretch int64) (entry, bool) {
	_ = b[entrySize-1]
	be := binary.BigEndian
	if be.Uint64(b)|be.Uint64(b[8:]) == 0 || get24(b[13:]) != slotSum(b, slot, stretch) {
		return entry{}, false
	}
	return entry{
		time: int64(be.Uint64(b) >> 16), offset: message.Offset(slot*stretch + int64(be.Uint32(b[6:]))), mark: get24(b[10:]),
	}, true
}

// slotSum is the check of a slot.
func slotSum(b []byte, slot, stretch int64) uint32 {
	var place [16 + 13]byte
	binary.BigEndian.PutUint64(place[:], uint64(slot))
	binary.BigEndian.PutUint64(place[8:], uint64(stretch))
	copy(place[16:], b[:13])
	return crc32.ChecksumIEEE(place[:]) & 0xFFFFFF
}

// markOf tells a record from any other that may stand in its place.
func markOf(m *message.Message) uint32 {
	var b [40]byte
	be := binary.BigEndian
	be.PutUint32(b[0:], uint32(m.Size))
	be.PutUint32(b[4:], m.BodyCRC)
	be.PutUint32(b[8:], uint32(m.QueueID))
	be.PutUint64(b[12:], uint64(m.QueueOffset))
	be.PutUint64(b[20:], uint64(m.BornTimestamp))
	be.PutUint64(b[28:], uint64(m.StoreTimestamp))
	be.PutUint32(b[36:], uint32(m.Flag))
	return crc32.ChecksumIEEE(b[:]) & 0xFFFFFF
}

// clamp brings a time into the range that an entry can hold, up to the year 10889.
// Nonsense beyond it stays in order.
func clamp(ms int64) int64 { return min(max(ms, 0), 1<<48-1) }

func put24(b []byte, v uint32) { b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v) }

func get24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
