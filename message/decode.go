// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"net/netip"
)

// Check says which checksums a Decoder verifies.
type Check uint8

const (
	// CheckNone verifies lengths only.
	CheckNone Check = 0
	// CheckBody verifies BODYCRC. RocketMQ skips an empty body, and so does this.
	CheckBody Check = 1 << 0
	// CheckProperties verifies the property CRC, which covers the whole record, where the
	// record ends in one.
	CheckProperties Check = 1 << 1
	// CheckAll verifies both.
	CheckAll = CheckBody | CheckProperties
	// CheckIntact verifies each byte that a checksum covers once: a record whose property
	// CRC holds is intact, its body and BODYCRC included, and of one without it BODYCRC
	// is verified. It finds the damage that CheckAll finds, for half the work. Only a
	// BODYCRC that was wrong before the property CRC was made passes.
	CheckIntact = CheckAll | checkOnce
	checkOnce   = 1 << 2
)

// maxInterned bounds the topics that a Decoder remembers, fewRecent those that it
// finds without a hash over all of the name. That is a power of two.
const (
	maxInterned = 4096
	fewRecent   = 32
)

// Decoder reads records. The zero value is usable. It remembers topic names, so that a
// topic is allocated once and not for every message; therefore it is not safe for
// concurrent use.
type Decoder struct {
	Check  Check
	topics map[string]string
	recent [fewRecent]string
}

// Decode reads the record at the start of b, which may go on behind it, into m. Every
// field of m is set; Body and Properties borrow from b, and an empty Body is nil. m.Size
// is the length of the record. Nothing is allocated for a topic that was met before or that
// m.Topic holds already.
//
// Every length is checked before it is used, and together they must be the record's size.
// The record's PHYSICALOFFSET is returned and not compared with anything: who knows the
// true position must do that. An error is a *DecodeError and leaves m in no useful state;
// it wraps ErrShort exactly when b ends before the record does.
func (d *Decoder) Decode(b []byte, m *Message) error {
	size, kind, err := Peek(b)
	if err != nil {
		return err
	}
	magic := binary.BigEndian.Uint32(b[atMagic:])
	if kind != KindMessage {
		return &DecodeError{Kind: ErrMagic, Field: "MAGICCODE", At: atMagic, Want: int64(MagicV1), Got: int64(magic)}
	}
	if len(b) < size {
		return &DecodeError{Kind: ErrShort, Field: "TOTALSIZE", At: atSize, Want: int64(size), Got: int64(len(b))}
	}
	r := b[:size:size]
	m.Version = V1
	if magic == MagicV2 {
		m.Version = V2
	}
	m.Size = int32(size)
	at, err := decodeHeader(r, m)
	if err != nil {
		return err
	}
	if err := d.decodeRest(r, at, m); err != nil {
		return err
	}
	return d.verify(r, m)
}

// decodeHeader reads what lies before the body and returns where that starts. Peek has
// made sure that r holds the smallest header; hosts may make it longer.
func decodeHeader(r []byte, m *Message) (int, error) {
	be := binary.BigEndian
	h := r[:MinRecordSize]
	m.BodyCRC = be.Uint32(h[atBodyCRC:])
	m.QueueID = int32(be.Uint32(h[atQueueID:]))
	m.Flag = int32(be.Uint32(h[atFlag:]))
	m.QueueOffset = QueueOffset(be.Uint64(h[atQueueOffset:]))
	m.PhysicalOffset = Offset(be.Uint64(h[atPhysicalOffset:]))
	m.SysFlag = SysFlag(be.Uint32(h[atSysFlag:]))
	m.BornTimestamp = int64(be.Uint64(h[atBornTimestamp:]))
	if m.QueueID < 0 {
		return 0, &DecodeError{Kind: ErrNegativeQueue, Field: "QUEUEID", At: atQueueID, Got: int64(m.QueueID)}
	}
	bornLen, storeLen := hostLen(m.SysFlag, BornHostV6), hostLen(m.SysFlag, StoreHostV6)
	atStoreHost := atBornHost + bornLen + 8
	end := atStoreHost + storeLen + afterHosts
	if end > len(r) {
		return 0, lengthError("TOTALSIZE", atSize, end, len(r))
	}
	var err error
	if m.BornHost, err = decodeHost(r, atBornHost, bornLen, "BORNHOST"); err != nil {
		return 0, err
	}
	m.StoreTimestamp = int64(be.Uint64(r[atBornHost+bornLen:]))
	if m.StoreHost, err = decodeHost(r, atStoreHost, storeLen, "STOREHOST"); err != nil {
		return 0, err
	}
	m.ReconsumeTimes = int32(be.Uint32(r[atStoreHost+storeLen:]))
	m.PreparedTransactionOffset = Offset(be.Uint64(r[atStoreHost+storeLen+4:]))
	return end, nil
}

