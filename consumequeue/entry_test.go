// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEntryBytes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		e    Entry
		hex  string
	}{
		{"RocketMQ: tag TagA", Entry{Offset: 0, Size: 128, TagsCode: 0x27A807}, "000000000000000000000080000000000027a807"},
		{"RocketMQ: blank", blank, "00000000000000007fffffff0000000000000000"},
		{"every field", Entry{0x0102030405060708, 0x090A0B0C, 0x0D0E0F1011121314}, "0102030405060708090a0b0c0d0e0f1011121314"},
		{"negative hash is sign-extended", Entry{1 << 40, 91, -2}, "00000100000000000000005bfffffffffffffffe"},
		{"zero", Entry{}, "0000000000000000000000000000000000000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, EntrySize)
			tt.e.Encode(b)
			require.Equal(t, tt.hex, hex.EncodeToString(b))
			require.Equal(t, tt.e, DecodeEntry(b))
		})
	}
}

func TestEntryKinds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		e            Entry
		valid, blank bool
	}{
		{"of a message", Entry{0, 91, 0}, true, false},
		{"all zero", Entry{}, false, false},
		{"blank", Entry{0, math.MaxInt32, 0}, false, true},
		{"size of a blank one, elsewhere", Entry{1, math.MaxInt32, 0}, false, false},
		{"size of a blank one, with tags", Entry{0, math.MaxInt32, 1}, false, false},
		{"longest record", Entry{0, math.MaxInt32 - 1, 0}, true, false},
		{"negative offset", Entry{-1, 91, 0}, false, false},
		{"negative size", Entry{0, -1, 0}, false, false},
		{"ends at the largest offset", Entry{math.MaxInt64 - 91, 91, 0}, true, false},
		{"ends beyond it", Entry{math.MaxInt64 - 90, 91, 0}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.valid, tt.e.Valid())
			require.Equal(t, tt.blank, tt.e.IsBlank())
		})
	}
}

func TestBlankAll(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 7, 64, 100} {
		b := make([]byte, (n+1)*EntrySize)
		units(b[:n*EntrySize]).blankAll()
		for i := range n {
			require.True(t, units(b).at(int64(i)).IsBlank(), "%d of %d", i, n)
		}
		require.Zero(t, units(b).at(int64(n)), "the unit behind %d", n)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range []Entry{{}, blank, entry(7), {-1, -1, -1}, {math.MaxInt64, math.MaxInt32 - 1, 0}} {
		b := make([]byte, EntrySize)
		e.Encode(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < EntrySize {
			return
		}
		e := DecodeEntry(b)
		again := make([]byte, EntrySize)
		e.Encode(again)
		require.Equal(t, b[:EntrySize], again)
		require.False(t, e.Valid() && e.IsBlank())
		if e.Valid() {
			require.Greater(t, e.End(), e.Offset)
			require.Positive(t, e.Size)
		}
	})
}
