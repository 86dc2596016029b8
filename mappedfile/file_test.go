// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func TestReserveGrowsInSteps(t *testing.T) {
	t.Parallel()
	const size = 4<<20 + 100 // ends beside a page
	d := crashdisk.New()
	q := openQueue(t, d, "/q", func(o *mappedfile.Options) { o.FileSize = size })
	f, err := q.Add(0)
	require.NoError(t, err)
	const whole = (size + page - 1) / page * page
	for _, tc := range []struct{ end, used int64 }{
		{0, 0},
		{1, page},               // a small queue takes one page
		{page, page},            //
		{page + 1, 2 * page},    // then as much again as it has
		{2*page + 1, 4 * page},  //
		{4*page + 20, 8 * page}, //
		{100 * page, 100 * page},
		{100*page + 1, 200 * page},
		{1 << 20, 400 * page},
		{400*page + 1, 400*page + 1<<20}, // but a MiB at most
		{400*page + 1<<20 + 1, 400*page + 2<<20},
		{size - 1, whole}, // and never beyond the file
		{size, whole},
		{1, whole},
	} {
		require.NoError(t, f.Reserve(tc.end))
		require.Equalf(t, tc.used, d.Used(), "reserve up to %d", tc.end)
	}
	n := d.Count(crashdisk.OpReserve, f.Path())
	require.NoError(t, f.ReserveAll())
	require.NoError(t, f.Reserve(size))
	require.Equal(t, n, d.Count(crashdisk.OpReserve, f.Path()), "no call for what is there")
}

func TestReserveWhole(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q", func(o *mappedfile.Options) { o.ReserveWhole = true })
	_, err := q.Add(0)
	require.NoError(t, err)
	require.EqualValues(t, 2*page, d.Used())
}

func TestReserveOnAFullDisk(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	d.SetCapacity(3 * page)
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 1)
	f, err := q.Add(2 * page)
	require.NoError(t, err)
	require.NoError(t, f.Reserve(1))
	for range 2 {
		err = f.Reserve(page + 1)
		require.ErrorIs(t, err, mappedfile.ErrDiskFull)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Reserve(page), "what is reserved stays so")
	}
	_, err = q.RemoveBefore(2 * page)
	require.NoError(t, err)
	require.NoError(t, f.Reserve(page+1), "there is room again")
}

func TestReserveKeepsTheBytes(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		for _, change := range []func(*mappedfile.Options){func(*mappedfile.Options) {}, lean} {
			q := openQueue(t, d, dir, change, func(o *mappedfile.Options) { o.FileSize = 10*page + 3 })
			if q.Len() == 0 {
				fillQueue(t, q, 1)
			}
			f := q.First()
			require.NoError(t, f.Reserve(1))
			require.NoError(t, f.Reserve(5*page+1))
			require.NoError(t, f.ReserveAll())
			data, err := f.Bytes()
			require.NoError(t, err)
			require.True(t, only(data, 1))
			require.NoError(t, q.Flush(0, q.End()))
		}
	})
}

// Each position is tried with a file whose length is a whole number of pages
// and with one that is not, as queue files are; full of data and only at the
// start; mapped with a descriptor and without.
func TestZeroFrom(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{4 * page, 4*page - 640} {
		for _, filled := range []int64{size, page + 10} {
			for mode, change := range map[string]func(*mappedfile.Options){"full": func(*mappedfile.Options) {}, "lean": lean} {
				t.Run(fmt.Sprintf("%d of %d %s", filled, size, mode), func(t *testing.T) {
					t.Parallel()
					eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
						q := openQueue(t, d, dir, change, func(o *mappedfile.Options) { o.FileSize = size })
						base := int64(0)
						for _, pos := range []int64{0, 1, page - 1, page, page + 1, 2*page + 100, size - 641, size - 1, size, size + 1} {
							f, err := q.Add(base)
							require.NoError(t, err)
							base += size
							testZeroFrom(t, d, f, filled, pos)
						}
					})
				})
			}
		}
	}
}

func testZeroFrom(t *testing.T, d mappedfile.Disk, f *mappedfile.File, filled, pos int64) {
	t.Helper()
	data, err := f.Bytes()
	require.NoError(t, err)
	require.NoError(t, f.Reserve(filled))
	fill(data[:filled], 7)
	require.NoError(t, f.Flush(0, filled))
	require.NoError(t, f.ZeroFrom(pos))
	check := func(b []byte, what string) {
		require.Len(t, b, int(f.Size()))
		keep := min(pos, filled)
		require.Truef(t, only(b[:keep], 7), "%s: zero from %d: what lies below is kept", what, pos)
		require.Truef(t, only(b[keep:], 0), "%s: zero from %d: the rest is zero", what, pos)
	}
	check(data, "mapped")
	read, err := d.ReadFile(f.Path())
	require.NoError(t, err)
	check(read, "read")
	if c, ok := d.(*crashdisk.Disk); ok {
		durable, _, err := c.Durable(f.Path())
		require.NoError(t, err)
		check(durable, "durable")
		require.Empty(t, c.Unreserved())
	}
	fill(data[:filled], 8)
	require.NoError(t, f.Flush(0, filled), "the blocks are still there")
}

