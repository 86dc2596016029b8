// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
)

func TestTorn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 1200)
	for _, c := range []struct {
		name     string
		value    string
		at       func(size int64) int64 // where the record stands
		from, to int64                  // zeros, in the log
		torn     bool
	}{
		{"whole", "v", func(int64) int64 { return 300 }, 0, 0, false},
		{"whole, over sectors", long, func(int64) int64 { return 300 }, 0, 0, false},
		{"whole, text that ends in zeros", "v\x00\x00\x00", func(int64) int64 { return 300 }, 0, 0, false},
		{"one byte in a sector of its own is lost", "v", func(n int64) int64 { return 1025 - n }, 1024, 1025, true},
		{"four bytes in a sector of their own are lost", "v", func(n int64) int64 { return 1028 - n }, 1024, 1028, true},
		{"the last sector is lost, of a record that ends with it", long, func(n int64) int64 { return 2048 - n }, 1536, 2048, true},
		{"a sector in the middle is lost", long, func(n int64) int64 { return 2100 - n }, 1024, 1536, true},
		{"two sectors in the middle are lost", long, func(n int64) int64 { return 2100 - n }, 1024, 2048, true},
		// Damage, and other files: what a record says of its place may be anything.
		{"a place below zero", long, func(int64) int64 { return -1500 }, 0, 0, false},
		{"a place below zero, a sector is lost", long, func(n int64) int64 { return -500 - n }, -1536, -1024, true},
		{"a place below zero, over zero", long, func(int64) int64 { return -700 }, 0, 0, false},
		{"the least place", long, func(int64) int64 { return math.MinInt64 }, 0, 0, false},
		{"a place whose end is beyond all numbers", long, func(int64) int64 { return math.MaxInt64 - 600 }, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := &message.Message{Topic: "t", Body: []byte("body"), BornTimestamp: 1, StoreTimestamp: 1}
			m.Properties.Set("k", c.value)
			enc := message.Encoder{}
			probe, err := enc.Append(nil, m)
			require.NoError(t, err)
			at := c.at(int64(len(probe)))
			m.PhysicalOffset = message.Offset(at)
			rec, err := enc.Append(nil, m)
			require.NoError(t, err)
			if c.to > c.from {
				clear(rec[c.from-at : min(c.to-at, int64(len(rec)))])
			}
			var got message.Message
			dec := message.Decoder{Check: message.CheckAll}
			require.NoError(t, dec.Decode(bytes.Clone(rec), &got), "no checksum tells")
			require.Equal(t, c.torn, commitlog.Torn(&got))
		})
	}
}
