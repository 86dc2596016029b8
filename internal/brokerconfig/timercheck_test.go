// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What RocketMQ wrote after 13 messages.
const timerCheckHex = "000001a20374210000000000000002b8000000000000000d000000000000000d" +
	"0000000000000000000001a2037422c50000000000000004"

func TestTimerCheck(t *testing.T) {
	t.Parallel()
	golden, err := hex.DecodeString(timerCheckHex)
	require.NoError(t, err)
	want := TimerCheck{
		Read: 0x1a203742100, LogFlushed: 696, Next: 13, MasterNext: 13, Timestamp: 0x1a2037422c5, Counter: 4,
	}
	got, err := DecodeTimerCheck(golden)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Len(t, want.Encode(), 4096)
	require.Equal(t, golden, want.Encode()[:len(golden)])

	for name, b := range map[string][]byte{
		"empty": nil, "short": golden[:55], "negative time": append([]byte{0x80}, golden[1:]...),
		"negative offset": append(append(append([]byte(nil), golden[:16]...), 0xff), golden[17:]...),
	} {
		_, err := DecodeTimerCheck(b)
		require.ErrorIs(t, err, ErrMalformed, name)
	}

	dir := filepath.Join(t.TempDir(), "config")
	_, ok, err := ReadTimerCheck(dir)
	require.NoError(t, err)
	require.False(t, ok)
	for range 2 {
		require.NoError(t, WriteTimerCheck(dir, want))
	}
	got, ok, err = ReadTimerCheck(dir)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want, got)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no copy, nothing temporary")
	require.NoError(t, os.WriteFile(filepath.Join(dir, TimerCheckFile), golden[:9], 0o600))
	_, ok, err = ReadTimerCheck(dir)
	require.ErrorIs(t, err, ErrMalformed)
	require.False(t, ok)
}

func FuzzTimerCheck(f *testing.F) {
	golden, err := hex.DecodeString(timerCheckHex)
	require.NoError(f, err)
	f.Add(golden)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeTimerCheck(b)
		if err == nil {
			require.Equal(t, b[:timerCheckLen], c.Encode()[:timerCheckLen])
		}
	})
}
