// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Offset is a byte position in the commit log.
type Offset int64

// QueueOffset is a position in one queue, counted in messages.
type QueueOffset int64

// Version tells the two record layouts apart. The encoder chooses it by the topic.
type Version uint8

const (
	V1 Version = 1 // topic length in one signed byte
	V2 Version = 2 // topic length in two bytes; RocketMQ 5.0 and later
)

// Message is one message. To append one, fill in Topic and whatever else matters: the
// zero value of every other field is valid, and a nil Body is an empty one.
//
// A message that a Decoder filled in borrows Body and Properties from the decoded bytes
// and is valid as long as they are; Clone makes it independent. A Message must not be
// changed while another goroutine reads it.
type Message struct {
	Topic   string
	QueueID int32
	// Flag is the user's own and has no meaning here.
	Flag    int32
	SysFlag SysFlag
	// BornTimestamp is the producer's time, in milliseconds since the Unix epoch.
	BornTimestamp       int64
	BornHost, StoreHost netip.AddrPort
	ReconsumeTimes      int32
	// PreparedTransactionOffset is the position of the half message of a commit, else 0.
	PreparedTransactionOffset Offset
	// Body is stored as it is: compressed when SysFlag says so.
	Body       []byte
	Properties Properties

	// A decoder sets what follows. An encoder takes QueueOffset, PhysicalOffset and
	// StoreTimestamp from here (Record.Patch replaces them) and ignores the others.

	Version Version
	// Size is the length of the whole record in bytes.
	Size int32
	// BodyCRC is the stored CRC-32 of Body, 31 bits.
	BodyCRC        uint32
	QueueOffset    QueueOffset
	PhysicalOffset Offset
	// StoreTimestamp is the store's time, in milliseconds since the Unix epoch.
	StoreTimestamp int64
}

// Tags returns the TAGS property, or "".
func (m *Message) Tags() string { return m.property(PropertyTags) }

// SetTags sets the TAGS property; "" removes it.
func (m *Message) SetTags(tags string) {
	if tags == "" {
		m.Properties.Delete(PropertyTags)
		return
	}
	m.Properties.Set(PropertyTags, tags)
}

// Keys returns the keys in the KEYS property, without empty ones.
func (m *Message) Keys() []string {
	all := m.property(PropertyKeys)
	if all == "" {
		return nil
	}
	keys := strings.Split(all, " ")
	kept := keys[:0]
	for _, k := range keys {
		if k != "" {
			kept = append(kept, k)
		}
	}
	return kept
}

// SetKeys sets the KEYS property; no keys at all remove it. A key must be neither empty
// nor hold a space, which separates keys: Properties.Err says so otherwise.
func (m *Message) SetKeys(keys ...string) {
	if len(keys) == 0 {
		m.Properties.Delete(PropertyKeys)
		return
	}
	for _, k := range keys {
		if k == "" || strings.Contains(k, " ") {
			m.Properties.fail(fmt.Errorf("%w: %s: key %q is empty or holds a space", ErrBadProperty, PropertyKeys, k))
			return
		}
	}
	m.Properties.Set(PropertyKeys, strings.Join(keys, " "))
}

// UniqKey returns the UNIQ_KEY property, the id that the producer made, or "".
func (m *Message) UniqKey() string { return m.property(PropertyUniqKey) }

// WaitStored reports whether an append must wait until the message is flushed in a mode
// that flushes synchronously: yes, unless the WAIT property is there and is not "true"
// in any case of letters.
func (m *Message) WaitStored() bool {
	v, ok := m.Properties.Lookup(PropertyWait)
	return !ok || bytes.EqualFold(v, []byte("true"))
}

// ID returns the id that names the record in its log; see FormatID.
func (m *Message) ID() string { return FormatID(m.StoreHost, m.PhysicalOffset) }

// QueueStep returns by how much the message moves the next offset of its queue: 0 for a
// prepared or rolled back transaction, the number of messages in an inner batch (at least
// 1), else 1.
func (m *Message) QueueStep() QueueOffset {
	if !m.SysFlag.takesQueueOffset() {
		return 0
	}
	if m.SysFlag&InnerBatch == 0 {
		return 1
	}
	v, _ := m.Properties.Lookup(PropertyInnerNum)
	n, err := strconv.ParseInt(string(v), 10, 16)
	if err != nil || n < 1 {
		return 1
	}
	return QueueOffset(n)
}

// Clone returns a copy that shares no bytes with m and so outlives what m borrows from.
func (m *Message) Clone() *Message {
	c := *m
	c.Body = bytes.Clone(m.Body)
	c.Properties = m.Properties.Clone()
	return &c
}

// PlainBody returns the body as the producer wrote it: Body itself when it is not
// compressed, else its decompressed form in new memory. max bounds the decompressed
// length; see Decompress.
func (m *Message) PlainBody(max int64) ([]byte, error) {
	c := m.SysFlag.Compression()
	if c == CompressionNone {
		return m.Body, nil
	}
	return Decompress(c, m.Body, max)
}

// CompressBody replaces Body by its compressed form, in new memory, and sets the bits of
// SysFlag. CompressionNone leaves the message alone. A body that is compressed already is
// an error that wraps ErrBadCompression.
func (m *Message) CompressBody(c Compression) error {
	if c == CompressionNone {
		return nil
	}
	if m.SysFlag&Compressed != 0 {
		return fmt.Errorf("%w: the body is compressed already", ErrBadCompression)
	}
	body, err := Compress(c, m.Body)
	if err != nil {
		return err
	}
	m.Body, m.SysFlag = body, m.SysFlag.WithCompression(c)
	return nil
}

func (m *Message) property(name string) string {
	v, _ := m.Properties.Lookup(name)
	return string(v)
}
