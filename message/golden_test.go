// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldenMessage is the input of every golden record. The records are the output of
// RocketMQ's own encoder and append callback.
func goldenMessage() *Message {
	return &Message{
		Topic:                     "TopicTest",
		QueueID:                   2,
		Flag:                      7,
		BornTimestamp:             1700000000001,
		BornHost:                  netip.MustParseAddrPort("10.1.2.3:34567"),
		StoreHost:                 netip.MustParseAddrPort("192.168.0.9:10911"),
		ReconsumeTimes:            3,
		PreparedTransactionOffset: 0x1122334455667788,
		Body:                      []byte("hello"),
		Properties:                NewProperties("TAGS", "TagA", "KEYS", "k1 k2", "UNIQ_KEY", "0A01020300002A9F"),
	}
}

const (
	goldenPosition       = Offset(0x40000000 + 128)
	goldenQueueOffset    = QueueOffset(42)
	goldenStoreTimestamp = int64(1700000000002)
)

type goldenRecord struct {
	name    string
	change  func(m *Message)
	encoder Encoder
	at      Offset
	size    int
	id      string
	version Version
	queue   QueueOffset
	hex     string
}

var goldenRecords = []goldenRecord{
	{
		name: "V1 with IPv4 hosts", at: goldenPosition, size: 152, version: V1, queue: goldenQueueOffset,
		id: "C0A8000900002A9F0000000040000080",
		hex: `
00000098daa320a73610a6860000000200000007000000000000002a0000000040000080000000000000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f09546f
70696354657374002f544147530154616741024b455953016b31206b3202554e49515f4b455901304130313032303330
3030303241394602`,
	},
	{
		name: "V1 with IPv6 hosts", at: goldenPosition, size: 176, version: V1, queue: goldenQueueOffset,
		id: "0000000000000000000000000000000100002AA00000000040000080",
		change: func(m *Message) {
			m.BornHost = netip.MustParseAddrPort("[1050:0:0:0:5:600:300c:326b]:10911")
			m.StoreHost = netip.MustParseAddrPort("[::1]:10912")
		},
		hex: `
000000b0daa320a73610a6860000000200000007000000000000002a0000000040000080000000300000018bcfe56801
105000000000000000050600300c326b00002a9f0000018bcfe568020000000000000000000000000000000100002aa0
0000000311223344556677880000000568656c6c6f09546f70696354657374002f544147530154616741024b45595301
6b31206b3202554e49515f4b4559013041303130323033303030303241394602`,
	},
	{
		name: "V2 with a retry topic of 130 characters", at: 0, size: 227, version: V2, queue: goldenQueueOffset,
		id: "C0A8000900002A9F0000000000000000",
		change: func(m *Message) {
			m.Topic = RetryTopicPrefix + strings.Repeat("g", 123)
			m.QueueID = 0
			m.Properties = Properties{}
		},
		hex: `
000000e3daa320ab3610a6860000000000000007000000000000002a0000000000000000000000000000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f008225
524554525925676767676767676767676767676767676767676767676767676767676767676767676767676767676767
676767676767676767676767676767676767676767676767676767676767676767676767676767676767676767676767
6767676767676767676767676767676767676767676767676767676767676767670000`,
	},
	{
		name: "V1 with a property CRC", at: goldenPosition, size: 172, version: V1, queue: goldenQueueOffset,
		id:      "C0A8000900002A9F0000000040000080",
		encoder: Encoder{PropertyCRC: true},
		hex: `
000000acdaa320a73610a6860000000200000007000000000000002a0000000040000080000000000000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f09546f
706963546573740043544147530154616741024b455953016b31206b3202554e49515f4b455901304130313032303330
30303032413946025f5f435243333223013937333033343631303002`,
	},
	{
		name: "V1 prepared has queue offset 0", at: 0, size: 152, version: V1, queue: 0,
		id:     "C0A8000900002A9F0000000000000000",
		change: func(m *Message) { m.SysFlag = TransactionPrepared },
		hex: `
00000098daa320a73610a686000000020000000700000000000000000000000000000000000000040000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f09546f
70696354657374002f544147530154616741024b455953016b31206b3202554e49515f4b455901304130313032303330
3030303241394602`,
	},
}

func (g goldenRecord) message() *Message {
	m := goldenMessage()
	if g.change != nil {
		g.change(m)
	}
	return m
}

