// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChecksum compares each length, at each place in a block, with the standard
// library's.
func TestChecksum(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 11))
	b := make([]byte, 400)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for from := range 2 * block {
		for to := from; to <= len(b); to++ {
			require.Equal(t, crc32.ChecksumIEEE(b[from:to]), crc(b[from:to]), "[%d, %d)", from, to)
		}
	}
	require.Equal(t, crc32.ChecksumIEEE(b)&0x7FFFFFFF, checksum(b))
	require.Zero(t, checksum(nil))
}

// BenchmarkChecksum is the checksum beside the standard library's, for lengths with
// little and with much behind the last whole block.
func BenchmarkChecksum(b *testing.B) {
	for _, n := range []int{12, 96, 1024, 1179, 1183} {
		data := make([]byte, n)
		for name, sum := range map[string]func([]byte) uint32{"own": crc, "hash-crc32": crc32.ChecksumIEEE} {
			b.Run(fmt.Sprintf("bytes=%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					sum(data)
				}
			})
		}
	}
}
