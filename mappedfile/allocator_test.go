// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

// newAllocator starts an allocator that is closed with the test, before q.
func newAllocator(t *testing.T, q *mappedfile.Queue, warm func(context.Context, *mappedfile.File) error) *mappedfile.Allocator {
	t.Helper()
	a := mappedfile.NewAllocator(q, warm)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestAllocatorPreparesAhead(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		warmed := make(chan *mappedfile.File, 10)
		a := newAllocator(t, q, func(_ context.Context, f *mappedfile.File) error {
			warmed <- f
			return nil
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
	a := newAllocator(t, q, func(_ context.Context, f *mappedfile.File) error {
		if f.Base() > 0 {
			close(second)
		}
		return nil
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

func TestAllocatorWarmFailureIsNoFailure(t *testing.T) {
	t.Parallel()
	q := openQueue(t, crashdisk.New(), "/q")
	a := newAllocator(t, q, func(context.Context, *mappedfile.File) error { return syscall.EPERM })
	f, _, err := a.Take(0)
	require.NoError(t, err)
	require.NoError(t, q.Append(f))
}

func TestAllocatorBoundsWhatIsAhead(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	gate := make(chan struct{})
	a := newAllocator(t, q, func(context.Context, *mappedfile.File) error {
		<-gate
		return nil
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
		a := mappedfile.NewAllocator(q, func(context.Context, *mappedfile.File) error {
			ready <- struct{}{}
			return nil
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

func TestAllocatorCloseWhilePreparing(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		warming := make(chan struct{})
		ended := false
		a := mappedfile.NewAllocator(q, func(ctx context.Context, _ *mappedfile.File) error {
			close(warming)
			<-ctx.Done() // Close interrupts a warm-up
			ended = true
			return ctx.Err()
		})
		a.Prepare(0)
		a.Prepare(2 * page) // waits behind it and is never made
		<-warming
		require.NoError(t, a.Close())
		require.True(t, ended, "Close waits for it")
		require.Empty(t, names(t, d, dir))
	})
}

func TestAllocatorCloseWhileTaking(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	warming := make(chan struct{})
	a := mappedfile.NewAllocator(q, func(ctx context.Context, _ *mappedfile.File) error {
		close(warming)
		<-ctx.Done()
		return ctx.Err()
	})
	type taken struct {
		file *mappedfile.File
		err  error
	}
	result := make(chan taken, 1)
	go func() {
		f, _, err := a.Take(0)
		result <- taken{f, err}
	}()
	<-warming
	require.NoError(t, a.Close())
	got := <-result
	require.NoError(t, got.err)
	require.Equal(t, []string{mappedfile.FileName(0)}, names(t, d, "/q"), "the taker's file is not a spare")
	require.NoError(t, q.Discard(got.file))
}

func TestAllocatorCloseThatCantRemoveLeavesNoHole(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	q := openQueue(t, d, "/q")
	ready := make(chan struct{}, 3)
	a := mappedfile.NewAllocator(q, func(context.Context, *mappedfile.File) error {
		ready <- struct{}{}
		return nil
	})
	for i := range int64(3) {
		a.Prepare(i * 2 * page)
		<-ready
	}
	d.Inject(crashdisk.Fault{Op: crashdisk.OpRemove, After: 1, Stays: true})
	require.ErrorIs(t, a.Close(), syscall.EIO)
	require.Equal(t, []string{mappedfile.FileName(0), mappedfile.FileName(2 * page)}, names(t, d, "/q"))
}
