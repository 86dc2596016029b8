// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import "encoding/binary"

// Record is the bytes of one whole record, as Encoder.Append made it or Decoder.Decode
// accepted it. Its methods trust the lengths inside: never use it on bytes that nobody
// has checked.
type Record []byte

// Patch fills in what is only known under the append lock: the position of the record in
// the commit log, its queue offset (0 is written for a prepared or rolled back
// transaction) and the store time in milliseconds since the Unix epoch. With a property
// CRC the record must be sealed afterwards.
func (r Record) Patch(physical Offset, queue QueueOffset, storeTimestamp int64) {
	f := r.SysFlag()
	if !f.takesQueueOffset() {
		queue = 0
	}
	binary.BigEndian.PutUint64(r[atQueueOffset:], uint64(queue))
	binary.BigEndian.PutUint64(r[atPhysicalOffset:], uint64(physical))
	binary.BigEndian.PutUint64(r[atBornHost+hostLen(f, BornHostV6):], uint64(storeTimestamp))
}

// Seal computes the property CRC over all bytes before it and writes its digits. It does
// nothing to a record that was encoded without one. Any later change breaks the seal.
func (r Record) Seal() {
	if !endsInCRC(r.properties()) {
		return
	}
	end := len(r) - PropertyCRCLen
	putDigits(r[end+len(crcStart):], checksum(r[:end]))
}

// Size returns the record's length field.
func (r Record) Size() int { return int(int32(binary.BigEndian.Uint32(r[atSize:]))) }

// PhysicalOffset returns the position in the commit log that the record claims.
func (r Record) PhysicalOffset() Offset {
	return Offset(binary.BigEndian.Uint64(r[atPhysicalOffset:]))
}

// QueueOffset returns the record's position in its queue.
func (r Record) QueueOffset() QueueOffset {
	return QueueOffset(binary.BigEndian.Uint64(r[atQueueOffset:]))
}

// SysFlag returns the record's flags.
func (r Record) SysFlag() SysFlag { return SysFlag(binary.BigEndian.Uint32(r[atSysFlag:])) }

// StoreTimestamp returns the store time in milliseconds since the Unix epoch.
func (r Record) StoreTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(r[atBornHost+hostLen(r.SysFlag(), BornHostV6):]))
}

// properties returns the property block.
func (r Record) properties() []byte {
	f := r.SysFlag()
	at := headerLen + hostLen(f, BornHostV6) + hostLen(f, StoreHostV6) + afterHosts
	at += 4 + int(binary.BigEndian.Uint32(r[at:]))
	if binary.BigEndian.Uint32(r[atMagic:]) == MagicV2 {
		at += 2 + int(binary.BigEndian.Uint16(r[at:]))
	} else {
		at += 1 + int(r[at])
	}
	return r[at+2:]
}

// PutFiller writes the filler that closes a file into the first 8 bytes of b. remaining
// is how many bytes of the file are left, these 8 included.
func PutFiller(b []byte, remaining int) {
	binary.BigEndian.PutUint32(b, uint32(remaining))
	binary.BigEndian.PutUint32(b[atMagic:], MagicFiller)
}

// Kind is what the first 8 bytes at a position of a commit log announce.
type Kind uint8

const (
	KindInvalid Kind = iota // neither of the others, or an impossible size
	KindMessage             // a record
	KindFiller              // the end of a full file
	KindEmpty               // zeros: nothing was written here
)

func (k Kind) String() string {
	switch k {
	case KindMessage:
		return "message"
	case KindFiller:
		return "filler"
	case KindEmpty:
		return "empty"
	}
	return "invalid"
}

// Peek looks at the size and the magic number at the start of b and at nothing else. size
// is what the field says: b may be shorter, and a filler's size is the caller's to compare
// with what is left of the file (RocketMQ ignores it). A size below the smallest record or
// filler is an error that wraps ErrLength, an unknown magic number one that wraps ErrMagic
// and fewer than 8 bytes one that wraps ErrShort; then kind is KindInvalid.
func Peek(b []byte) (size int, kind Kind, err error) {
	if len(b) < FillerSize {
		return 0, KindInvalid, &DecodeError{Kind: ErrShort, Field: "TOTALSIZE", At: atSize, Want: FillerSize, Got: int64(len(b))}
	}
	size = int(int32(binary.BigEndian.Uint32(b[atSize:])))
	magic := binary.BigEndian.Uint32(b[atMagic:])
	least := MinRecordSize
	switch magic {
	case MagicV1:
		kind = KindMessage
	case MagicV2:
		kind, least = KindMessage, MinRecordSize+1
	case MagicFiller:
		kind, least = KindFiller, FillerSize
	default:
		if size == 0 && magic == 0 {
			return 0, KindEmpty, nil
		}
		return size, KindInvalid, &DecodeError{Kind: ErrMagic, Field: "MAGICCODE", At: atMagic, Want: int64(MagicV1), Got: int64(magic)}
	}
	if size < least {
		return size, KindInvalid, &DecodeError{Kind: ErrLength, Field: "TOTALSIZE", At: atSize, Want: int64(least), Got: int64(size)}
	}
	return size, kind, nil
}
