// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func lazy(o *mappedfile.Options) { o.LazySync = true }

// crashes are things that a queue does while the power fails. dir holds what
// prepare left, durably.
var crashes = []struct {
	name   string
	files  int // that are there before
	change []func(*mappedfile.Options)
	do     func(t *testing.T, d *crashdisk.Disk, q *mappedfile.Queue)
}{
	{name: "add", do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) { fillQueue(t, q, 4) }},
	{name: "add lazily", change: []func(*mappedfile.Options){lazy}, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) { fillQueue(t, q, 4) }},
	{name: "expire four at once", files: 6, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) {
		n, err := q.RemoveBefore(8 * page)
		require.NoError(t, err)
		require.Equal(t, 4, n)
	}},
	{name: "truncate four at once", files: 6, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) {
		n, err := q.RemoveFrom(4 * page)
		require.NoError(t, err)
		require.Equal(t, 4, n)
	}},
	{name: "truncate what was added lazily", files: 1, change: []func(*mappedfile.Options){lazy}, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) {
		fillQueue(t, q, 3)
		_, err := q.RemoveFrom(2 * page)
		require.NoError(t, err)
	}},
	{name: "prepare three ahead and close", files: 1, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) {
		prepareAhead(t, q, 3)
	}},
	{name: "prepare three ahead lazily and close", files: 1, change: []func(*mappedfile.Options){lazy}, do: func(t *testing.T, _ *crashdisk.Disk, q *mappedfile.Queue) {
		prepareAhead(t, q, 3)
	}},
	{name: "the first of two prepared fails", files: 1, do: func(t *testing.T, d *crashdisk.Disk, q *mappedfile.Queue) {
		a := mappedfile.NewAllocator(q, nil)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpCreate})
		a.Prepare(2 * page)
		a.Prepare(4 * page)
		for base := int64(2 * page); base < 10*page; base += 2 * page {
			f, _, err := a.Take(base)
			if err != nil { // it was being made when it was asked for, and just failed
				f, _, err = a.Take(base)
			}
			require.NoError(t, err)
			require.NoError(t, q.Append(f))
		}
		require.NoError(t, a.Close())
	}},
}

// prepareAhead has n files prepared and then closes the allocator.
func prepareAhead(t *testing.T, q *mappedfile.Queue, n int) {
	t.Helper()
	var ready sync.WaitGroup
	ready.Add(n)
	a := mappedfile.NewAllocator(q, func(*mappedfile.File) {
		ready.Done()
	})
	for i := range n {
		a.Prepare(q.NextBase(0) + int64(i)*q.FileSize())
	}
	ready.Wait()
	require.NoError(t, a.Close())
}

// A power cut at any moment leaves a directory that opens.
func TestPowerCutLeavesNoHole(t *testing.T) {
	t.Parallel()
	for _, tc := range crashes {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			fillQueue(t, openQueue(t, d, "/q"), tc.files)
			check := func() {
				for seed := range uint64(30) {
					q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "/q", FileSize: 2 * page, Disk: d.CrashClone(seed)})
					if assert.NoErrorf(t, err, "seed %d", seed) {
						assert.NoError(t, q.Close())
					}
				}
			}
			d.Observe(func(crashdisk.Op, string) { check() })
			tc.do(t, d, openQueue(t, d, "/q", tc.change...))
			d.Observe(nil)
			check()
		})
	}
}

func TestNamesAreDurable(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	_, err := q.Add(0)
	require.NoError(t, err)
	require.Equal(t, 1, openQueue(t, d.DurableClone(), "/q").Len(), "at once")
	_, err = q.RemoveBefore(2 * page)
	require.NoError(t, err)
	require.Equal(t, 0, openQueue(t, d.DurableClone(), "/q").Len())
}

func TestLazySyncLeavesTheNameToFlush(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q", lazy)
	fillQueue(t, q, 1)
	require.Equal(t, 0, openQueue(t, d.DurableClone(), "/q").Len())
	syncs := d.DirSyncs("/q")
	require.NoError(t, q.Flush(0, 10))
	require.Equal(t, syncs+1, d.DirSyncs("/q"))
	back := openQueue(t, d.DurableClone(), "/q")
	require.Equal(t, 1, back.Len())
	v, err := back.View(0, 10)
	require.NoError(t, err)
	require.True(t, only(v.Bytes(), 1))
	v.Release()
	require.NoError(t, q.Flush(10, 20))
	require.Equal(t, syncs+1, d.DirSyncs("/q"), "once is enough")
}

