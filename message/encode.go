// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
)

// Encoder turns messages into records as MessageExtEncoder.java does. It is a value,
// safe for concurrent use; the zero value is usable.
type Encoder struct {
	// PropertyCRC adds the pseudo property __CRC32#, which covers the whole record
	// (enabledAppendPropCRC). Record.Seal fills it in.
	PropertyCRC bool
	// MaxBodyLen is the longest body in bytes; 0 means DefaultMaxBodyLen.
	MaxBodyLen int
}

// plan is what an encoder works out about a message before it writes a byte.
type plan struct {
	size     int
	propsLen int  // with the separator and the CRC
	strip    bool // the block holds a __CRC32# to leave out
	separate bool // a 0x02 goes before the CRC
	version  Version
	sysFlag  SysFlag
	// Whether the hosts take four bytes.
	bornV4, storeV4 bool
}

// Validate says why m cannot be encoded, or returns nil. The error wraps ErrEmptyTopic,
// ErrTopicTooLong, ErrTopicChars, ErrNegativeQueue, ErrBodyTooLarge,
// ErrPropertiesTooLarge or ErrBadProperty.
//
// Properties that would make RocketMQ cut its log at the record are refused: an
// INNER_NUM, INNER_BASE or DELAY that is no number of its type, and an INNER_NUM without
// the InnerBatch flag.
func (e Encoder) Validate(m *Message) error {
	var p plan
	return e.plan(m, &p)
}

// EncodedLen returns the length of m's record in bytes, or what Validate returns.
func (e Encoder) EncodedLen(m *Message) (int, error) {
	var p plan
	if err := e.plan(m, &p); err != nil {
		return 0, err
	}
	return p.size, nil
}

// Append appends the record of m to dst. On an error, which is what Validate returns, dst
// comes back as it was. m is only read, and dst keeps nothing of it. Nothing is allocated
// when dst has room.
//
// The layout is V2 when the topic has more than 127 UTF-16 units, else V1. The two host
// bits of SysFlag follow the addresses: an IPv4-mapped address is stored as IPv4, an
// invalid host as 0.0.0.0:0, a zone is dropped. A __CRC32# property of the caller is
// left out. Queue offset, physical offset and store time are taken from m and normally
// replaced by Record.Patch; with PropertyCRC the record is not valid before Record.Seal.
func (e Encoder) Append(dst []byte, m *Message) ([]byte, error) {
	var p plan
	if err := e.plan(m, &p); err != nil {
		return dst, err
	}
	start := len(dst)
	dst = slices.Grow(dst, p.size)
	b := dst[start : start+atBornHost]
	be := binary.BigEndian
	magic := MagicV1
	if p.version == V2 {
		magic = MagicV2
	}
	queueOffset := m.QueueOffset
	if !p.sysFlag.takesQueueOffset() {
		queueOffset = 0
	}
	be.PutUint32(b[atSize:], uint32(p.size))
	be.PutUint32(b[atMagic:], magic)
	be.PutUint32(b[atBodyCRC:], checksum(m.Body))
	be.PutUint32(b[atQueueID:], uint32(m.QueueID))
	be.PutUint32(b[atFlag:], uint32(m.Flag))
	be.PutUint64(b[atQueueOffset:], uint64(queueOffset))
	be.PutUint64(b[atPhysicalOffset:], uint64(m.PhysicalOffset))
	be.PutUint32(b[atSysFlag:], uint32(p.sysFlag))
	be.PutUint64(b[atBornTimestamp:], uint64(m.BornTimestamp))

	dst = appendHost(dst[:start+atBornHost], &m.BornHost, p.bornV4)
	dst = be.AppendUint64(dst, uint64(m.StoreTimestamp))
	dst = appendHost(dst, &m.StoreHost, p.storeV4)
	dst = be.AppendUint32(dst, uint32(m.ReconsumeTimes))
	dst = be.AppendUint64(dst, uint64(m.PreparedTransactionOffset))
	dst = be.AppendUint32(dst, uint32(len(m.Body)))
	dst = append(dst, m.Body...)
	if p.version == V2 {
		dst = be.AppendUint16(dst, uint16(len(m.Topic)))
	} else {
		dst = append(dst, byte(len(m.Topic)))
	}
	dst = append(dst, m.Topic...)
	dst = be.AppendUint16(dst, uint16(p.propsLen))
	return e.appendProperties(dst, m.Properties.block, &p), nil
}

