// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

var tiny = keyindex.Sizes{Slots: 7, Entries: 12}

// FuzzImage reads any bytes as an index file: every walk ends, and nothing is read
// out of bounds.
func FuzzImage(f *testing.F) {
	f.Add(make([]byte, tiny.FileSize()))
	b := &books{}
	o := b.options(crashdisk.New())
	o.Sizes = tiny
	s, err := keyindex.OpenSet(o)
	require.NoError(f, err)
	_, err = s.Recover(0, keyindex.TrustAll, "")
	require.NoError(f, err)
	for rng := rand.New(rand.NewPCG(1, 1)); len(s.Files()) < 2; {
		require.NoError(f, s.Put(b.add(rng)))
	}
	f.Add(images(f, s)[0])
	f.Fuzz(func(t *testing.T, raw []byte) {
		data := make([]byte, tiny.FileSize())
		copy(data, raw)
		m, err := keyindex.NewImage("x", data, tiny)
		require.NoError(t, err)
		for i := range m.Slots {
			n := 0
			_ = m.Chain(i, func(int, keyindex.Entry) bool { n++; return true })
			require.Less(t, n, tiny.Entries)
		}
		for range m.Problems {
		}
		m.Stats()
		if z, ok := keyindex.Infer(data); ok {
			require.Equal(t, int64(len(data)), z.FileSize())
		}
		keyindex.Infer(raw)
		keyindex.ParseNote(raw)
	})
}

// FuzzDamaged opens a set of which some bytes of one file were changed. It can
// be recovered, by each trust, fed and asked.
func FuzzDamaged(f *testing.F) {
	f.Add(uint16(36), []byte{0xff}, uint8(0))
	f.Add(uint16(40), make([]byte, 400), uint8(1))
	f.Add(uint16(4480), []byte{1, 2, 3}, uint8(2))
	f.Fuzz(func(t *testing.T, at uint16, with []byte, how uint8) {
		disk, b := crashdisk.New(), &books{}
		rng := rand.New(rand.NewPCG(1, uint64(how)))
		s := b.fresh(t, disk)
		for range 40 {
			require.NoError(t, s.Put(b.add(rng)))
		}
		files := s.Files()
		path := files[(int(how)/3)%len(files)].Path()
		require.NoError(t, s.Close())
		r, err := disk.Open(path, mappedfile.Mapping{})
		require.NoError(t, err)
		copy(r.Bytes()[int(at)%len(r.Bytes()):], with)
		require.NoError(t, r.Close())

		got := b.open(t, disk)
		from, err := got.Recover(b.end(), keyindex.Trust(how%3), "")
		require.NoError(t, err)
		require.LessOrEqual(t, from, b.end())
		b.feed(t, got, from)
		require.NoError(t, got.Put(b.add(rng)))
		for i := range 30 {
			_ = got.Find("orders", fmt.Sprintf("k%d", i), keyindex.Range{}, func(message.Offset) bool { return true })
		}
		require.NoError(t, got.Flush())
	})
}
