// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"context"
	"encoding/hex"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	head := make([]byte, headerSize)
	encodeHeader(head, DefaultStretch)
	require.Equal(t, "5354454c4554494d"+"00000001"+"01b7f4d0"+"0000000000040000", hex.EncodeToString(head[:24]))
	stretch, err := decodeHeader(head)
	require.NoError(t, err)
	require.EqualValues(t, DefaultStretch, stretch)

	e := entry{time: 1_700_000_000_002, offset: 3*DefaultStretch + 77, mark: 0xABCDEF}
	b := make([]byte, entrySize)
	e.encode(b, 3, DefaultStretch)
	require.Equal(t, "018bcfe56802"+"0000004d"+"abcdef"+"686843", hex.EncodeToString(b))
	got, ok := decodeEntry(b, 3, DefaultStretch)
	require.True(t, ok)
	require.Equal(t, e, got)
	_, ok = decodeEntry(b, 4, DefaultStretch)
	require.False(t, ok, "of another place")
	_, ok = decodeEntry(b, 3, DefaultStretch*2)
	require.False(t, ok, "of another index")
	for bit := range entrySize * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		_, ok = decodeEntry(b, 3, DefaultStretch)
		require.False(t, ok, "bit %d", bit)
		b[bit/8] ^= 1 << (bit % 8)
	}
	_, ok = decodeEntry(make([]byte, entrySize), 0, DefaultStretch)
	require.False(t, ok, "zeros")
	require.False(t, mayHold(0, 512, 1<<32))
	require.False(t, mayHold(2, 512, 1023))
	require.True(t, mayHold(2, 512, 1024))
	require.EqualValues(t, 0, clamp(-5))
	require.EqualValues(t, 1<<48-1, clamp(1<<60))
	require.Equal(t, 4064, int(perFile))
}

// TestSearchIsAScan: whatever the clock did, a search finds exactly what a scan
// of the whole log finds, by few entries and few bytes.
func TestSearchIsAScan(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := newFakeLog(t)
		l.grow(rng, 1+rng.IntN(600), seed%4 == 0)
		stretch := int64(MinStretch << rng.IntN(4))
		x := openIndex(t, crashdisk.New(), l, l.lo(), Options{Stretch: stretch})
		requireScan(t, x, l, rng, l.end)
		requireScan(t, x, l, rng, l.records[rng.IntN(len(l.records))].PhysicalOffset)
		for _, ms := range l.times(rng) {
			f, err := Search(context.Background(), l, x, l.end, ms)
			require.NoError(t, err)
			st := x.Stats()
			require.LessOrEqual(t, f.Entries, bits.Len64(uint64(st.Entries))+1)
			if f.Indexed {
				require.LessOrEqual(t, f.Scanned, stretch+6200, "more than a stretch and a record: %+v", f)
				require.Zero(t, f.Headers)
			}
		}
		require.NoError(t, x.Flush())
		read, err := OpenReadOnly(x.o.Disk, dir)
		require.NoError(t, err)
		if seed%4 == 0 {
			requireScan(t, read, l, rng, l.end)
		}
		require.Equal(t, x.Stats(), read.Stats())
		require.NoError(t, read.Close())
	}
}

func TestSearchWithoutEntries(t *testing.T) {
	t.Parallel()
	empty := newFakeLog(t)
	f, err := Search(t.Context(), empty, nil, 0, 5)
	require.NoError(t, err)
	require.False(t, f.OK)
	rng := rand.New(rand.NewPCG(1, 1))
	l := newFakeLog(t)
	l.grow(rng, 2000, true)
	requireScan(t, nil, l, rng, l.end)
	last := l.records[len(l.records)-1]
	f, err = Search(t.Context(), l, nil, l.end, last.StoreTimestamp)
	require.NoError(t, err)
	require.LessOrEqual(t, f.Headers, bits.Len(uint(l.files.Len()))+1, "files are searched by bisection")

	// An index that begins in the middle.
	x := openIndex(t, crashdisk.New(), l, l.records[900].PhysicalOffset, Options{Stretch: 1024, Rebuild: 1})
	require.GreaterOrEqual(t, x.Stats().From, l.records[900].PhysicalOffset)
	requireScan(t, x, l, rng, l.end)
	// What is left of the log is short: it is filled in.
	require.NoError(t, x.Close())
	x = openIndex(t, x.o.Disk, l, l.end, Options{Stretch: 1024})
	require.Equal(t, l.lo(), x.Stats().From)
	requireScan(t, x, l, rng, l.end)
}

// TestSpareFilesAndDamage: files without a first record don't stop a search.
func TestSpareFilesAndDamage(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	l := newFakeLog(t)
	l.grow(rng, 1500, true)
	for range 3 {
		_, err := l.files.Add(l.files.End())
		require.NoError(t, err)
	}
	for _, i := range []int{0, 3, 4, 5} {
		b, err := l.files.Files()[i].Bytes()
		require.NoError(t, err)
		b[100] ^= 1 // somewhere in the first record
	}
	requireScan(t, nil, l, rng, l.end)
}

