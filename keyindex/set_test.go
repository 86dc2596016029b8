// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestNames: a clock that stands still or goes back still names newer files
// later, over the end of a minute, and of a year.
func TestNames(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 31, 23, 59, 59, 998e6, time.Local)
	require.Equal(t, "20261231235959998", keyindex.FileName(now))
	b := &books{}
	o := b.options(crashdisk.New())
	o.Clock = func() time.Time { now = now.Add(-time.Hour); return now }
	s, err := keyindex.OpenSet(o)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Recover(0, keyindex.TrustAll, "")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for len(s.Files()) < 5 {
		require.NoError(t, s.Put(b.add(rng)))
	}
	for i, f := range s.Files()[1:] {
		require.Less(t, s.Files()[i].Name(), f.Name())
	}
	require.Equal(t, "20261231225959998", s.Files()[0].Name())
	require.Equal(t, "20261231230000000", s.Files()[2].Name())
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, z := range []keyindex.Sizes{{}, {Slots: 1}, {Slots: 1, Entries: 1}, {Slots: -1, Entries: 5}, {Slots: 1 << 29, Entries: 1 << 27}} {
		require.ErrorIs(t, z.Check(), keyindex.ErrSizes, "%+v", z)
	}
	require.NoError(t, keyindex.DefaultSizes.Check())
	require.EqualValues(t, 420000040, keyindex.DefaultSizes.FileSize())

	// A file tells its sizes once it has an entry, whatever they are.
	rng := rand.New(rand.NewPCG(2, 2))
	for range 60 {
		z := keyindex.Sizes{Slots: 1 + rng.IntN(200), Entries: 2 + rng.IntN(100)}
		b, disk := &books{}, crashdisk.New()
		o := b.options(disk)
		o.Sizes = z
		s, err := keyindex.OpenSet(o)
		require.NoError(t, err)
		_, err = s.Recover(0, keyindex.TrustAll, "")
		require.NoError(t, err)
		for n := 1 + rng.IntN(100); n > 0 || len(s.Files()) == 0; n-- {
			require.NoError(t, s.Put(b.add(rng)))
		}
		require.NoError(t, s.Close())
		for _, given := range []keyindex.Sizes{{}, {Slots: z.Slots}, {Entries: z.Entries}, z} {
			o.Sizes = given
			s, err = keyindex.OpenSet(o)
			require.NoError(t, err, "%+v, given %+v", z, given)
			require.Equal(t, z, s.Sizes(), "given %+v", given)
			require.NoError(t, s.Close())
		}
		o.Sizes = keyindex.Sizes{Slots: z.Slots + 1}
		_, err = keyindex.OpenSet(o)
		require.Error(t, err)
		o.Sizes = keyindex.Sizes{Slots: z.Slots + 5, Entries: z.Entries}
		_, err = keyindex.OpenSet(o)
		require.ErrorIs(t, err, mappedfile.ErrFileSize)
	}
}

func TestNote(t *testing.T) {
	t.Parallel()
	for _, n := range []keyindex.Note{
		{Sizes: small}, {Sizes: keyindex.DefaultSizes, Newest: "20261122135434261"},
	} {
		got, ok := keyindex.ParseNote(n.Format())
		require.True(t, ok)
		require.Equal(t, n, got)
		for i := range n.Format() {
			_, ok = keyindex.ParseNote(n.Format()[:i])
			require.False(t, ok, "%q", n.Format()[:i])
		}
	}
	require.Equal(t, "slots=1100 entries=40 newest=-\n", string(keyindex.Note{Sizes: small}.Format()))
}

// TestExpire removes files from the front while somebody reads in one.
func TestExpire(t *testing.T) {
	t.Parallel()
	disk, b := crashdisk.New(), &books{}
	s := b.fresh(t, disk)
	rng := rand.New(rand.NewPCG(4, 4))
	for len(s.Files()) < 6 {
		require.NoError(t, s.Put(b.add(rng)))
	}
	files := s.Files()
	var ends []message.Offset
	for _, f := range files {
		require.NoError(t, f.Read(func(m keyindex.Image) error {
			ends = append(ends, m.Header().EndOffset)
			return nil
		}))
	}
	n, err := s.Expire(ends[1])
	require.NoError(t, err)
	require.Equal(t, 1, n, "the second file's last record is still there")
	require.NoError(t, files[1].Read(func(m keyindex.Image) error {
		n, err := s.Expire(ends[1] + 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, ends[1], m.Header().EndOffset, "it is still mapped")
		return nil
	}))
	require.ErrorIs(t, files[1].Read(func(keyindex.Image) error { return nil }), mappedfile.ErrExpired)
	n, err = s.Expire(b.end() + 1000)
	require.NoError(t, err)
	require.Equal(t, 3, n, "never the newest")
	n, err = s.Expire(b.end() + 1000)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, files[5:], s.Files())
	require.NoError(t, s.Put(b.add(rng)))
	names, err := disk.DurableClone().List(dir)
	require.NoError(t, err)
	require.Len(t, names, 1, "what was removed is gone for good")
}

// TestFindBesidePut asks for keys while they are put, and files expire. It is for
// the race detector; what was put before a question is found.
func TestFindBesidePut(t *testing.T) {
	t.Parallel()
	disk, b := crashdisk.New(), &books{}
	s := b.fresh(t, disk)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := w; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				last := message.Offset(1 << 40)
				err := s.Find("orders", fmt.Sprintf("k%d", i%30), keyindex.Range{}, func(off message.Offset) bool {
					if off > last {
						t.Errorf("%d after %d", off, last)
					}
					last = off
					return true
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := s.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	rng := rand.New(rand.NewPCG(6, 6))
	for n := range 600 {
		m := b.add(rng)
		if err := s.Put(m); err != nil {
			t.Error(err)
			break
		}
		if n%100 == 99 {
			_, err := s.Expire(m.PhysicalOffset / 2)
			require.NoError(t, err)
		}
		found := false
		for _, k := range m.Keys() {
			found = false
			err := s.Find(m.Topic, k, keyindex.Range{}, func(off message.Offset) bool {
				found = off == m.PhysicalOffset
				return !found
			})
			require.NoError(t, err)
			require.True(t, found, "key %q of record %d", k, n)
		}
	}
	close(done)
	wg.Wait()
}

// TestFlush: a flush that failed fails for ever; one with nothing to do does
// nothing.
func TestFlush(t *testing.T) {
	t.Parallel()
	disk, b := crashdisk.New(), &books{}
	s := b.fresh(t, disk)
	require.NoError(t, s.Flush())
	require.Zero(t, disk.Total(crashdisk.OpFlush, crashdisk.Index))
	rng := rand.New(rand.NewPCG(8, 8))
	for len(s.Files()) < 2 {
		require.NoError(t, s.Put(b.add(rng)))
	}
	require.NoError(t, s.Flush())
	flushes := disk.Total(crashdisk.OpFlush, crashdisk.Index)
	require.NoError(t, s.Flush())
	require.Equal(t, flushes, disk.Total(crashdisk.OpFlush, crashdisk.Index), "nothing changed")
	require.Equal(t, s.Newest(), s.Durable().Newest)
	disk.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.Index})
	for keyed := false; !keyed; {
		keyed = len(b.add(rng).Keys()) > 0
	}
	b.feed(t, s, 0)
	require.Error(t, s.Flush())
	require.Error(t, s.Flush(), "for ever")
}
