// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"encoding/binary"
	"math"

	"github.com/stelelog/stele/message"
)

// EntrySize is the length of an entry in bytes.
const EntrySize = 20

// blankSize is the size field of a blank entry. No record is that long: a
// commit log file holds at most that many bytes, its filler included.
const blankSize = math.MaxInt32

// Entry is one unit of a queue: where a record lies in the commit log, and
// what a fetch by tag looks at before it reads the record. It is the unit of
// RocketMQ's ConsumeQueue.java.
type Entry struct {
	// Offset is the record's first byte in the commit log.
	Offset message.Offset
	// Size is the length of the whole record in bytes.
	Size int32
	// TagsCode is the hash of the record's tags, 0 without tags; in the topic
	// of delayed messages it is the time of delivery in milliseconds.
	TagsCode int64
}

// blank is what stands where a queue has no message.
var blank = Entry{Size: blankSize}

// IsBlank reports whether e stands for no message: the unit that fills a file
// up to the first entry of a queue that does not begin at 0, and the places
// that Queue.Fill filled.
func (e Entry) IsBlank() bool { return e == blank }

// Valid reports whether e can be an entry of a message: the offset is not
// negative, the size is positive and below 2³¹-1 (which marks blank entries),
// and the record ends at an offset that can be expressed. An all-zero unit is
// not valid, nor is a blank one.
func (e Entry) Valid() bool {
	return e.Offset >= 0 && e.Size > 0 && e.Size < blankSize && e.Offset <= math.MaxInt64-message.Offset(e.Size)
}

// End is the offset behind the record's last byte. It means nothing for an
// entry that is not Valid.
func (e Entry) End() message.Offset { return e.Offset + message.Offset(e.Size) }

// Encode writes the entry to the first EntrySize bytes of dst, big-endian.
//
// The size goes last: a process that is killed half way leaves a unit that is
// not Valid, instead of one with the wrong tags.
func (e Entry) Encode(dst []byte) {
	_ = dst[EntrySize-1]
	binary.BigEndian.PutUint64(dst[0:], uint64(e.Offset))
	binary.BigEndian.PutUint64(dst[12:], uint64(e.TagsCode))
	binary.BigEndian.PutUint32(dst[8:], uint32(e.Size))
}

// DecodeEntry reads the first EntrySize bytes of b. Any bytes are an entry;
// whether it makes sense is what Valid and IsBlank say.
func DecodeEntry(b []byte) Entry {
	_ = b[EntrySize-1]
	return Entry{
		Offset:   message.Offset(binary.BigEndian.Uint64(b[0:])),
		Size:     int32(binary.BigEndian.Uint32(b[8:])),
		TagsCode: int64(binary.BigEndian.Uint64(b[12:])),
	}
}

// units is a stretch of whole entries as they lie in a file.
type units []byte

func (u units) len() int64 { return int64(len(u) / EntrySize) }

func (u units) at(i int64) Entry { return DecodeEntry(u[i*EntrySize:]) }

// blankAll fills u with blank entries.
func (u units) blankAll() {
	if len(u) == 0 {
		return
	}
	blank.Encode(u)
	for done := EntrySize; done < len(u); done *= 2 {
		copy(u[done:], u[:done])
	}
}