// TestManyFiles rolls over several files of the index and expires them.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(2, 2))
	l := newFakeLog(t)
	l.grow(rng, 20_000, true)
	disk := crashdisk.New()
	x := openIndex(t, disk, l, l.lo(), Options{Stretch: 512})
	files := x.Stats().Files
	require.GreaterOrEqual(t, files, 3)
	requireScan(t, x, l, rng, l.end)
	require.NoError(t, x.Flush())
	require.NoError(t, x.Flush(), "nothing to do")

	for _, part := range []int64{3, 2} {
		_, err := l.files.RemoveBefore(l.files.End() / part)
		require.NoError(t, err)
		l.records = l.records[len(l.records)-1:]
		before := x.Stats()
		require.NoError(t, x.Expire(l.lo()))
		require.NoError(t, x.Expire(l.lo()))
		require.Less(t, x.Stats().Entries, before.Entries)
		require.GreaterOrEqual(t, x.Stats().From, l.lo())
	}
	require.Less(t, x.Stats().Files, files)
	require.NoError(t, x.Expire(l.end))
	require.Equal(t, 1, x.Stats().Files, "the last one stays")
	require.NoError(t, x.Flush())
	last := l.add(l.records[len(l.records)-1].StoreTimestamp+1, 2000)
	require.NoError(t, x.Put(last))
	f, err := Search(t.Context(), l, x, l.end, last.StoreTimestamp)
	require.NoError(t, err)
	require.Equal(t, last.PhysicalOffset, f.Offset)
}

// TestExpiredFront: what remains is found as before.
func TestExpiredFront(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 2))
	l := newFakeLog(t)
	l.grow(rng, 1500, true)
	disk := crashdisk.New()
	x := openIndex(t, disk, l, l.lo(), Options{Stretch: 1024})
	_, err := l.files.RemoveBefore(l.files.End() / 2)
	require.NoError(t, err)
	for l.records[0].PhysicalOffset < l.lo() {
		l.records = l.records[1:]
	}
	requireScan(t, x, l, rng, l.end) // before anybody said so
	require.NoError(t, x.Expire(l.lo()))
	requireScan(t, x, l, rng, l.end)
	require.NoError(t, x.Close())
	x = openIndex(t, disk, l, l.end, Options{Stretch: 1024})
	requireScan(t, x, l, rng, l.end)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 2))
	l := newFakeLog(t)
	l.grow(rng, 9000, true)
	disk := crashdisk.New()
	x, err := Open(Options{Dir: dir, Disk: disk, Stretch: 512})
	require.NoError(t, err)
	defer func() { require.NoError(t, x.Close()) }()
	_, err = x.Recover(0, 0, l)
	require.NoError(t, err)
	disk.SetCapacity(1)
	refused := 0
	for i := range l.records {
		for err = x.Put(&l.records[i]); err != nil; err = x.Put(&l.records[i]) {
			require.ErrorIs(t, err, mappedfile.ErrDiskFull)
			refused++
			disk.SetCapacity(disk.Used() + crashdisk.PageSize*int64(1+rng.IntN(8)))
		}
	}
	require.Greater(t, refused, 2)
	require.Empty(t, disk.Unreserved())
	requireScan(t, x, l, rng, l.end)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, err := Open(Options{Dir: dir, Disk: crashdisk.New(), Stretch: 100})
	require.ErrorContains(t, err, "stretch")
	_, err = OpenReadOnly(crashdisk.New(), dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	disk := crashdisk.New()
	require.NoError(t, disk.MkdirAll(dir))
	_, err = OpenReadOnly(disk, dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestOtherStretch: an index of another stretch is made anew.
func TestOtherStretch(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 2))
	l := newFakeLog(t)
	l.grow(rng, 800, true)
	disk := crashdisk.New()
	require.NoError(t, openIndex(t, disk, l, 0, Options{Stretch: 512}).Close())
	x := openIndex(t, disk, l, l.end, Options{Stretch: 1024})
	require.EqualValues(t, 1024, x.Stats().Stretch)
	requireScan(t, x, l, rng, l.end)
}

func BenchmarkPut(b *testing.B) {
	l := newFakeLog(b)
	x := openIndex(b, mappedfile.OS(), l, 0, Options{})
	require.NoError(b, x.Close())
	x, err := Open(Options{Dir: b.TempDir()})
	require.NoError(b, err)
	defer func() { require.NoError(b, x.Close()) }()
	_, err = x.Recover(0, 0, l)
	require.NoError(b, err)
	m := message.Message{Size: 1100, StoreTimestamp: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Put(&m); err != nil {
			b.Fatal(err)
		}
		m.PhysicalOffset += 1100
		m.StoreTimestamp++
	}
}
