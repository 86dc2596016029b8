// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

var benchmarkBodies = []int{128, 1024, 4096}

func benchmarkMessage(bodyLen int) *Message {
	m := goldenMessage()
	m.Body = bytes.Repeat([]byte("x"), bodyLen)
	return m
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range benchmarkBodies {
		for _, e := range []Encoder{{}, {PropertyCRC: true}} {
			b.Run(fmt.Sprintf("body=%d/propertyCRC=%v", n, e.PropertyCRC), func(b *testing.B) {
				m := benchmarkMessage(n)
				size, err := e.EncodedLen(m)
				require.NoError(b, err)
				buf := make([]byte, 0, size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					out, err := e.Append(buf, m)
					if err != nil {
						b.Fatal(err)
					}
					r := Record(out)
					r.Patch(Offset(i), QueueOffset(i), int64(i))
					r.Seal()
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range benchmarkBodies {
		for _, check := range []Check{CheckNone, CheckAll} {
			b.Run(fmt.Sprintf("body=%d/check=%d", n, check), func(b *testing.B) {
				record, err := Encoder{PropertyCRC: true}.Append(nil, benchmarkMessage(n))
				require.NoError(b, err)
				Record(record).Seal()
				d := Decoder{Check: check}
				var m Message
				b.ReportAllocs()
				b.SetBytes(int64(len(record)))
				for b.Loop() {
					if err := d.Decode(record, &m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	p := goldenMessage().Properties
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.Lookup(PropertyUniqKey); !ok {
			b.Fatal("not found")
		}
	}
}

// TestHotPathsDoNotAllocate holds what the benchmarks show.
func TestHotPathsDoNotAllocate(t *testing.T) {
	e := Encoder{PropertyCRC: true}
	m := benchmarkMessage(1024)
	record, err := e.Append(nil, m)
	require.NoError(t, err)
	Record(record).Seal()
	decoder := Decoder{Check: CheckAll}
	var decoded Message

	for name, f := range map[string]func(){
		"encode": func() {
			out, err := e.Append(record[:0], m)
			require.NoError(t, err)
			Record(out).Patch(1, 2, 3)
			Record(out).Seal()
		},
		"decode": func() { require.NoError(t, decoder.Decode(record, &decoded)) },
		"lookup": func() { decoded.Properties.Lookup(PropertyKeys) },
		"tags code": func() {
			tags, _ := decoded.Properties.Lookup(PropertyTags)
			TagsCode(tags)
		},
		"wait": func() { decoded.WaitStored() },
	} {
		require.Zero(t, testing.AllocsPerRun(100, f), name)
	}
}