func (e Encoder) appendProperties(dst, block []byte, p *plan) []byte {
	if p.strip {
		dst = appendWithoutCRC(dst, block)
	} else {
		dst = append(dst, block...)
	}
	if p.separate {
		dst = append(dst, valueEnd)
	}
	if e.PropertyCRC {
		dst = append(dst, crcStart+"0000000000\x02"...)
	}
	return dst
}

// plan fills in p, which is zero. After an error it is of no use.
func (e Encoder) plan(m *Message, p *plan) error {
	if err := CheckTopic(m.Topic); err != nil {
		return err
	}
	if m.QueueID < 0 {
		return fmt.Errorf("%w: %d", ErrNegativeQueue, m.QueueID)
	}
	if err := e.checkBody(len(m.Body)); err != nil {
		return err
	}
	if err := e.planProperties(m, p); err != nil {
		return err
	}
	p.sysFlag = m.SysFlag &^ (BornHostV6 | StoreHostV6)
	if p.bornV4 = hostIsV4(&m.BornHost); !p.bornV4 {
		p.sysFlag |= BornHostV6
	}
	if p.storeV4 = hostIsV4(&m.StoreHost); !p.storeV4 {
		p.sysFlag |= StoreHostV6
	}
	p.version = V1
	topicField := 1 + len(m.Topic)
	if len(m.Topic) > MaxTopicLen { // all ASCII here, so bytes are UTF-16 units
		p.version = V2
		topicField++
	}
	p.size = headerLen + hostLen(p.sysFlag, BornHostV6) + hostLen(p.sysFlag, StoreHostV6) + afterHosts +
		4 + len(m.Body) + topicField + 2 + p.propsLen
	if p.size > maxSize {
		return fmt.Errorf("%w: the record would have %d bytes, the format ends at %d", ErrBodyTooLarge, p.size, maxSize)
	}
	return nil
}

func (e Encoder) checkBody(n int) error {
	limit := e.MaxBodyLen
	if limit == 0 {
		limit = DefaultMaxBodyLen
	}
	if n > limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrBodyTooLarge, n, limit)
	}
	return nil
}

// planProperties reads the block once: for what must be refused, and for a CRC to strip.
func (e Encoder) planProperties(m *Message, p *plan) error {
	if m.Properties.err != nil {
		return m.Properties.err
	}
	block := m.Properties.block
	n, last := 0, byte(valueEnd)
	for rest := block; len(rest) > 0; {
		before := rest
		var s []byte
		s, rest = cutSegment(rest)
		if isCRC(s) {
			p.strip = true
			continue
		}
		if err := checkNumbers(s, m.SysFlag); err != nil {
			return err
		}
		kept := len(before) - len(rest)
		n, last = n+kept, before[kept-1]
	}
	if e.PropertyCRC {
		p.separate = last != valueEnd
		if p.separate {
			n++
		}
		n += PropertyCRCLen
	}
	if n > MaxPropertiesLen {
		return fmt.Errorf("%w: %d bytes, limit %d with the property CRC", ErrPropertiesTooLarge, n, MaxPropertiesLen)
	}
	p.propsLen = n
	return nil
}

func isCRC(segment []byte) bool {
	return len(segment) >= len(crcStart) && string(segment[:len(crcStart)]) == crcStart
}

func appendWithoutCRC(dst, block []byte) []byte {
	for rest := block; len(rest) > 0; {
		before := rest
		var s []byte
		s, rest = cutSegment(rest)
		if !isCRC(s) {
			dst = append(dst, before[:len(before)-len(rest)]...)
		}
	}
	return dst
}

// checkNumbers refuses the values that make CommitLog.java take a record for damaged when
// it reads it back, and so drop everything behind it.
func checkNumbers(segment []byte, f SysFlag) error {
	if len(segment) == 0 || segment[0] != 'I' && segment[0] != 'D' {
		return nil
	}
	name, value, ok := cutPair(segment)
	if !ok {
		return nil
	}
	var bits int
	switch string(name) {
	case PropertyInnerNum:
		if f&InnerBatch == 0 {
			return fmt.Errorf("%w: %s on a message that is no inner batch", ErrBadProperty, name)
		}
		bits = 16
	case PropertyInnerBase:
		bits = 64
	case PropertyDelayLevel:
		bits = 32
	default:
		return nil
	}
	if _, err := strconv.ParseInt(string(value), 10, bits); err != nil {
		return fmt.Errorf("%w: %s is %q, must be a number of %d bits", ErrBadProperty, name, value, bits)
	}
	return nil
}
