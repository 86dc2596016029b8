// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzDecode(f *testing.F) {
	for _, g := range goldenRecords {
		f.Add(g.bytes(f))
	}
	log := brokerLog(f)
	for len(log) > 0 {
		size, _, err := Peek(log)
		require.NoError(f, err)
		f.Add(log[:size])
		log = log[size:]
	}
	f.Add(make([]byte, FillerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		source := bytes.Clone(b)
		var m Message
		plain := new(Decoder).Decode(b, &m)
		checked := (&Decoder{Check: CheckAll}).Decode(b, &m)
		intact := (&Decoder{Check: CheckIntact}).Decode(b, new(Message))
		require.False(t, checked == nil && intact != nil, "CheckIntact refuses what CheckAll accepts: %v", intact)
		require.Equal(t, source, b, "Decode writes into its input")
		if checked != nil {
			var d *DecodeError
			require.ErrorAs(t, checked, &d)
			require.NotEmpty(t, d.Error())
		}
		if plain != nil {
			require.Error(t, checked, "a check cannot make a record valid")
			return
		}
		record := b[:m.Size]
		require.Equal(t, m.PhysicalOffset, Record(record).PhysicalOffset())
		require.Equal(t, m.StoreTimestamp, Record(record).StoreTimestamp())
		require.Equal(t, m.Properties.Encoded(), slice(Record(record).properties(), 0, m.Properties.Len()))

		e := Encoder{PropertyCRC: endsInCRC(m.Properties.Encoded()), MaxBodyLen: math.MaxInt32}
		if e.Validate(&m) != nil {
			return // RocketMQ may have stored it, but nobody may append it again
		}
		again := encode(t, e, &m)
		if checked == nil && canonical(&m) {
			require.Equal(t, record, []byte(again))
		}
		var m2 Message
		require.NoError(t, (&Decoder{Check: CheckAll}).Decode(again, &m2))
		require.True(t, canonical(&m2))
		require.Equal(t, []byte(again), []byte(encode(t, e, &m2)))
	})
}

// canonical reports whether m was decoded from the bytes that the encoder makes of it.
func canonical(m *Message) bool {
	want := V1
	if len(m.Topic) > MaxTopicLen {
		want = V2
	}
	crcs := strings.Count("\x02"+string(m.Properties.Encoded()), "\x02"+crcStart)
	return m.Version == want &&
		m.BodyCRC == checksum(m.Body) &&
		(m.SysFlag.takesQueueOffset() || m.QueueOffset == 0) &&
		!m.BornHost.Addr().Is4In6() && !m.StoreHost.Addr().Is4In6() &&
		(crcs == 0 || crcs == 1 && endsInCRC(m.Properties.Encoded()))
}

func FuzzProperties(f *testing.F) {
	f.Add([]byte("TAGS\x01TagA\x02KEYS\x01k1 k2\x02"), "TAGS", "TagB")
	f.Add([]byte("a\x01b"), "c", "d")
	f.Add([]byte("\x01\x02a\x01\x01\x02a\x01\x02\x02"), "a", "\x01")
	f.Add([]byte("__CRC32#\x019730346100\x02"), "__CRC32#", "x")
	f.Fuzz(func(t *testing.T, block []byte, name, value string) {
		if len(block) > MaxPropertiesLen/8 {
			return // nothing new, and looking up every name is quadratic
		}
		source := bytes.Clone(block)
		p := PropertiesFromEncoded(block)
		want := readProperties(string(block))
		require.Equal(t, want, maps.Collect(p.All()))
		for n, v := range want {
			got, ok := p.Get(n)
			require.True(t, ok)
			require.Equal(t, v, got)
		}
		got, ok := p.Get(name)
		wantValue, wantOK := want[name]
		require.Equal(t, wantOK, ok)
		require.Equal(t, wantValue, got)

		p.Set(name, value)
		if p.Err() == nil {
			want[name] = value
		}
		require.Equal(t, want, maps.Collect(p.All()))
		p.Delete(name)
		delete(want, name)
		require.Equal(t, want, maps.Collect(p.All()))
		require.Equal(t, source, block, "a borrowed block was written to")
	})
}

// readProperties is the rule of the format once more, in the plainest form.
func readProperties(block string) map[string]string {
	pairs := map[string]string{}
	for _, segment := range strings.Split(block, "\x02") {
		name, value, _ := strings.Cut(segment, "\x01")
		if name != "" && value != "" {
			pairs[name] = value
		}
	}
	return pairs
}

func FuzzBatch(f *testing.F) {
	f.Add(unhex(f, goldenBatch))
	f.Add(make([]byte, batchFixed))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		at := 0
		for e, err := range DecodeBatch(b) {
			if err != nil {
				require.ErrorIs(t, err, ErrBadBatch)
				return
			}
			start := len(again)
			again, err = AppendBatchElement(again, e.Flag, e.Body, e.Properties)
			require.NoError(t, err)
			copy(again[start+4:start+12], b[at+4:]) // magic and CRC, which nobody reads
			at = len(again)
		}
		require.True(t, bytes.Equal(b, again))
	})
}

func FuzzDecompress(f *testing.F) {
	for _, c := range compressions {
		packed, err := Compress(c, []byte("hello hello hello hello"))
		require.NoError(f, err)
		f.Add(uint8(c), packed)
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, c uint8, b []byte) {
		plain, err := Decompress(Compression(c), b, limit)
		if err != nil {
			require.Nil(t, plain)
			return
		}
		require.LessOrEqual(t, len(plain), limit)
		packed, err := Compress(Compression(c), plain)
		require.NoError(t, err)
		again, err := Decompress(Compression(c), packed, limit)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, again))
	})
}

func FuzzParseID(f *testing.F) {
	for _, g := range goldenRecords {
		f.Add(g.id)
	}
	f.Add("c0a8000900002a9f0000000040000080")
	f.Fuzz(func(t *testing.T, id string) {
		host, off, err := ParseID(id)
		if err != nil {
			require.ErrorIs(t, err, ErrBadID)
			return
		}
		if host.Addr().Is4In6() {
			return // no record has such a host, and FormatID writes it in the short form
		}
		require.Equal(t, strings.ToUpper(id), FormatID(host, off))
	})
}