func TestZeroFromThatFails(t *testing.T) {
	t.Parallel()
	for _, op := range []crashdisk.Op{crashdisk.OpZero, crashdisk.OpFlush} {
		d := crashdisk.New()
		q := openQueue(t, d, "/q")
		fillQueue(t, q, 1)
		d.Inject(crashdisk.Fault{Op: op})
		require.ErrorIs(t, q.First().ZeroFrom(10), syscall.EIO, op)
	}
}

func TestNextData(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		const size = 256 * page
		for _, reserved := range []bool{true, false} {
			q := openQueue(t, d, dir, func(o *mappedfile.Options) { o.FileSize, o.ReserveWhole = size, reserved })
			f, err := q.Add(q.NextBase(0))
			require.NoError(t, err)
			data, err := f.Bytes()
			require.NoError(t, err)
			data[10], data[200*page+10] = 1, 1
			for _, flushed := range []bool{false, true} {
				if flushed {
					require.NoError(t, f.Flush(0, size))
				}
				// It may come early, never late.
				for _, tc := range []struct{ pos, data int64 }{{0, 10}, {10, 10}, {11, 200*page + 10}, {200 * page, 200*page + 10}, {201 * page, size}, {size, size}} {
					got := f.NextData(tc.pos)
					require.GreaterOrEqual(t, got, tc.pos)
					require.LessOrEqual(t, got, tc.data)
				}
				hole := f.HoleAt(0, 3*page)
				require.Greater(t, hole, int64(200*page+10), "never before what was written")
				require.True(t, hole == size || hole%(3*page) == 0, "%d", hole)
				require.Equal(t, min(max(hole, 250*page), size), f.HoleAt(250*page, 6*page))
				require.Equal(t, int64(size), f.HoleAt(size, page))
			}
			require.NoError(t, q.Close())
		}
	})
}

func TestLeanMappingHasNoDescriptor(t *testing.T) {
	t.Parallel()
	d, dir := mappedfile.OS(), t.TempDir()
	q := openQueue(t, d, dir)
	fillQueue(t, q, 1)
	f := q.First().Descriptor()
	require.NotNil(t, f)
	var b [10]byte
	_, err := f.ReadAt(b[:], page)
	require.NoError(t, err)
	require.True(t, only(b[:], 1))
	q = openQueue(t, d, dir, lean)
	require.Nil(t, q.First().Descriptor())
	require.NoError(t, q.First().ReserveAll())
	c := openQueue(t, crashdisk.New(), "/q")
	fillQueue(t, c, 1)
	require.Nil(t, c.First().Descriptor(), "there is none in memory")
}

func TestFileChangedItsLength(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		put(t, d, dir, mappedfile.FileName(0), 2*page)
		put(t, d, dir, mappedfile.FileName(2*page), 2*page)
		q := openQueue(t, d, dir)
		for i, size := range []int64{3 * page, 0} { // between the listing and the first use
			path := q.Files()[i].Path()
			require.NoError(t, d.Remove(path))
			put(t, d, dir, filepath.Base(path), size)
			_, err := q.View(int64(i)*2*page, 1)
			require.ErrorIs(t, err, mappedfile.ErrFileSize)
		}
	})
}

func TestFaultsOfOpen(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	put(t, d, "/q", mappedfile.FileName(0), 2*page)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpList})
	_, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "/q", FileSize: 2 * page, Disk: d})
	require.ErrorIs(t, err, syscall.EIO)
	q := openQueue(t, d, "/q")
	d.Inject(crashdisk.Fault{Op: crashdisk.OpOpen, Stays: true})
	_, err = q.View(0, 1)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, q.First().Flush(0, 1), syscall.EIO)
	require.ErrorIs(t, q.First().Reserve(1), syscall.EIO)
	require.ErrorIs(t, q.First().ZeroFrom(0), syscall.EIO)
	require.Nil(t, q.First().Descriptor())
	d.ClearFaults()
	v, err := q.View(0, 1)
	require.NoError(t, err, "an open that failed is tried again")
	v.Release()
}

func BenchmarkFlush4KiB(b *testing.B) {
	for name, how := range map[string]mappedfile.Mapping{"full": {}, "lean": {Lean: true}} {
		b.Run(name, func(b *testing.B) {
			q := openQueue(b, mappedfile.OS(), b.TempDir(), func(o *mappedfile.Options) {
				o.FileSize, o.ReserveWhole, o.Mapping = 64<<20, true, how
			})
			f, err := q.Add(0)
			require.NoError(b, err)
			data, err := f.Bytes()
			require.NoError(b, err)
			b.SetBytes(page)
			b.ReportAllocs()
			pos := int64(0)
			for b.Loop() {
				fill(data[pos:pos+page], 1)
				if err := q.Flush(pos, pos+page); err != nil {
					b.Fatal(err)
				}
				pos = (pos + page) % f.Size()
			}
		})
	}
}
