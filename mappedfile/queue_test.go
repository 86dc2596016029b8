// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func readOnly(o *mappedfile.Options) { o.Mapping.ReadOnly = true }

func lean(o *mappedfile.Options) { o.Mapping.Lean = true }

func TestFind(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		const size = 2 * page
		q := openQueue(t, d, dir)
		require.Nil(t, q.Find(0))
		require.Nil(t, q.First())
		require.Nil(t, q.Last())
		fillQueue(t, q, 5)
		_, err := q.RemoveBefore(2 * size)
		require.NoError(t, err)
		for _, tc := range []struct{ off, base int64 }{
			{-1, -1}, {0, -1}, {2*size - 1, -1},
			{2 * size, 2 * size},
			{2*size + 1, 2 * size},
			{3*size - 1, 2 * size},
			{3 * size, 3 * size},
			{5*size - 1, 4 * size},
			{5 * size, -1}, {5*size + 1, -1}, {1 << 62, -1}, {-1 << 62, -1},
		} {
			f := q.Find(tc.off)
			if tc.base < 0 {
				require.Nilf(t, f, "offset %d", tc.off)
				continue
			}
			require.NotNilf(t, f, "offset %d", tc.off)
			require.Equal(t, tc.base, f.Base())
			require.Equal(t, tc.base+size, f.End())
		}
		require.Same(t, q.Find(2*size), q.First())
		require.Same(t, q.Find(4*size), q.Last())
		require.Equal(t, []int64{2 * size, 5 * size}, []int64{q.Min(), q.End()})
	})
}

func TestNextBaseAndAppend(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		const size = 2 * page
		q := openQueue(t, d, dir)
		for first, want := range map[int64]int64{0: 0, 1: 0, size - 1: 0, size: size, 3*size + 7: 3 * size} {
			require.Equal(t, want, q.NextBase(first))
		}
		_, err := q.Add(7)
		require.ErrorContains(t, err, "want 0", "beside the grid")
		_, err = q.Add(3 * size)
		require.NoError(t, err, "an empty queue begins anywhere on it")
		require.Equal(t, int64(4*size), q.NextBase(0))
		for _, base := range []int64{0, 3 * size, 5 * size} {
			_, err = q.Add(base)
			require.Error(t, err, base)
		}
		require.Equal(t, []string{mappedfile.FileName(3 * size)}, names(t, d, dir), "what did not fit is gone again")
	})
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		f, err := q.Prepare(0)
		require.NoError(t, err)
		require.Zero(t, q.Len())
		require.Equal(t, []string{mappedfile.FileName(0)}, names(t, d, dir))
		require.NoError(t, q.Discard(f))
		require.Empty(t, names(t, d, dir))
		_, err = f.View(0, 1)
		require.ErrorIs(t, err, mappedfile.ErrExpired)
	})
}

func TestReopenSeesTheSameBytes(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		fillQueue(t, q, 3)
		require.NoError(t, q.Flush(0, q.End()))
		require.NoError(t, q.Close())
		for _, change := range []func(*mappedfile.Options){readOnly, lean} {
			q = openQueue(t, d, dir, change)
			for _, f := range q.Files() {
				v, err := q.View(f.Base(), f.Size())
				require.NoError(t, err)
				require.Same(t, f, v.File())
				require.True(t, only(v.Bytes(), number(f.Base(), f.Size())))
				v.Release()
			}
		}
	})
}

func TestFlushAcrossFiles(t *testing.T) {
	t.Parallel()
	const size = 2 * page
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 4)
	require.NoError(t, q.Flush(size+page, 2*size+1)) // the end of one file and the first byte of the next
	want := map[int64][2]bool{0: {}, size: {false, true}, 2 * size: {true, false}, 3 * size: {}}
	for base, pages := range want {
		data, named, err := d.Durable("/q/" + mappedfile.FileName(base))
		require.NoError(t, err)
		require.True(t, named)
		for i, durable := range pages {
			v := byte(0)
			if durable {
				v = number(base, size)
			}
			require.Truef(t, only(data[i*page:(i+1)*page], v), "file %d, page %d", base, i)
		}
	}
	before := d.Total(crashdisk.OpFlush, crashdisk.AnyKind)
	require.NoError(t, q.Flush(size, size), "nothing to do")
	require.NoError(t, q.Flush(4*size, 5*size), "beyond the end")
	require.Equal(t, before, d.Total(crashdisk.OpFlush, crashdisk.AnyKind))
	_, err := q.RemoveBefore(size)
	require.NoError(t, err)
	require.NoError(t, q.Flush(0, 4*size), "a removed file counts as flushed")
	require.Equal(t, before+3, d.Total(crashdisk.OpFlush, crashdisk.AnyKind))
}

func TestFlushOnARealDisk(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		for name, change := range map[string]func(*mappedfile.Options){"full": func(*mappedfile.Options) {}, "lean": lean} {
			q := openQueue(t, d, dir+name, change, func(o *mappedfile.Options) { o.FileSize = 64 * page })
			fillQueue(t, q, 2)
			// Small ranges go by msync, large ones by fdatasync where there is a descriptor.
			for _, r := range [][2]int64{{0, 1}, {page - 1, page + 1}, {64*page - 1, 64*page + 1}, {3, 100 * page}, {0, 128 * page}} {
				require.NoError(t, q.Flush(r[0], r[1]))
			}
		}
	})
}

