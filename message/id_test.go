// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessageID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, parsed string
		off          Offset
		id           string
	}{
		{"192.168.0.9:10911", "192.168.0.9:10911", 0x40000080, "C0A8000900002A9F0000000040000080"},
		{"[::1]:10912", "[::1]:10912", 0x40000080, "0000000000000000000000000000000100002AA00000000040000080"},
		{"[::ffff:192.168.0.9]:1", "192.168.0.9:1", 0, "C0A80009000000010000000000000000"},
		{"[fe80::1%eth0]:65535", "[fe80::1]:65535", math.MaxInt64, "FE8000000000000000000000000000010000FFFF7FFFFFFFFFFFFFFF"},
	} {
		require.Equal(t, c.id, FormatID(netip.MustParseAddrPort(c.host), c.off))
		for _, id := range []string{c.id, strings.ToLower(c.id)} {
			host, off, err := ParseID(id)
			require.NoError(t, err)
			require.Equal(t, netip.MustParseAddrPort(c.parsed), host)
			require.Equal(t, c.off, off)
		}
	}
	require.Equal(t, "00000000000000000000000000000001", FormatID(netip.AddrPort{}, 1))
}

func TestParseIDErrors(t *testing.T) {
	t.Parallel()
	good := "C0A8000900002A9F0000000040000080"
	for name, id := range map[string]string{
		"empty":            "",
		"odd":              good[:31],
		"one byte more":    good + "00",
		"between the two":  good + "0000",
		"not hex":          "G" + good[1:],
		"port too high":    good[:8] + "00010000" + good[16:],
		"port negative":    good[:8] + "FFFFFFFF" + good[16:],
		"offset negative":  good[:16] + "8000000000000000",
		"two ids":          good + good,
		"longer than IPv6": strings.Repeat("0", 58),
	} {
		_, _, err := ParseID(id)
		require.ErrorIs(t, err, ErrBadID, name)
	}
}
