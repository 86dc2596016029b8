// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

// newAllocator starts an allocator that is closed with the test, before q.
func newAllocator(t *testing.T, q *mappedfile.Queue, made func(*mappedfile.File)) *mappedfile.Allocator {
	t.Helper()
	a := mappedfile.NewAllocator(q, made)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestAllocatorPreparesAhead(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		warmed := make(chan *mappedfile.File, 10)
		a := newAllocator(t, q, func(f *mappedfile.File) {
			warmed <- f
		})
		for i := range int64(5) {
			base := i * 2 * page
			a.Prepare(base)
			a.Prepare(base) // asking twice is asking once
			ahead := <-warmed
			require.Equal(t, base, ahead.Base())
			f, _, err := a.Take(base)
			require.NoError(t, err)
			require.Same(t, ahead, f)
			require.NoError(t, q.Append(f))
		}
		require.Empty(t, warmed)
		require.Len(t, names(t, d, dir), 5)
	})
}

func TestAllocatorTakeOfAFileThatIsReadyDoesNotWait(t *testing.T) {
	t.Parallel()
	q := openQueue(t, crashdisk.New(), "/q")
	second := make(chan struct{})
	a := newAllocator(t, q, func(f *mappedfile.File) {
		if f.Base() > 0 {
			close(second)
		}
	})
	a.Prepare(0)
	a.Prepare(2 * page)
	<-second // the goroutine is done with the first
	_, waited, err := a.Take(0)
	require.NoError(t, err)
	require.False(t, waited)
}

func TestAllocatorTakeWithoutPrepare(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		a := newAllocator(t, q, nil)
		f, waited, err := a.Take(0)
		require.NoError(t, err)
		require.True(t, waited)
		require.NoError(t, q.Append(f))
	})
}

func TestAllocatorRetriesWhatFailedAhead(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q", func(o *mappedfile.Options) { o.ReserveWhole = true })
	fillQueue(t, q, 1)
	d.SetCapacity(d.Used())
	failed := make(chan struct{})
	first := true
	d.Observe(func(op crashdisk.Op, _ string) {
		if op == crashdisk.OpSyncDir && first { // the last thing that a failed preparation does
			first = false
			close(failed)
		}
	})
	a := newAllocator(t, q, nil)
	a.Prepare(2 * page)
	<-failed
	_, _, err := a.Take(2 * page)
	require.ErrorIs(t, err, mappedfile.ErrDiskFull, "still full, both times or while it waited")
	d.SetCapacity(0)
	f, waited, err := a.Take(2 * page)
	require.NoError(t, err)
	require.True(t, waited)
	require.NoError(t, q.Append(f))
}

// What is told of a file may keep it beyond the taker's use of it.
func TestAllocatorTellsOfFilesThatCanBeKept(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		var kept mappedfile.View
		a := newAllocator(t, q, func(f *mappedfile.File) {
			var err error
			kept, err = f.View(0, f.Size())
			assert.NoError(t, err)
		})
		f, _, err := a.Take(0)
		require.NoError(t, err)
		require.Same(t, f, kept.File(), "it was told before the file could be taken")
		require.NoError(t, q.Discard(f))
		require.True(t, only(kept.Bytes(), 0), "and is still mapped")
		kept.Release()
	})
}

func TestAllocatorBoundsWhatIsAhead(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	gate := make(chan struct{})
	a := newAllocator(t, q, func(*mappedfile.File) {
		<-gate
	})
	for i := range int64(100) {
		a.Prepare(i * 2 * page) // never blocks
	}
	close(gate)
	for i := range int64(40) { // and all can be had, asked for or not
		f, _, err := a.Take(i * 2 * page)
		require.NoError(t, err)
		require.NoError(t, q.Append(f))
	}
	require.Equal(t, 40, d.Total(crashdisk.OpCreate, crashdisk.AnyKind))
}

func TestAllocatorCloseRemovesSpares(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		fillQueue(t, q, 1)
		ready := make(chan struct{}, 3)
		a := mappedfile.NewAllocator(q, func(*mappedfile.File) {
			ready <- struct{}{}
		})
		for i := range int64(3) {
			a.Prepare((i + 1) * 2 * page)
			<-ready
		}
		require.Len(t, names(t, d, dir), 4)
		f, _, err := a.Take(2 * page)
		require.NoError(t, err)
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
		a.Prepare(4 * page)
		_, _, err = a.Take(4 * page)
		require.ErrorIs(t, err, mappedfile.ErrClosed)
		require.NoError(t, q.Append(f), "what was taken belongs to the taker")
		require.Equal(t, []string{mappedfile.FileName(0), mappedfile.FileName(2 * page)}, names(t, d, dir))
	})
}

// closeWhileMaking closes an allocator, of which start has asked for a file, in
// the middle of making that.
func closeWhileMaking(t *testing.T, q *mappedfile.Queue, d *crashdisk.Disk, start func(*mappedfile.Allocator)) {
	t.Helper()
	goOn := make(chan struct{})
	d.Observe(func(op crashdisk.Op, _ string) {
		if op == crashdisk.OpCreate {
			<-goOn
		}
	})
	a := mappedfile.NewAllocator(q, nil)
	start(a)
	synctest.Wait()
	closed := make(chan error, 1)
	go func() { closed <- a.Close() }()
	synctest.Wait()
	require.Empty(t, closed, "it waits for what is being made")
	close(goOn)
	require.NoError(t, <-closed)
}

