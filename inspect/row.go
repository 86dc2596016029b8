// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"hash/crc32"
	"strconv"
	"unicode/utf8"

	"github.com/stelelog/stele/message"
)

// Body says whether a Row has the body of its message, and in which form.
type Body uint8

const (
	// BodyNone leaves the body out.
	BodyNone Body = iota
	// BodyStored is the body as the record holds it, compressed where SysFlag
	// says so: what bodySize and bodyCRC are about.
	BodyStored
	// BodyPlain is the body as the producer wrote it. One that can't be
	// decompressed is given as it is stored.
	BodyPlain
)

// Row is a message as one JSON object, the line of every ndjson that Stele
// writes. Its fields, in this order:
//
//	topic           string
//	queueId         number
//	queueOffset     number
//	physicalOffset  number   bytes
//	size            number   bytes of the record
//	storeTimestamp  number   milliseconds since the Unix epoch
//	bornTimestamp   number   milliseconds since the Unix epoch
//	storeHost       string   address:port, [address]:port for IPv6
//	bornHost        string
//	sysFlag         number
//	flag            number
//	reconsumeTimes  number
//	msgId           string   32 or 56 hex digits
//	tags            string or null
//	keys            string or null, words separated by one space
//	properties      object of strings, in the order of the record
//	bodySize        number   bytes, as stored
//	bodyCRC         string   eight hex digits: CRC-32 of the body as stored, all
//	                         32 bits (the record keeps the lower 31)
//	body            string   with a Body that is UTF-8 text
//	bodyBase64      string   with one that is not
//
// and with Exact, only where they say something:
//
//	preparedTransactionOffset  number   bytes, when it is not 0
//	propertiesBase64           string   the block of properties as it is stored,
//	                                    when the object above does not tell all of
//	                                    it: a name that is stored twice, bytes that
//	                                    are not UTF-8, or what is no pair
//
// Where a name is stored twice the last value counts, as for every reader of
// RocketMQ's. Bytes of a topic or property that are not UTF-8 appear as U+FFFD.
type Row struct {
	*message.Message
	Body Body
	// Exact adds what the other fields can't tell, so that nothing is lost.
	Exact bool
}

// MarshalJSON implements json.Marshaler.
func (r Row) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// AppendJSON appends the object to dst, without a line end.
func (r Row) AppendJSON(dst []byte) []byte {
	m := r.Message
	dst = appendText(append(dst, `{"topic":`...), m.Topic)
	dst = appendInt(append(dst, `,"queueId":`...), m.QueueID)
	dst = appendInt(append(dst, `,"queueOffset":`...), m.QueueOffset)
	dst = appendInt(append(dst, `,"physicalOffset":`...), m.PhysicalOffset)
	dst = appendInt(append(dst, `,"size":`...), m.Size)
	dst = appendInt(append(dst, `,"storeTimestamp":`...), m.StoreTimestamp)
	dst = appendInt(append(dst, `,"bornTimestamp":`...), m.BornTimestamp)
	dst = m.StoreHost.AppendTo(append(dst, `,"storeHost":"`...))
	dst = m.BornHost.AppendTo(append(dst, `","bornHost":"`...))
	dst = appendInt(append(dst, `","sysFlag":`...), m.SysFlag)
	dst = appendInt(append(dst, `,"flag":`...), m.Flag)
	dst = appendInt(append(dst, `,"reconsumeTimes":`...), m.ReconsumeTimes)
	dst = append(append(dst, `,"msgId":"`...), m.ID()...)
	dst = appendProperty(append(dst, `","tags":`...), m, message.PropertyTags)
	dst = appendProperty(append(dst, `,"keys":`...), m, message.PropertyKeys)
	dst = appendProperties(append(dst, `,"properties":`...), &m.Properties)
	dst = appendInt(append(dst, `,"bodySize":`...), len(m.Body))
	dst = appendHex32(append(dst, `,"bodyCRC":"`...), crc32.ChecksumIEEE(m.Body))
	dst = append(dst, '"')
	if r.Body != BodyNone {
		dst = appendBody(dst, r.bytes())
	}
	if r.Exact {
		dst = appendExact(dst, m)
	}
	return append(dst, '}')
}

