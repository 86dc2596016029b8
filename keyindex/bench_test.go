// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// benchKeys is how many keys an index has before it is measured.
const benchKeys = 10_000_000

// keyed makes records of one key each, like those that RocketMQ's clients make:
// 32 hex digits, of which the last eight count.
type keyed struct {
	m     message.Message
	block []byte
	n     int
}

func newKeyed() *keyed {
	k := &keyed{}
	k.m.Topic = "orders-of-the-day"
	p := message.NewProperties(message.PropertyUniqKey, fmt.Sprintf("7F00000100002A9F0000018BCFE5%04d", 0), message.PropertyTags, "TagA")
	k.block = p.Encoded()
	return k
}

func (k *keyed) key() []byte {
	return k.block[len(message.PropertyUniqKey)+1:][:32]
}

// next is the record behind the last one. It is overwritten by the next call.
func (k *keyed) next() *message.Message {
	const digits = "0123456789ABCDEF"
	key := k.key()
	for i, v := 31, uint32(k.n); i > 23; i, v = i-1, v>>4 {
		key[i] = digits[v&15]
	}
	k.m.Properties = message.PropertiesFromEncoded(k.block)
	k.m.PhysicalOffset = message.Offset(k.n) * 1200
	k.m.StoreTimestamp = begin + int64(k.n)/100
	k.n++
	return &k.m
}

// full makes an index of the default sizes with benchKeys keys.
func full(b *testing.B) (*keyindex.Set, *keyed) {
	b.Helper()
	s, err := keyindex.OpenSet(keyindex.Options{Dir: b.TempDir(), Record: func(message.Offset) (*message.Message, error) { return nil, nil }})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	_, err = s.Recover(0, keyindex.TrustAll, "")
	require.NoError(b, err)
	k := newKeyed()
	for range benchKeys {
		if err := s.Put(k.next()); err != nil { // require costs more than a Put
			b.Fatal(err)
		}
	}
	return s, k
}

// BenchmarkPut enters keys from the first to the ten-millionth, as the dispatcher
// does: finding the key in the record, its hash, the writes, and the blocks and
// pages of the file.
func BenchmarkPut(b *testing.B) {
	b.Run("first 10,000,000", func(b *testing.B) {
		for b.Loop() {
			s, _ := full(b)
			require.Len(b, s.Files(), 1)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchKeys, "ns/key")
	})
	b.Run("behind 10,000,000", func(b *testing.B) {
		s, k := full(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Put(k.next()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFind looks keys up, without the record.
func BenchmarkFind(b *testing.B) {
	s, k := full(b)
	keys := make([]string, 1000)
	for i := range keys {
		k.n = i * 9973
		k.next()
		keys[i] = string(k.key())
	}
	b.ReportAllocs()
	i, found := 0, 0
	for b.Loop() {
		err := s.Find(k.m.Topic, keys[i%len(keys)], keyindex.Range{}, func(message.Offset) bool {
			found++
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
		i++
	}
	require.GreaterOrEqual(b, found, i)
}

// BenchmarkEmpty makes an index of the default sizes with one key in it, and says
// what that takes of the disk.
func BenchmarkEmpty(b *testing.B) {
	taken := int64(0)
	for b.Loop() {
		s, err := keyindex.OpenSet(keyindex.Options{Dir: b.TempDir(), Disk: mappedfile.OS()})
		require.NoError(b, err)
		_, err = s.Recover(0, keyindex.TrustAll, "")
		require.NoError(b, err)
		require.NoError(b, s.Put(newKeyed().next()))
		require.NoError(b, s.Flush())
		taken = blocks(b, s.Files()[0].Path())
		require.NoError(b, s.Close())
	}
	b.ReportMetric(float64(taken), "disk-bytes")
}

func blocks(tb testing.TB, path string) int64 {
	tb.Helper()
	info, err := os.Stat(path)
	require.NoError(tb, err)
	return allocated(info)
}
