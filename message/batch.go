// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strconv"
)

// batchFixed is the length of a batch element without its body and its properties.
const batchFixed = 4 + 4 + 4 + 4 + 4 + 2

// BatchElement is one message inside a client batch. Body and Properties borrow from the
// batch.
type BatchElement struct {
	Flag       int32
	Body       []byte
	Properties Properties
}

// AppendBatchElement appends one element of a client batch to dst, as encodeMessage in
// MessageDecoder.java does. The error wraps ErrBadProperty, ErrPropertiesTooLarge or
// ErrBodyTooLarge (past the 31 bits of the field); dst then comes back as it was.
func AppendBatchElement(dst []byte, flag int32, body []byte, props Properties) ([]byte, error) {
	if props.err != nil {
		return dst, props.err
	}
	if props.Len() > MaxPropertiesLen {
		return dst, fmt.Errorf("%w: %d bytes, limit %d", ErrPropertiesTooLarge, props.Len(), MaxPropertiesLen)
	}
	size := batchFixed + len(body) + props.Len()
	if size > maxSize {
		return dst, fmt.Errorf("%w: a batch element of %d bytes, limit %d", ErrBodyTooLarge, size, maxSize)
	}
	be := binary.BigEndian
	dst = slices.Grow(dst, size)
	dst = be.AppendUint32(dst, uint32(size))
	dst = be.AppendUint64(dst, 0) // magic and body CRC: brokers read neither, clients send zeros
	dst = be.AppendUint32(dst, uint32(flag))
	dst = be.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, body...)
	dst = be.AppendUint16(dst, uint16(props.Len()))
	return append(dst, props.block...), nil
}

// EncodeBatch returns the body of a client batch that holds msgs. An element keeps flag,
// body and properties only; the rest comes from the message that carries the batch. So the
// error wraps ErrBadBatch when msgs is empty, when they differ in topic, queue or SysFlag,
// or when one is compressed, a transaction or delayed, which a batch cannot be.
func EncodeBatch(msgs []*Message) ([]byte, error) {
	if len(msgs) == 0 {
		return nil, fmt.Errorf("%w: no messages", ErrBadBatch)
	}
	first := msgs[0]
	var out []byte
	for i, m := range msgs {
		if m.Topic != first.Topic || m.QueueID != first.QueueID || m.SysFlag != first.SysFlag {
			return nil, fmt.Errorf("%w: message %d differs from the first in topic, queue or flags", ErrBadBatch, i)
		}
		if err := checkBatchable(m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		var err error
		if out, err = AppendBatchElement(out, m.Flag, m.Body, m.Properties); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	return out, nil
}

// DecodeBatch yields the elements of a client batch in order. Every length is checked; at
// the first that is impossible it yields an error that wraps ErrBadBatch, and stops.
func DecodeBatch(b []byte) iter.Seq2[BatchElement, error] {
	return func(yield func(BatchElement, error) bool) {
		for at := 0; at < len(b); {
			e, n, err := decodeElement(b[at:])
			if err != nil {
				yield(BatchElement{}, fmt.Errorf("%w: element at byte %d: %w", ErrBadBatch, at, err))
				return
			}
			if !yield(e, nil) {
				return
			}
			at += n
		}
	}
}

func decodeElement(b []byte) (e BatchElement, size int, err error) {
	if len(b) < batchFixed {
		return e, 0, &DecodeError{Kind: ErrShort, Field: "TOTALSIZE", Want: batchFixed, Got: int64(len(b))}
	}
	be := binary.BigEndian
	size = int(int32(be.Uint32(b)))
	if size < batchFixed {
		return e, 0, lengthError("TOTALSIZE", 0, batchFixed, size)
	}
	if size > len(b) {
		return e, 0, &DecodeError{Kind: ErrShort, Field: "TOTALSIZE", Want: int64(size), Got: int64(len(b))}
	}
	e.Flag = int32(be.Uint32(b[12:]))
	room := size - batchFixed
	n := int(int32(be.Uint32(b[16:])))
	if n < 0 || n > room {
		return e, 0, lengthError("BODYLEN", 16, room, n)
	}
	e.Body = slice(b, 20, n)
	at := 20 + n
	room -= n
	if n = int(int16(be.Uint16(b[at:]))); n != room {
		return e, 0, lengthError("PROPLEN", at, room, n)
	}
	e.Properties = Properties{block: slice(b, at+2, n)}
	return e, size, nil
}

// SplitBatch takes the client batch in m.Body apart into ordinary messages, as the broker
// stores them: each has flag, body and properties of its own and everything else from m,
// whose own properties go to none of them. Bodies and properties borrow from m.Body.
//
// The error wraps ErrBadBatch when the body is no batch or an empty one, or when m is
// compressed, a transaction or delayed.
func SplitBatch(m *Message) ([]*Message, error) {
	if err := checkBatchable(m); err != nil {
		return nil, err
	}
	var msgs []*Message
	for e, err := range DecodeBatch(m.Body) {
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, &Message{
			Topic:          m.Topic,
			QueueID:        m.QueueID,
			Flag:           e.Flag,
			SysFlag:        m.SysFlag &^ (NeedUnwrap | InnerBatch),
			BornTimestamp:  m.BornTimestamp,
			BornHost:       m.BornHost,
			StoreHost:      m.StoreHost,
			ReconsumeTimes: m.ReconsumeTimes,
			Body:           e.Body,
			Properties:     e.Properties,
			StoreTimestamp: m.StoreTimestamp,
		})
	}
	if len(msgs) == 0 {
		return nil, fmt.Errorf("%w: no messages", ErrBadBatch)
	}
	return msgs, nil
}

func checkBatchable(m *Message) error {
	switch {
	case m.SysFlag&Compressed != 0:
		return fmt.Errorf("%w: compressed", ErrBadBatch)
	case m.SysFlag.Transaction() != TransactionNone:
		return fmt.Errorf("%w: part of a transaction", ErrBadBatch)
	}
	if v, ok := m.Properties.Lookup(PropertyDelayLevel); ok {
		if level, err := strconv.ParseInt(string(v), 10, 32); err != nil || level > 0 {
			return fmt.Errorf("%w: delay level %q", ErrBadBatch, v)
		}
	}
	return nil
}
