// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func TestViewRanges(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		const size = 2 * page
		q := openQueue(t, d, dir)
		_, err := q.View(0, 1)
		require.ErrorIs(t, err, mappedfile.ErrOutOfRange)
		fillQueue(t, q, 4)
		_, err = q.RemoveBefore(size)
		require.NoError(t, err)
		for _, tc := range []struct {
			off, n int64
			want   error
		}{
			{size, 0, nil}, {size, 1, nil}, {size, size, nil}, {2*size - 1, 1, nil}, {4*size - 1, 1, nil},
			{size, size + 1, mappedfile.ErrOutOfRange},
			{2*size - 1, 2, mappedfile.ErrOutOfRange},
			{size, -1, mappedfile.ErrOutOfRange},
			{size + 1, 1<<63 - 1, mappedfile.ErrOutOfRange},
			{4 * size, 0, mappedfile.ErrOutOfRange},
			{1<<63 - 1, 1, mappedfile.ErrOutOfRange},
			{size - 1, 1, mappedfile.ErrExpired},
			{0, size, mappedfile.ErrExpired},
			{-1, 1, mappedfile.ErrExpired},
		} {
			v, err := q.View(tc.off, tc.n)
			require.ErrorIsf(t, err, tc.want, "[%d, +%d)", tc.off, tc.n)
			if tc.want != nil {
				require.Equal(t, mappedfile.View{}, v)
				continue
			}
			require.Len(t, v.Bytes(), int(tc.n))
			require.Equal(t, len(v.Bytes()), cap(v.Bytes()), "no room to append into the next record")
			v.Release()
		}
		_, err = q.First().View(-1, 1)
		require.ErrorIs(t, err, mappedfile.ErrOutOfRange)
	})
}

func TestViewOutlivesItsFile(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(*mappedfile.Queue) error{
		"RemoveBefore": func(q *mappedfile.Queue) error { _, err := q.RemoveBefore(q.End()); return err },
		"RemoveFrom":   func(q *mappedfile.Queue) error { _, err := q.RemoveFrom(0); return err },
		"Close":        func(q *mappedfile.Queue) error { return q.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
				q := openQueue(t, d, dir)
				fillQueue(t, q, 2)
				one, err := q.View(10, page)
				require.NoError(t, err)
				two, err := q.View(2*page, 2*page)
				require.NoError(t, err)
				f := one.File()
				require.NoError(t, drop(q))
				require.True(t, only(one.Bytes(), 1))
				require.True(t, only(two.Bytes(), 2))
				more, err := f.View(0, 1)
				require.NoError(t, err, "a file that is held can be viewed")
				one.Release()
				one.Release()
				require.Nil(t, one.Bytes())
				require.Nil(t, one.File())
				require.True(t, only(more.Bytes(), 1), "releasing twice gave back one reference")
				more.Release()
				_, err = f.View(0, 1)
				require.ErrorIs(t, err, mappedfile.ErrExpired)
				require.True(t, only(two.Bytes(), 2))
				two.Release()
			})
		})
	}
	var zero mappedfile.View
	zero.Release()
	require.Empty(t, zero.Bytes())
}

func TestViewKeepsTheBlocks(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 2)
	v, err := q.View(0, 1)
	require.NoError(t, err)
	_, err = q.RemoveBefore(q.End())
	require.NoError(t, err)
	require.EqualValues(t, 2*page, d.Used(), "the file that nobody looks at is unmapped")
	v.Release()
	require.Zero(t, d.Used(), "and the other one with its last view")
}

func TestDrop(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		fillQueue(t, q, 1)
		v, err := q.View(0, page)
		require.NoError(t, err)
		require.NoError(t, q.First().Drop())
		require.True(t, only(v.Bytes(), 1), "not while somebody looks")
		v.Release()
		require.NoError(t, q.First().Drop())
		require.NoError(t, q.First().Drop())
		v, err = q.View(0, page)
		require.NoError(t, err)
		require.True(t, only(v.Bytes(), 1))
		v.Release()
	})
}

// Readers check every byte while files are appended at one end and removed at
// the other. A file that is unmapped too early is a fault on the real disk and
// the wrong bytes on the other one; run with -race.
func TestReadersBesideAppendAndRemove(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		const size, files, kept, readers = 2 * page, 100, 3, 4
		q := openQueue(t, d, dir)
		var done atomic.Bool
		var wg sync.WaitGroup
		for seed := range uint64(readers) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 1))
				for !done.Load() {
					readSomewhere(t, q, rng)
				}
			})
		}
		for i := range int64(files) {
			f, err := q.Prepare(i * size)
			require.NoError(t, err)
			data, err := f.Bytes()
			require.NoError(t, err)
			fill(data, number(i*size, size))
			require.NoError(t, q.Append(f))
			require.NoError(t, q.Flush(i*size, (i+1)*size))
			_, err = q.RemoveBefore((i - kept) * size)
			require.NoError(t, err)
		}
		done.Store(true)
		wg.Wait()
	})
}

func readSomewhere(t *testing.T, q *mappedfile.Queue, rng *rand.Rand) {
	lo, hi := q.Min(), q.End()
	if lo >= hi {
		return
	}
	off := lo + rng.Int64N(hi-lo)
	f := q.Find(off)
	n := int64(100)
	if f != nil {
		n = min(n, f.End()-off)
	}
	v, err := q.View(off, n)
	if errors.Is(err, mappedfile.ErrExpired) {
		return
	}
	if !assert.NoError(t, err) {
		return
	}
	base := v.File().Base()
	ok := only(v.Bytes(), number(base, q.FileSize()))
	v.Release()
	assert.Truef(t, ok, "offset %d", off)
}

func BenchmarkFindViewRelease(b *testing.B) {
	for name, d := range map[string]mappedfile.Disk{"os": mappedfile.OS(), "crashdisk": crashdisk.New()} {
		b.Run(name, func(b *testing.B) {
			q := openQueue(b, d, b.TempDir()+"/q")
			fillQueue(b, q, 100)
			off := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				v, err := q.View(off%q.End(), 100)
				if err != nil {
					b.Fatal(err)
				}
				v.Release()
				off += page
			}
		})
	}
}

func TestFindViewReleaseDoesNotAllocate(t *testing.T) {
	q := openQueue(t, mappedfile.OS(), t.TempDir())
	fillQueue(t, q, 3)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v, err := q.View(2*page+10, 100)
		if err != nil {
			t.Fatal(err)
		}
		v.Release()
	}))
}
