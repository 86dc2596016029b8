// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPeek(t *testing.T) {
	t.Parallel()
	head := func(size int32, magic uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(size))
		return binary.BigEndian.AppendUint32(b, magic)
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		size  int
		kind  Kind
		err   error
	}{
		{"nothing", nil, 0, KindInvalid, ErrShort},
		{"seven bytes", make([]byte, 7), 0, KindInvalid, ErrShort},
		{"zeros", make([]byte, 8), 0, KindEmpty, nil},
		{"V1", head(92, MagicV1), 92, KindMessage, nil},
		{"V1 too small", head(91, MagicV1), 91, KindInvalid, ErrLength},
		{"V2", head(93, MagicV2), 93, KindMessage, nil},
		{"V2 too small", head(92, MagicV2), 92, KindInvalid, ErrLength},
		{"largest", head(math.MaxInt32, MagicV1), math.MaxInt32, KindMessage, nil},
		{"negative", head(-1, MagicV1), -1, KindInvalid, ErrLength},
		{"size zero", head(0, MagicV1), 0, KindInvalid, ErrLength},
		{"filler", head(8, MagicFiller), 8, KindFiller, nil},
		{"filler too small", head(7, MagicFiller), 7, KindInvalid, ErrLength},
		{"negative filler", head(-8, MagicFiller), -8, KindInvalid, ErrLength},
		{"size without magic", head(100, 0), 100, KindInvalid, ErrMagic},
		{"unknown magic", head(0, MagicV1+1), 0, KindInvalid, ErrMagic},
	} {
		size, kind, err := Peek(c.bytes)
		require.Equal(t, c.size, size, c.name)
		require.Equal(t, c.kind, kind, c.name)
		require.ErrorIs(t, err, c.err, c.name)
		require.Equal(t, c.err == nil, err == nil, c.name)
	}
}