func TestLazySyncFailureIsAnErrorOfFlush(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q", lazy)
	fillQueue(t, q, 1)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpSyncDir})
	require.ErrorIs(t, q.Flush(0, 10), syscall.EIO)
	require.Zero(t, d.Flushes("/q/"+mappedfile.FileName(0)), "the name comes before the bytes")
	require.NoError(t, q.Flush(0, 10))
	require.Equal(t, 1, openQueue(t, d.DurableClone(), "/q").Len())
}

func TestFlushFailureIsReported(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 2)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 1})
	require.ErrorIs(t, q.Flush(0, 4*page), syscall.EIO)
	data, _, err := d.Durable("/q/" + mappedfile.FileName(0))
	require.NoError(t, err)
	require.True(t, only(data, 1), "the file before it was flushed")
}

// Whatever step of making a file fails, nothing of it is left.
func TestAddThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, op := range []crashdisk.Op{crashdisk.OpMkdirAll, crashdisk.OpCreate, crashdisk.OpReserve, crashdisk.OpSyncDir} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			d := crashdisk.New()
			q := openQueue(t, d, "/q", func(o *mappedfile.Options) { o.ReserveWhole = true })
			fillQueue(t, q, 1)
			d.Inject(crashdisk.Fault{Op: op, Err: errno})
			_, err := q.Add(2 * page)
			require.ErrorIs(t, err, errno, op)
			if errno == syscall.ENOSPC {
				require.ErrorIs(t, err, mappedfile.ErrDiskFull, op)
			}
			require.Equal(t, 1, q.Len())
			require.Equal(t, []string{mappedfile.FileName(0)}, names(t, d, "/q"), op)
			require.EqualValues(t, 2*page, d.Used())
			_, err = q.Add(2 * page)
			require.NoError(t, err, "and the next attempt succeeds")
		}
	}
}

func TestRemoveThatFails(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 5)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpRemove, After: 1})
	n, err := q.RemoveBefore(6 * page)
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, 1, n)
	// The second file could not go, so the third must not: no hole.
	back := openQueue(t, d.KillClone(), "/q")
	require.EqualValues(t, 2*page, back.Min())
	require.Equal(t, 4, back.Len())
	require.EqualValues(t, 2*page, q.Min(), "what is on disk is in the run")
	require.Zero(t, q.Held())
	v, err := q.View(2*page, 10)
	require.NoError(t, err)
	v.Release()
	n, err = q.RemoveBefore(6 * page)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, openQueue(t, d.DurableClone(), "/q").Len())
}

// A removal whose sync failed may come back, so nothing behind it goes before
// that sync succeeded.
func TestRemoveWhoseSyncFails(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 5)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpSyncDir, After: 1, Stays: true})
	n, err := q.RemoveBefore(8 * page)
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, 2, n)
	require.EqualValues(t, 4*page, q.Min())
	n, err = q.RemoveBefore(8 * page)
	require.ErrorIs(t, err, syscall.EIO)
	require.Zero(t, n)
	require.EqualValues(t, 4*page, q.Min())
	require.EqualValues(t, 2*page, openQueue(t, d.DurableClone(), "/q").Min(), "it came back")
	d.ClearFaults()
	n, err = q.RemoveBefore(8 * page)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.EqualValues(t, 8*page, openQueue(t, d.DurableClone(), "/q").Min())
}

// Somebody else removed the oldest file by hand.
func TestRemoveWhatIsGone(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 3)
	require.NoError(t, d.Remove(q.First().Path()))
	n, err := q.RemoveBefore(4 * page)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.EqualValues(t, 4*page, openQueue(t, d.DurableClone(), "/q").Min())
}

// The name of a new file that waits for its sync is durable before an old one
// goes: else a power cut in between could leave no file at all.
func TestRemoveSyncsNewNamesFirst(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q", lazy)
	fillQueue(t, q, 1)
	require.NoError(t, q.Flush(0, 2*page))
	_, err := q.Add(2 * page)
	require.NoError(t, err)
	d.Observe(func(op crashdisk.Op, _ string) {
		for seed := range uint64(20) {
			back := openQueue(t, d.CrashClone(seed), "/q", lazy)
			assert.Positive(t, back.Len())
		}
	})
	n, err := q.RemoveBefore(2 * page)
	d.Observe(nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestHeld(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	fillQueue(t, q, 4)
	v, err := q.View(3*page, 1)
	require.NoError(t, err)
	w, err := q.View(0, 1)
	require.NoError(t, err)
	_, err = q.RemoveBefore(6 * page)
	require.NoError(t, err)
	require.EqualValues(t, 4*page, q.Held())
	require.EqualValues(t, 6*page, d.Used(), "the disk has them still")
	v.Release()
	require.EqualValues(t, 2*page, q.Held())
	require.EqualValues(t, 4*page, d.Used())
	w.Release()
	require.Zero(t, q.Held())
}