func TestAllocatorCloseWhilePreparing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		q := openQueue(t, d, "/q")
		closeWhileMaking(t, q, d, func(a *mappedfile.Allocator) {
			a.Prepare(0)
			a.Prepare(2 * page) // waits behind it and is never made
		})
		require.Empty(t, names(t, d, "/q"))
		require.Equal(t, 1, d.Total(crashdisk.OpCreate, crashdisk.AnyKind))
	})
}

func TestAllocatorCloseWhileTaking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		q := openQueue(t, d, "/q")
		type taken struct {
			file *mappedfile.File
			err  error
		}
		result := make(chan taken, 1)
		closeWhileMaking(t, q, d, func(a *mappedfile.Allocator) {
			go func() {
				f, _, err := a.Take(0)
				result <- taken{f, err}
			}()
		})
		got := <-result
		require.NoError(t, got.err)
		require.Equal(t, []string{mappedfile.FileName(0)}, names(t, d, "/q"), "the taker's file is not a spare")
		require.NoError(t, q.Discard(got.file))
	})
}

func TestAllocatorCloseThatCantRemoveLeavesNoHole(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	ready := make(chan struct{}, 3)
	a := mappedfile.NewAllocator(q, func(*mappedfile.File) {
		ready <- struct{}{}
	})
	for i := range int64(3) {
		a.Prepare(i * 2 * page)
		<-ready
	}
	d.Inject(crashdisk.Fault{Op: crashdisk.OpRemove, After: 1, Stays: true})
	require.ErrorIs(t, a.Close(), syscall.EIO)
	require.Equal(t, []string{mappedfile.FileName(0), mappedfile.FileName(2 * page)}, names(t, d, "/q"))
}

func TestAllocatorAdopts(t *testing.T) {
	t.Parallel()
	// A file that was the last of the run, and is not any more.
	let := func(t *testing.T, q *mappedfile.Queue) *mappedfile.File {
		t.Helper()
		fillQueue(t, q, 1)
		f, err := q.Add(2 * page)
		require.NoError(t, err)
		require.ErrorContains(t, q.TakeBack(q.First()), "not the last one")
		require.NoError(t, q.TakeBack(f))
		require.EqualValues(t, 2*page, q.End())
		return f
	}
	two := []string{mappedfile.FileName(0), mappedfile.FileName(2 * page)}

	t.Run("and gives it to who asks", func(t *testing.T) {
		t.Parallel()
		eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
			q := openQueue(t, d, dir)
			f := let(t, q)
			told := make(chan *mappedfile.File, 2)
			a := newAllocator(t, q, func(f *mappedfile.File) { told <- f })
			a.Adopt(f)
			a.Prepare(2 * page) // it is there
			got, _, err := a.Take(2 * page)
			require.NoError(t, err)
			require.Same(t, f, got)
			require.Same(t, f, <-told)
			require.Empty(t, told)
			require.NoError(t, q.Append(got))
			require.Equal(t, two, names(t, d, dir))
		})
	})
	t.Run("and makes it durable", func(t *testing.T) {
		t.Parallel()
		d := crashdisk.New()
		q := openQueue(t, d, "/q")
		fillQueue(t, q, 1)
		r, err := d.Create("/q/"+mappedfile.FileName(2*page), 2*page, mappedfile.Mapping{}) // and was killed
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.Len(t, names(t, d.DurableClone(), "/q"), 1)
		q = openQueue(t, d, "/q")
		f := q.Last()
		require.NoError(t, q.TakeBack(f))
		a := newAllocator(t, q, nil)
		a.Adopt(f)
		f, _, err = a.Take(2 * page)
		require.NoError(t, err)
		require.NoError(t, q.Append(f))
		require.Equal(t, two, names(t, d.DurableClone(), "/q"))
		require.Empty(t, d.Unreserved())
	})
	t.Run("and removes it in the end", func(t *testing.T) {
		t.Parallel()
		eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
			q := openQueue(t, d, dir)
			f := let(t, q)
			a := mappedfile.NewAllocator(q, nil)
			a.Adopt(f)
			require.Equal(t, two, names(t, d, dir))
			require.NoError(t, a.Close())
			require.Equal(t, two[:1], names(t, d, dir))
		})
	})
	t.Run("or makes another one", func(t *testing.T) {
		t.Parallel()
		for _, op := range []crashdisk.Op{crashdisk.OpReserve, crashdisk.OpSyncDir} {
			d := crashdisk.New()
			q := openQueue(t, d, "/q")
			fillQueue(t, q, 1)
			f, err := q.Add(2 * page)
			require.NoError(t, err)
			require.NoError(t, q.TakeBack(f))
			a := newAllocator(t, q, nil)
			d.Inject(crashdisk.Fault{Op: op})
			a.Adopt(f)
			f, _, err = a.Take(2 * page)
			if err != nil { // it was not ready yet: nobody had tried
				require.ErrorIs(t, err, syscall.EIO)
				f, _, err = a.Take(2 * page)
			}
			require.NoError(t, err)
			require.NoError(t, q.Append(f))
			require.Equal(t, two, names(t, d, "/q"))
		}
	})
	t.Run("a closed queue", func(t *testing.T) {
		t.Parallel()
		q := openQueue(t, crashdisk.New(), "/q")
		fillQueue(t, q, 1)
		f := q.Last()
		require.NoError(t, q.Close())
		require.ErrorIs(t, q.TakeBack(f), mappedfile.ErrClosed)
	})
}
