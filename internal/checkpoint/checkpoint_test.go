// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package checkpoint

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// The first 40 bytes as the Java class lays them out: five longs in order.
const golden = "0000018bcfe56801" + "0000018bcfe56802" + "0000018bcfe56803" + "0000000000001000" + "0000000000002000"

func TestGolden(t *testing.T) {
	want, err := hex.DecodeString(golden)
	require.NoError(t, err)
	c := Checkpoint{Log: 1700000000001, Queues: 1700000000002, Index: 1700000000003, MasterFlushed: 4096, Confirmed: 8192}
	got := make([]byte, Size)
	c.Encode(got)
	require.Equal(t, want, got[:used])
	require.Equal(t, make([]byte, Size-used), got[used:])
	back, err := Decode(got)
	require.NoError(t, err)
	require.Equal(t, c, back)
}

func TestDecodeShort(t *testing.T) {
	_, err := Decode(make([]byte, used-1))
	require.ErrorContains(t, err, "39 bytes")
}

func TestMinTimestamp(t *testing.T) {
	for _, tt := range []struct {
		name        string
		log, queues int64
		want        int64
	}{
		{"log behind", 10_000, 20_000, 7000},
		{"queues behind", 20_000, 9000, 6000},
		{"never flushed", 0, 20_000, 0},
		{"young", 2000, 2000, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, Checkpoint{Log: tt.log, Queues: tt.queues}.MinTimestamp())
		})
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := hex.DecodeString(golden)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		out := make([]byte, used)
		c.Encode(out)
		require.Equal(t, b[:used], out)
		require.GreaterOrEqual(t, c.MinTimestamp(), int64(0))
	})
}