func TestMinRecordSizeIsReached(t *testing.T) {
	t.Parallel()
	n, err := Encoder{}.EncodedLen(&Message{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, MinRecordSize, n)
}

func TestDecodeDamage(t *testing.T) {
	t.Parallel()
	const ( // in the first golden record
		atBodyLen  = 84
		atTopicLen = atBodyLen + 4 + 5
		atPropLen  = atTopicLen + 1 + 9
	)
	put32 := func(at int, v int32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
	}
	put16 := func(at int, v int16) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
	}
	put8 := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	const plain, v2, sealed = 0, 2, 3
	for _, c := range []struct {
		name   string
		record int
		damage func(b []byte)
		kind   error
		field  string
		at     int
	}{
		{"magic", plain, put32(atMagic, 1), ErrMagic, "MAGICCODE", atMagic},
		{"magic of a filler", plain, put32(atMagic, math.MinInt32|0x4BD43194), ErrMagic, "MAGICCODE", atMagic},
		{"size too large", plain, put32(atSize, 153), ErrShort, "TOTALSIZE", atSize},
		{"size too small by one", plain, put32(atSize, 151), ErrLength, "PROPLEN", atPropLen},
		{"size cuts the properties' length", plain, put32(atSize, atPropLen), ErrLength, "TOPICLEN", atTopicLen},
		{"smallest size", plain, put32(atSize, MinRecordSize), ErrLength, "BODYLEN", atBodyLen},
		{"size negative", plain, put32(atSize, -152), ErrLength, "TOTALSIZE", atSize},
		{"queue negative", plain, put32(atQueueID, -1), ErrNegativeQueue, "QUEUEID", atQueueID},
		{"born host in 20 bytes", plain, put32(atSysFlag, int32(BornHostV6)), ErrHost, "BORNHOST", atBornHost},
		{"born port", plain, put32(atBornHost+4, 65536), ErrHost, "BORNHOST", atBornHost},
		{"store port negative", plain, put32(atBornHost+16+4, -1), ErrHost, "STOREHOST", atBornHost + 16},
		{"body length negative", plain, put32(atBodyLen, -1), ErrLength, "BODYLEN", atBodyLen},
		{"body length lowest", plain, put32(atBodyLen, math.MinInt32), ErrLength, "BODYLEN", atBodyLen},
		{"body length highest", plain, put32(atBodyLen, math.MaxInt32), ErrLength, "BODYLEN", atBodyLen},
		{"body takes all but a byte", plain, put32(atBodyLen, 152-atBodyLen-4-3+1), ErrLength, "BODYLEN", atBodyLen},
		{"body takes the rest", plain, put32(atBodyLen, 152-atBodyLen-4-3), ErrLength, "TOPICLEN", 152 - 3},
		{"topic empty", plain, put8(atTopicLen, 0), ErrTopic, "TOPIC", atTopicLen + 1},
		{"topic length negative", plain, put8(atTopicLen, 0x80), ErrLength, "TOPICLEN", atTopicLen},
		{"topic longer than the record", plain, put8(atTopicLen, 0x7F), ErrLength, "TOPICLEN", atTopicLen},
		{"topic takes a byte of the properties' length", plain, put8(atTopicLen, 57), ErrLength, "TOPICLEN", atTopicLen},
		{"topic leads out of its directory", plain, put8(atTopicLen+3, '/'), ErrTopic, "TOPIC", atTopicLen + 1},
		{"topic holds a zero", plain, put8(atTopicLen+3, 0), ErrTopic, "TOPIC", atTopicLen + 1},
		{"V2 topic length negative", v2, put16(atTopicLen, -1), ErrLength, "TOPICLEN", atTopicLen},
		{"V2 topic longer than the record", v2, put16(atTopicLen, math.MaxInt16), ErrLength, "TOPICLEN", atTopicLen},
		{"V2 read as V1", v2, put8(atMagic+3, 0xA7), ErrTopic, "TOPIC", atTopicLen + 1},
		{"properties one short", plain, put16(atPropLen, 46), ErrLength, "PROPLEN", atPropLen},
		{"properties one long", plain, put16(atPropLen, 48), ErrLength, "PROPLEN", atPropLen},
		{"properties negative", plain, put16(atPropLen, -1), ErrLength, "PROPLEN", atPropLen},
		{"body", plain, put8(atBodyLen+4, 'H'), ErrBodyCRC, "BODYCRC", atBodyCRC},
		{"body CRC", plain, put32(atBodyCRC, 1), ErrBodyCRC, "BODYCRC", atBodyCRC},
		{"body CRC with a sign bit", plain, put8(atBodyCRC, 0x36|0x80), ErrBodyCRC, "BODYCRC", atBodyCRC},
		{"sealed queue", sealed, put32(atQueueID, 3), ErrPropertyCRC, PropertyCRC32, 152},
		{"sealed topic", sealed, put8(atTopicLen+1, 'S'), ErrPropertyCRC, PropertyCRC32, 152},
		{"digit", sealed, put8(152+9, '8'), ErrPropertyCRC, PropertyCRC32, 152},
		{"no digit", sealed, put8(152+9, 'x'), ErrPropertyCRC, PropertyCRC32, 152},
		{"digits above 31 bits", sealed, put8(152+18, '9'), ErrPropertyCRC, PropertyCRC32, 152},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := goldenRecords[c.record].bytes(t)
			c.damage(b)
			err := (&Decoder{Check: CheckAll}).Decode(b, new(Message))
			require.ErrorIs(t, err, c.kind)
			var d *DecodeError
			require.ErrorAs(t, err, &d)
			require.Equal(t, c.field, d.Field)
			require.Equal(t, c.at, d.At)
		})
	}
}

// RocketMQ does not look at the CRC of an empty body.
func TestDecodeEmptyBodyHasNoCRC(t *testing.T) {
	t.Parallel()
	b := encode(t, Encoder{}, &Message{Topic: "t"})
	b[atBodyCRC+3] = 1
	var m Message
	require.NoError(t, (&Decoder{Check: CheckAll}).Decode(b, &m))
	require.EqualValues(t, 1, m.BodyCRC)
}