func appendExact(dst []byte, m *message.Message) []byte {
	if m.PreparedTransactionOffset != 0 {
		dst = appendInt(append(dst, `,"preparedTransactionOffset":`...), m.PreparedTransactionOffset)
	}
	if block := m.Properties.Encoded(); !plainPairs(block) {
		dst = append(appendBase64(append(dst, `,"propertiesBase64":"`...), block), '"')
	}
	return dst
}

// plainPairs reports whether a block is nothing but pairs of UTF-8 text with
// different names: then an object of strings tells all of it.
func plainPairs(block []byte) bool {
	if !utf8.Valid(block) {
		return false
	}
	last := lastPairs(block)
	for rest := block; len(rest) > 0; {
		var name []byte
		name, _, rest = cutPair(rest)
		if name == nil || !last.is(name, rest) {
			return false
		}
	}
	return true
}

// bytes returns the body in the form that was asked for.
func (r Row) bytes() []byte {
	if r.Body == BodyPlain {
		if plain, err := r.PlainBody(0); err == nil {
			return plain
		}
	}
	return r.Message.Body
}

func appendBody(dst, body []byte) []byte {
	if utf8.Valid(body) {
		return appendText(append(dst, `,"body":`...), body)
	}
	return append(appendBase64(append(dst, `,"bodyBase64":"`...), body), '"')
}

func appendInt[T ~int | ~int32 | ~int64](dst []byte, v T) []byte {
	return strconv.AppendInt(dst, int64(v), 10)
}

func appendProperty(dst []byte, m *message.Message, name string) []byte {
	v, ok := m.Properties.Lookup(name)
	if !ok {
		return append(dst, "null"...)
	}
	return appendText(dst, v)
}

// appendProperties appends the pairs as an object. A pair whose name comes again
// further on is left out.
func appendProperties(dst []byte, p *message.Properties) []byte {
	dst = append(dst, '{')
	first := true
	last := lastPairs(p.Encoded())
	for rest := p.Encoded(); len(rest) > 0; {
		var name, value []byte
		name, value, rest = cutPair(rest)
		if name == nil || !last.is(name, rest) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendText(append(appendText(dst, name), ':'), value)
	}
	return append(dst, '}')
}

// lasts tells the last pair of a name from earlier ones. It is nil for a block
// of few pairs, where comparing each with those behind it is fastest; a table
// keeps a block that somebody filled to the brim from taking seconds.
type lasts map[string]int

const fewPairs = 32

func lastPairs(block []byte) lasts {
	if bytes.Count(block, []byte{0x01}) <= fewPairs {
		return nil
	}
	l := make(lasts)
	for rest := block; len(rest) > 0; {
		var name []byte
		if name, _, rest = cutPair(rest); name != nil {
			l[string(name)] = len(rest)
		}
	}
	return l
}

// is reports whether the pair of that name with rest behind it is the last one.
func (l lasts) is(name, rest []byte) bool {
	if l != nil {
		return l[string(name)] == len(rest)
	}
	for len(rest) > 0 {
		var n []byte
		if n, _, rest = cutPair(rest); bytes.Equal(n, name) {
			return false
		}
	}
	return true
}

// cutPair takes the first pair off an encoded block, without a copy. name is nil
// when it is no pair that counts: MessageDecoder.java skips what has an empty
// name or an empty value.
func cutPair(block []byte) (name, value, rest []byte) {
	const nameEnd, valueEnd = 0x01, 0x02
	pair, rest := block, []byte(nil)
	if i := bytes.IndexByte(block, valueEnd); i >= 0 {
		pair, rest = block[:i], block[i+1:]
	}
	i := bytes.IndexByte(pair, nameEnd)
	if i <= 0 || i == len(pair)-1 {
		return nil, nil, rest
	}
	return pair[:i], pair[i+1:], rest
}