func (g goldenRecord) bytes(t testing.TB) []byte { return unhex(t, g.hex) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, "\n", ""))
	require.NoError(t, err)
	return b
}

func TestGoldenEncode(t *testing.T) {
	t.Parallel()
	for _, g := range goldenRecords {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			m := g.message()
			before := *m.Clone()

			n, err := g.encoder.EncodedLen(m)
			require.NoError(t, err)
			require.Equal(t, g.size, n)

			b, err := g.encoder.Append([]byte("before"), m)
			require.NoError(t, err)
			require.Equal(t, "before", string(b[:6]))
			r := Record(b[6:])
			r.Patch(g.at, goldenQueueOffset, goldenStoreTimestamp)
			r.Seal()

			require.Equal(t, hex.EncodeToString(g.bytes(t)), hex.EncodeToString(r))
			require.Equal(t, before, *m, "Append writes into the message")
			require.Equal(t, g.size, r.Size())
			require.Equal(t, g.at, r.PhysicalOffset())
			require.Equal(t, g.queue, r.QueueOffset())
			require.Equal(t, goldenStoreTimestamp, r.StoreTimestamp())
		})
	}
}

func TestGoldenDecode(t *testing.T) {
	t.Parallel()
	for _, g := range goldenRecords {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			b := g.bytes(t)
			size, kind, err := Peek(b)
			require.NoError(t, err)
			require.Equal(t, KindMessage, kind)
			require.Equal(t, g.size, size)

			want := g.message()
			want.Version = g.version
			want.Size = int32(g.size)
			want.BodyCRC = 0x3610A686
			want.QueueOffset = g.queue
			want.PhysicalOffset = g.at
			want.StoreTimestamp = goldenStoreTimestamp
			if want.BornHost.Addr().Is6() {
				want.SysFlag |= BornHostV6 | StoreHostV6
			}
			if g.encoder.PropertyCRC {
				want.Properties.Set(PropertyCRC32, "9730346100")
			}

			var got Message
			d := Decoder{Check: CheckAll}
			require.NoError(t, d.Decode(append(b, "what follows"...), &got))
			require.Equal(t, *want, got)
			require.Equal(t, g.id, got.ID())
			require.Equal(t, "hello", string(got.Body))
		})
	}
}

func TestGoldenFiller(t *testing.T) {
	t.Parallel()
	b := make([]byte, FillerSize)
	PutFiller(b, 159)
	require.Equal(t, "0000009fcbd43194", hex.EncodeToString(b))
	size, kind, err := Peek(b)
	require.NoError(t, err)
	require.Equal(t, KindFiller, kind)
	require.Equal(t, 159, size)
}

const goldenBatch = `
00000034000000000000000000000005000000026230001c4b455953016b390257414954017472756502544147530154616741020000
002300000000000000000000000000000003623178000a57414954017472756502`

func TestGoldenBatch(t *testing.T) {
	t.Parallel()
	first := &Message{Topic: "t", Flag: 5, Body: []byte("b0"), Properties: NewProperties("KEYS", "k9", "WAIT", "true", "TAGS", "TagA")}
	second := &Message{Topic: "t", Body: []byte("b1x"), Properties: NewProperties("WAIT", "true")}
	want := unhex(t, goldenBatch)

	b, err := EncodeBatch([]*Message{first, second})
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(b))

	var got []BatchElement
	for e, err := range DecodeBatch(want) {
		require.NoError(t, err)
		got = append(got, e)
	}
	require.Equal(t, []BatchElement{
		{Flag: 5, Body: []byte("b0"), Properties: first.Properties},
		{Flag: 0, Body: []byte("b1x"), Properties: second.Properties},
	}, got)
}

func TestGoldenHashes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int32{
		"":                           0,
		"TagA":                       2598919,
		"TagB":                       2598920,
		"TopicTest#k1":               2746024,
		"TopicTest#k2":               2746025,
		"TopicTest#0A01020300002A9F": 1460219669,
		"polygenelubricants":         -2147483648,
		"中文":                         646394,
	} {
		require.Equal(t, want, HashString(text), text)
		require.Equal(t, want, HashBytes([]byte(text)), text)
		require.Equal(t, int64(want), TagsCode([]byte(text)), text)
	}
	require.EqualValues(t, 907060870, checksum([]byte("hello")))
}