// A V2 record could hold a topic that no file system takes as a name.
func TestDecodeTopicLengthLimit(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]error{255: nil, 256: ErrTopic} {
		b := goldenRecords[2].bytes(t)
		topic := strings.Repeat("g", n)
		b = append(b[:93], byte(n>>8), byte(n))
		b = append(b, topic+"\x00\x00"...)
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		var m Message
		require.ErrorIs(t, new(Decoder).Decode(b, &m), want)
		require.Equal(t, want == nil, m.Topic == topic)
	}
}

func TestDecodeErrorText(t *testing.T) {
	t.Parallel()
	b := goldenRecords[0].bytes(t)
	d := Decoder{Check: CheckAll}
	require.EqualError(t, d.Decode(b[:100], new(Message)), "message: not enough bytes: need 152, have 100")
	b[atBodyCRC] = 0
	require.EqualError(t, d.Decode(b, new(Message)),
		"message: body CRC does not match: BODYCRC at byte 8 is 0x10a686, want 0x3610a686")
	binary.BigEndian.PutUint32(b[84:], 70)
	require.EqualError(t, d.Decode(b, new(Message)),
		"message: impossible length: BODYLEN at byte 84 is 70, and 61 is what fits")
	b[0] = 0xFF
	require.ErrorContains(t, d.Decode(b, new(Message)), "impossible length: TOTALSIZE at byte 0 is -")
}

// Each check sees what it is there for and nothing else.
func TestChecks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		check Check
		body  error // of a record with a damaged body
		flag  error // of a record with a damaged user flag
	}{
		{CheckNone, nil, nil},
		{CheckBody, ErrBodyCRC, nil},
		{CheckProperties, ErrPropertyCRC, ErrPropertyCRC},
		{CheckAll, ErrBodyCRC, ErrPropertyCRC},
		{CheckIntact, ErrBodyCRC, ErrPropertyCRC},
	} {
		for at, want := range map[int]error{88: c.body, atFlag: c.flag} {
			b := goldenRecords[3].bytes(t)
			b[at] ^= 1
			d := Decoder{Check: c.check}
			require.ErrorIs(t, d.Decode(b, new(Message)), want, "check %d, byte %d", c.check, at)
		}
	}
}

// A property CRC covers every byte of the record. What it cannot cover is the mark that
// says it is there: 9 bytes of name, the 0x02 before and the one behind.
func TestPropertyCRCSeesEveryBit(t *testing.T) {
	t.Parallel()
	golden := goldenRecords[3].bytes(t)
	start := len(golden) - PropertyCRCLen
	for _, check := range []Check{CheckAll, CheckIntact} {
		d := Decoder{Check: check}
		for at := range golden {
			for bit := range 8 {
				b := goldenRecords[3].bytes(t)
				b[at] ^= 1 << bit
				err := d.Decode(b, new(Message))
				mark := at >= start-1 && at < start+len(crcStart) || at == len(golden)-1
				require.Equal(t, mark, err == nil, "check %d, byte %d, bit %d: %v", check, at, bit, err)
			}
		}
	}
}

// CheckIntact differs from CheckAll in one thing: a BODYCRC that was wrong when the
// record was sealed.
func TestCheckIntactTrustsTheSeal(t *testing.T) {
	t.Parallel()
	b := goldenRecords[3].bytes(t)
	b[atBodyCRC+3] ^= 1
	Record(b).Seal()
	require.ErrorIs(t, (&Decoder{Check: CheckAll}).Decode(b, new(Message)), ErrBodyCRC)
	require.NoError(t, (&Decoder{Check: CheckIntact}).Decode(b, new(Message)))
}

func TestDecodeCutOff(t *testing.T) {
	t.Parallel()
	for _, g := range goldenRecords {
		b := g.bytes(t)
		for n := range b {
			require.ErrorIs(t, new(Decoder).Decode(b[:n], new(Message)), ErrShort, "%s: %d bytes", g.name, n)
		}
	}
}