// TestFlushOfAFileThatWasCut: the sync itself succeeds, so the length is looked
// at.
func TestFlushOfAFileThatWasCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, cut int64 }{
		"few pages, by msync":          {0, page, 0},
		"many pages, by fdatasync":     {0, 32 * page, 16 * page},
		"cut within the last page":     {0, 32 * page, 64*page - 1},
		"cut behind what is flushed":   {0, page, 8 * page},
		"cut in front of what flushes": {32 * page, 33 * page, page},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := openQueue(t, mappedfile.OS(), t.TempDir(), func(o *mappedfile.Options) { o.FileSize = 64 * page })
			fillQueue(t, q, 1)
			require.NoError(t, q.Flush(c.from, c.to))
			require.NoError(t, os.Truncate(q.First().Path(), c.cut))
			err := q.Flush(c.from, c.to)
			require.ErrorIs(t, err, mappedfile.ErrFileSize)
			var file *mappedfile.FileError
			require.ErrorAs(t, err, &file)
			require.Equal(t, mappedfile.FileError{Path: q.First().Path(), Cause: mappedfile.ErrFileSize, Want: 64 * page, Got: c.cut}, *file)
		})
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	const size = 2 * page
	for _, tc := range []struct {
		name     string
		remove   func(*mappedfile.Queue) (int, error)
		n        int
		min, end int64
	}{
		{"before the run", func(q *mappedfile.Queue) (int, error) { return q.RemoveBefore(0) }, 0, 0, 5 * size},
		{"before, inside the first", func(q *mappedfile.Queue) (int, error) { return q.RemoveBefore(size - 1) }, 0, 0, 5 * size},
		{"before, the first", func(q *mappedfile.Queue) (int, error) { return q.RemoveBefore(size) }, 1, size, 5 * size},
		{"before, inside the third", func(q *mappedfile.Queue) (int, error) { return q.RemoveBefore(2*size + 1) }, 2, 2 * size, 5 * size},
		{"before the end", func(q *mappedfile.Queue) (int, error) { return q.RemoveBefore(99 * size) }, 5, 0, 0},
		{"from the end", func(q *mappedfile.Queue) (int, error) { return q.RemoveFrom(5 * size) }, 0, 0, 5 * size},
		{"from inside the last", func(q *mappedfile.Queue) (int, error) { return q.RemoveFrom(4*size + 1) }, 0, 0, 5 * size},
		{"from the last", func(q *mappedfile.Queue) (int, error) { return q.RemoveFrom(4 * size) }, 1, 0, 4 * size},
		{"from inside the second", func(q *mappedfile.Queue) (int, error) { return q.RemoveFrom(size + 1) }, 3, 0, 2 * size},
		{"from the start", func(q *mappedfile.Queue) (int, error) { return q.RemoveFrom(0) }, 5, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
				q := openQueue(t, d, dir)
				fillQueue(t, q, 5)
				n, err := tc.remove(q)
				require.NoError(t, err)
				require.Equal(t, tc.n, n)
				require.Equal(t, []int64{tc.min, tc.end}, []int64{q.Min(), q.End()})
				require.Len(t, names(t, d, dir), 5-n)
				_, err = q.Add(q.NextBase(0))
				require.NoError(t, err, "the run can grow again")
				require.Equal(t, 6-n, openQueue(t, d, dir).Len())
			})
		})
	}
}

func TestReadOnlyQueueRefusesChanges(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		w := openQueue(t, d, dir)
		fillQueue(t, w, 2)
		require.NoError(t, w.Flush(0, w.End()))
		before, err := d.List(dir)
		require.NoError(t, err)
		for _, change := range [][]func(*mappedfile.Options){{readOnly}, {readOnly, lean}} {
			q := openQueue(t, d, dir, change...)
			_, err = q.Add(q.NextBase(0))
			require.ErrorIs(t, err, mappedfile.ErrReadOnly)
			_, err = q.RemoveBefore(q.End())
			require.ErrorIs(t, err, mappedfile.ErrReadOnly)
			_, err = q.RemoveFrom(0)
			require.ErrorIs(t, err, mappedfile.ErrReadOnly)
			require.ErrorIs(t, q.First().Reserve(1), mappedfile.ErrReadOnly)
			require.ErrorIs(t, q.First().ReserveAll(), mappedfile.ErrReadOnly)
			require.ErrorIs(t, q.First().ZeroFrom(0), mappedfile.ErrReadOnly)
			require.NoError(t, q.Flush(0, q.End()), "nothing to flush is no change")
		}
		after, err := d.List(dir)
		require.NoError(t, err)
		require.Equal(t, before, after)
	})
}

func TestClosedQueue(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		fillQueue(t, q, 2)
		f := q.First()
		require.NoError(t, q.Close())
		require.NoError(t, q.Close())
		require.Zero(t, q.Len())
		_, err := q.View(0, 1)
		require.ErrorIs(t, err, mappedfile.ErrClosed)
		_, err = f.View(0, 1)
		require.ErrorIs(t, err, mappedfile.ErrExpired)
		require.ErrorIs(t, q.Flush(0, 1), mappedfile.ErrClosed, "success would be a promise")
		_, err = q.RemoveBefore(1 << 40)
		require.ErrorIs(t, err, mappedfile.ErrClosed)
		_, err = q.Add(4 * page)
		require.ErrorIs(t, err, mappedfile.ErrClosed)
		require.Len(t, names(t, d, dir), 2)
	})
}