func decodeHost(r []byte, at, n int, field string) (netip.AddrPort, error) {
	f := r[at : at+n]
	var addr netip.Addr
	if n == hostLenV4 {
		addr = netip.AddrFrom4([4]byte(f))
	} else {
		addr = netip.AddrFrom16([16]byte(f))
	}
	port := binary.BigEndian.Uint32(f[n-4:])
	if port > maxPort {
		return netip.AddrPort{}, &DecodeError{Kind: ErrHost, Field: field, At: at, Want: maxPort, Got: int64(port)}
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// decodeRest reads body, topic and properties, whose field lengths r holds itself.
func (d *Decoder) decodeRest(r []byte, at int, m *Message) error {
	be := binary.BigEndian
	topicField := 1
	if m.Version == V2 {
		topicField = 2
	}
	fixed := 4 + topicField + 2
	room := len(r) - at - fixed
	if room < 0 {
		return lengthError("TOTALSIZE", atSize, at+fixed, len(r))
	}
	n := int(int32(be.Uint32(r[at:])))
	if n < 0 || n > room {
		return lengthError("BODYLEN", at, room, n)
	}
	at += 4
	m.Body = slice(r, at, n)
	at, room = at+n, room-n

	if topicField == 1 {
		n = int(int8(r[at]))
	} else {
		n = int(int16(be.Uint16(r[at:])))
	}
	if n < 0 || n > room {
		return lengthError("TOPICLEN", at, room, n)
	}
	topic := r[at+topicField : at+topicField+n]
	recent := &d.recent[spread(topic)]
	switch {
	case n > 0 && *recent == string(topic):
		m.Topic = *recent
	// What m holds may come from a caller, so it is no proof that the topic is a possible
	// one.
	case m.Topic == string(topic) && fitsDirectory(topic):
		*recent = m.Topic
	default:
		var ok bool
		if m.Topic, ok = d.intern(topic); !ok {
			return &DecodeError{Kind: ErrTopic, Field: "TOPIC", At: at + topicField, Want: MaxRetryTopicLen, Got: int64(n)}
		}
		*recent = m.Topic
	}
	at, room = at+topicField+n, room-n

	n = int(int16(be.Uint16(r[at:])))
	if n != room {
		return lengthError("PROPLEN", at, room, n)
	}
	m.Properties = Properties{block: slice(r, at+2, n)}
	return nil
}

func (d *Decoder) verify(r []byte, m *Message) error {
	if d.Check == CheckNone {
		return nil
	}
	if d.Check&checkOnce != 0 && endsInCRC(m.Properties.block) && verifyWhole(r) == nil {
		return nil
	}
	// Else the body first, also for CheckIntact: its error says more about where the
	// damage is.
	if d.Check&CheckBody != 0 && len(m.Body) > 0 {
		if sum := checksum(m.Body); sum != m.BodyCRC {
			return &DecodeError{Kind: ErrBodyCRC, Field: "BODYCRC", At: atBodyCRC, Want: int64(sum), Got: int64(m.BodyCRC)}
		}
	}
	if d.Check&CheckProperties != 0 && endsInCRC(m.Properties.block) {
		return verifyWhole(r)
	}
	return nil
}

// verifyWhole compares the property CRC of a record that ends in one.
func verifyWhole(r []byte) error {
	end := len(r) - PropertyCRCLen
	sum := int64(checksum(r[:end]))
	got, ok := readDigits(r[end+len(crcStart):])
	if !ok {
		got = -1
	}
	if got != sum {
		return &DecodeError{Kind: ErrPropertyCRC, Field: PropertyCRC32, At: end, Want: sum, Got: got}
	}
	return nil
}

// intern returns topic as a string, the same one each time; false when it cannot be a
// topic. When the table is full it starts again: a log has few topics in use at a time.
func (d *Decoder) intern(topic []byte) (string, bool) {
	if s, ok := d.topics[string(topic)]; ok {
		return s, true
	}
	if !fitsDirectory(topic) {
		return "", false
	}
	if d.topics == nil {
		d.topics = make(map[string]string)
	} else if len(d.topics) >= maxInterned {
		clear(d.topics)
	}
	s := string(topic)
	d.topics[s] = s
	return s, true
}

// spread gives names that differ in length or in their last or middle byte places that
// differ, most of the time.
func spread(topic []byte) int {
	n := len(topic)
	if n == 0 {
		return 0
	}
	return (n + 5*int(topic[n-1]) + 3*int(topic[n/2])) & (fewRecent - 1)
}

func slice(r []byte, at, n int) []byte {
	if n == 0 {
		return nil
	}
	return r[at : at+n : at+n]
}

func lengthError(field string, at, want, got int) error {
	return &DecodeError{Kind: ErrLength, Field: field, At: at, Want: int64(want), Got: int64(got)}
}