// Hosts that are said to take 20 bytes can make the fixed fields longer than the record.
func TestDecodeHeaderLongerThanRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body  int
		flags SysFlag
		least int64 // what the fixed fields alone would take
	}{
		{0, BornHostV6 | StoreHostV6, 108},
		{0, BornHostV6, 96},
		{10, BornHostV6, 96 + 7},
		{10, StoreHostV6, 96 + 7},
	} {
		b := encode(t, Encoder{}, &Message{Topic: "t", Body: make([]byte, c.body)})
		binary.BigEndian.PutUint32(b[atSysFlag:], uint32(c.flags))
		var d *DecodeError
		require.ErrorAs(t, new(Decoder).Decode(b, new(Message)), &d)
		require.Equal(t, ErrLength, d.Kind)
		require.Equal(t, "TOTALSIZE", d.Field)
		require.Equal(t, c.least, d.Want) //nolint:testifylint // Want is the result here
	}
}

func TestKindString(t *testing.T) {
	t.Parallel()
	for k, want := range map[Kind]string{
		KindInvalid: "invalid", KindMessage: "message", KindFiller: "filler", KindEmpty: "empty", 9: "invalid",
	} {
		require.Equal(t, want, k.String())
	}
}

func TestDecodeOverwritesEveryField(t *testing.T) {
	t.Parallel()
	d := Decoder{}
	full := goldenRecords[1].bytes(t)
	empty := encode(t, Encoder{}, &Message{Topic: "t"})
	var fresh, used Message
	require.NoError(t, d.Decode(empty, &fresh))
	used.Properties.Set("", "")
	require.NoError(t, d.Decode(full, &used))
	require.NoError(t, used.Properties.Err())
	require.NoError(t, d.Decode(empty, &used))
	require.Equal(t, fresh, used)
	require.Nil(t, used.Body)
}

// What a decoded message borrows cannot be grown into the bytes behind it.
func TestDecodeClipsWhatItLends(t *testing.T) {
	t.Parallel()
	b := goldenRecords[0].bytes(t)
	var m Message
	require.NoError(t, new(Decoder).Decode(b, &m))
	_ = append(m.Body, "overwritten"...)
	_ = append(m.Properties.Encoded(), "overwritten"...)
	m.SetTags("other")
	m.Properties.Delete(PropertyKeys)
	require.Equal(t, goldenRecords[0].bytes(t), b)
	require.Equal(t, "other", m.Tags())
}

// Without a table of its own, a decoder still keeps the string that the message holds.
func TestDecodeKeepsTheTopicOfTheMessage(t *testing.T) {
	b := goldenRecords[0].bytes(t)
	var m Message
	require.NoError(t, new(Decoder).Decode(b, &m))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var fresh Decoder
		require.NoError(t, fresh.Decode(b, &m))
	}))
	require.Equal(t, "TopicTest", m.Topic)
}

func TestDecoderInternsTopics(t *testing.T) {
	t.Parallel()
	d := Decoder{}
	var m Message
	for i := range maxInterned + 10 {
		topic := fmt.Sprintf("topic-%d", i)
		require.NoError(t, d.Decode(encode(t, Encoder{}, &Message{Topic: topic}), &m))
		require.Equal(t, topic, m.Topic)
		require.LessOrEqual(t, len(d.topics), maxInterned)
	}
	bad := encode(t, Encoder{}, &Message{Topic: "__"})
	copy(bad[len(bad)-4:], "..")
	for range 2 { // refused the second time as well
		require.ErrorIs(t, d.Decode(bad, &m), ErrTopic)
	}
	m.Topic = ".."
	require.ErrorIs(t, d.Decode(bad, &m), ErrTopic, "also when the message holds it already")
}

// A Decode error is one type, and it is not also another kind.
func TestDecodeErrorUnwraps(t *testing.T) {
	t.Parallel()
	err := error(&DecodeError{Kind: ErrShort})
	require.ErrorIs(t, err, ErrShort)
	require.NotErrorIs(t, err, ErrLength)
}
