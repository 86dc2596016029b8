// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestWritePathNames(t *testing.T) {
	t.Parallel()
	for _, path := range append([]commitlog.WritePath{commitlog.WriteDefault}, allPaths...) {
		got, err := commitlog.ParseWritePath(path.String())
		require.NoError(t, err)
		require.Equal(t, path, got)
		require.True(t, path.Known())
	}
	_, err := commitlog.ParseWritePath("MMAP")
	require.ErrorIs(t, err, commitlog.ErrWritePath)
	require.ErrorContains(t, err, `"MMAP": it is default, mmap, pool or file`)
	require.False(t, commitlog.WritePath(4).Known())
	require.Equal(t, "WritePath(4)", commitlog.WritePath(4).String())
}

// The same input at the same time makes the same bytes, whatever the path, and
// whatever path the file was begun with.
func TestPathsWriteTheSameBytes(t *testing.T) {
	t.Parallel()
	const size = 5 << 18 // more than the ring of WriteFile
	write := func(t *testing.T, seed uint64, commitOnFlush bool, path func() commitlog.WritePath) []byte {
		d, c := crashdisk.New(), newClock()
		rng := rand.New(rand.NewPCG(seed, 2))
		seq := commitlog.NewSequence(0)
		end, before := message.Offset(0), int64(0)
		for range 3 {
			l := openLog(t, d, size, with(path()), func(o *commitlog.Options) {
				o.Clock, o.CommitOnFlush, o.PoolBuffers = c.Now, commitOnFlush, 2
			})
			require.NoError(t, l.Start(commitlog.StartOptions{End: end, Flushed: end, LastTime: before}))
			for i := range 8 {
				n := []int{sealedMin, 300, 5000, 90_000}[rng.IntN(4)]
				if i == 4 {
					n = []int{1<<20 + 100, size - 8}[rng.IntN(2)]
				}
				rec := recordOf(t, n, "x")
				r, err := l.Append(commitlog.Item{Record: rec, Sequence: seq, Step: 1})
				require.NoError(t, err)
				if rng.IntN(5) == 0 {
					require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
				}
			}
			end, before = l.Appended(), l.LastTime()
			require.NoError(t, l.Close())
			require.Equal(t, end, l.Committed())
			require.Equal(t, end, l.Flushed())
		}
		var all []byte
		entries, err := d.List(dir)
		require.NoError(t, err)
		for _, e := range entries {
			b, err := d.ReadFile(dir + "/" + e.Name)
			require.NoError(t, err)
			durable, _, err := d.Durable(dir + "/" + e.Name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, durable), e.Name)
			all = append(all, b...)
		}
		return all
	}
	for seed := range uint64(2) {
		want := write(t, seed, false, func() commitlog.WritePath { return commitlog.WriteMmap })
		require.NotEmpty(t, want)
		for _, onFlush := range []bool{false, true} {
			for _, path := range allPaths[1:] {
				got := write(t, seed, onFlush, func() commitlog.WritePath { return path })
				require.True(t, bytes.Equal(want, got), "seed %d, %v", seed, path)
			}
		}
		i := 0
		got := write(t, seed, false, func() commitlog.WritePath { i++; return allPaths[(i+int(seed))%3] })
		require.True(t, bytes.Equal(want, got), "seed %d, another path each time", seed)
	}
}

// What is not committed can't be read, and nobody who waits for it is woken.
func TestReadersSeeWhatIsCommitted(t *testing.T) {
	t.Parallel()
	for _, path := range allPaths[1:] {
		t.Run(path.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := crashdisk.New()
				l := startLog(t, d, 1<<16, with(path), func(o *commitlog.Options) {
					o.CommitOnFlush, o.FlushInterval = true, time.Hour
				})
				seq := commitlog.NewSequence(0)
				r := add(t, l, seq, 500, "x")
				synctest.Wait()
				require.Equal(t, r.End(), l.Appended())
				require.Zero(t, l.Committed())
				_, err := l.View(0, 8)
				require.ErrorIs(t, err, commitlog.ErrOutOfRange)
				_, err = l.ViewRecord(0)
				require.ErrorIs(t, err, commitlog.ErrOutOfRange)
				ctx, cancel := context.WithTimeout(background(), time.Minute)
				defer cancel()
				require.ErrorIs(t, l.WaitCommitted(ctx, 0), context.DeadlineExceeded)
				require.Zero(t, recoveredEnd(t, d.KillClone()))

				require.NoError(t, l.Commit(r.End()))
				synctest.Wait()
				require.Equal(t, r.End(), l.Committed())
				require.NoError(t, l.WaitCommitted(background(), 0))
				require.Zero(t, l.Flushed())
				v, err := l.ViewRecord(0)
				require.NoError(t, err)
				v.Release()
				require.Equal(t, r.End(), recoveredEnd(t, d.KillClone()))
				require.Zero(t, recoveredEnd(t, d.DurableClone()))
				require.Positive(t, l.Commits())

				next := add(t, l, seq, 500, "y")
				require.NoError(t, l.WaitFlushed(background(), next.End(), 0))
				require.Equal(t, next.End(), l.Committed())
			})
		})
	}
}

// A write of the committer that blocks leaves its buffer borrowed. The pool runs
// empty, and the next file is written through its mapping; nothing of it can be
// read before what lies before it.
func TestPoolRunsEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 4096
		d := crashdisk.New()
		var empty []commitlog.PoolInfo
		l := startLog(t, d, size, with(commitlog.WritePool), func(o *commitlog.Options) {
			o.PoolBuffers = 2
			o.OnPoolEmpty = func(i commitlog.PoolInfo) { empty = append(empty, i) }
		})
		entered, pass := make(chan struct{}, 100), make(chan struct{})
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpWrite {
				entered <- struct{}{}
				<-pass
			}
		})
		seq := commitlog.NewSequence(0)
		var last commitlog.Result
		for i := range 4 { // a file each; the first two have a buffer
			last = add(t, l, seq, size-8, fmt.Sprint(i))
		}
		<-entered
		synctest.Wait()
		st := l.PoolStats()
		require.Equal(t, mappedfile.PoolStats{Buffers: 2, BufferSize: size, LockedBytes: 2 * size, Empty: 2}, st)
		require.Len(t, empty, 2)
		require.Equal(t, filePath(2*size), empty[0].Path)
		require.Zero(t, l.Committed(), "the files behind are in the page cache, and wait")
		// So a kill now leaves the beginning: nothing.
		require.Zero(t, recoveredEnd(t, d.KillClone()))

		close(pass)
		committed(t, l, last.End())
		synctest.Wait()
		require.Equal(t, last.End(), l.Committed())
		require.Equal(t, 2, l.PoolStats().Free)
		require.Equal(t, last.End(), recoveredEnd(t, d.KillClone()))
		// With room in the pool the next file has a buffer again.
		add(t, l, seq, 200, "x")
		require.Equal(t, 1, l.PoolStats().Free)
		require.EqualValues(t, 2, l.PoolStats().Empty)
		require.NoError(t, l.Close())
		require.Equal(t, l.Appended(), recoveredEnd(t, d.DurableClone()))
	})
}

// Memory that can't be locked is used all the same, and that is said once.
func TestLockRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		d.Inject(crashdisk.Fault{Op: crashdisk.OpLockMemory, Err: syscall.EPERM, Stays: true, After: 1})
		var refused []error
		l := startLog(t, d, 4096, with(commitlog.WritePool), func(o *commitlog.Options) {
			o.PoolBuffers = 3
			o.OnLockRefused = func(err error) { refused = append(refused, err) }
		})
		synctest.Wait()
		require.Len(t, refused, 1)
		require.ErrorIs(t, refused[0], syscall.EPERM)
		st := l.PoolStats()
		require.ErrorIs(t, st.Refused, syscall.EPERM)
		require.EqualValues(t, 4096, st.LockedBytes, "the first one could be")
		r := add(t, l, commitlog.NewSequence(0), 200, "x")
		require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
		require.NoError(t, l.Close())
	})
}

func TestNoMemoryForThePool(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	d.Inject(crashdisk.Fault{Op: crashdisk.OpMemory, Err: syscall.ENOMEM, After: 1})
	l := openLog(t, d, 4096, with(commitlog.WritePool))
	require.ErrorIs(t, l.Start(commitlog.StartOptions{}), syscall.ENOMEM)
	require.NoError(t, l.Start(commitlog.StartOptions{}), "it can be tried again")
	add(t, l, commitlog.NewSequence(0), 200, "x")
}

// A commit that fails poisons the log: no append is acknowledged any more. Reads
// go on below what was committed. What was acknowledged before and waits in memory
// is not lost by it: it is written again, by the committer or by Close.
func TestFailedCommitPoisons(t *testing.T) {
	t.Parallel()
	for _, path := range allPaths[1:] {
		for _, op := range []crashdisk.Op{crashdisk.OpWrite, crashdisk.OpWriteRest} {
			for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
				t.Run(fmt.Sprintf("%v/%v/%v", path, op, cause), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { failedCommit(t, path, op, cause) })
				})
			}
		}
	}
}

func failedCommit(t *testing.T, path commitlog.WritePath, op crashdisk.Op, cause syscall.Errno) {
	d := crashdisk.New()
	var poisons []error
	l := startLog(t, d, 1<<16, with(path), func(o *commitlog.Options) {
		o.OnPoison = func(err error) { poisons = append(poisons, err) }
	})
	seq := commitlog.NewSequence(0)
	read := add(t, l, seq, 5000, "committed")
	committed(t, l, read.End())

	d.Inject(crashdisk.Fault{Op: op, Kind: crashdisk.CommitLog, Err: cause, Stays: true})
	r, err := l.Append(item(t, seq, 5000, "waits"))
	require.NotZero(t, r.Size, "it is in the log's memory")
	if path == commitlog.WriteFile {
		require.ErrorIs(t, err, commitlog.ErrPoisoned, "the append writes itself")
	} else {
		require.NoError(t, err, "the committer writes later")
	}
	synctest.Wait()
	require.ErrorIs(t, l.WaitFlushed(background(), r.End(), 0), commitlog.ErrPoisoned)
	_, err = l.Append(item(t, seq, 200, "x"))
	require.ErrorIs(t, err, commitlog.ErrPoisoned)
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, l.Flush(background()), commitlog.ErrPoisoned)
	require.Equal(t, read.End(), l.Committed())
	all, _ := scan(t, l, 0, l.Committed(), commitlog.ScanOptions{Check: message.CheckAll})
	require.Len(t, all, 1, "reads go on")
	v, err := l.ViewRecord(read.Offset)
	require.NoError(t, err)
	v.Release()
	require.GreaterOrEqual(t, recoveredEnd(t, d.KillClone()), read.End())

	// There is room again, or the disk was changed.
	d.ClearFaults()
	if path == commitlog.WritePool {
		committed(t, l, r.End()) // by itself
	}
	require.ErrorIs(t, l.Close(), commitlog.ErrPoisoned)
	require.Equal(t, []error{l.Err()}, poisons, "once")
	require.Equal(t, r.End(), l.Committed())
	require.Equal(t, r.End(), recoveredEnd(t, d.KillClone()), "what was acknowledged is there")
}

// When the disk does not come back, Close says what is lost.
func TestCloseSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		l := startLog(t, d, 1<<16, with(commitlog.WritePool))
		seq := commitlog.NewSequence(0)
		kept := add(t, l, seq, 300, "kept")
		committed(t, l, kept.End())
		d.Inject(crashdisk.Fault{Op: crashdisk.OpWrite, Stays: true})
		add(t, l, seq, 200, "lost")
		synctest.Wait()
		err := l.Close()
		require.ErrorIs(t, err, syscall.EIO)
		require.ErrorContains(t, err, "the 200 bytes from offset 300 on could not be committed and are lost")
		require.Equal(t, kept.End(), recoveredEnd(t, d))
	})
}

// A flush that fails poisons the log; the pool goes on committing what was
// acknowledged before, so that the next Open finds it.
func TestPoisonedPoolStillCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		l := startLog(t, d, 1<<16, with(commitlog.WritePool), func(o *commitlog.Options) { o.CommitOnFlush = true })
		seq := commitlog.NewSequence(0)
		first := add(t, l, seq, 300, "x")
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
		g := newGate(d)
		l.KickFlush()
		<-g.entered
		last := add(t, l, seq, 300, "behind the flush that fails")
		close(g.pass)
		require.ErrorIs(t, l.WaitFlushed(background(), first.End(), 0), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.Close(), commitlog.ErrPoisoned)
		require.Equal(t, last.End(), recoveredEnd(t, d.KillClone()))
	})
}

// Reserved blocks are the reason why a commit does not find the disk full: it
// fills up behind a file that was begun, and all of that file can be written.
func TestDiskFillsDuringCommit(t *testing.T) {
	t.Parallel()
	for _, path := range allPaths {
		t.Run(path.String(), func(t *testing.T) {
			t.Parallel()
			const size = 1 << 16
			d := crashdisk.New()
			l := startLog(t, d, size, with(path))
			seq := commitlog.NewSequence(0)
			r := add(t, l, seq, 200, "less than 1/16 asks for no other file")
			d.SetCapacity(d.Used())
			for {
				next, err := l.Append(item(t, seq, 6000, "x"))
				if err != nil {
					require.ErrorIs(t, err, mappedfile.ErrDiskFull)
					require.Zero(t, next)
					break
				}
				r = next
			}
			require.Greater(t, r.End(), message.Offset(size-6008), "the file is full")
			require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
			require.NoError(t, l.Err())
			require.Empty(t, d.Unreserved())
			d.SetCapacity(0)
			r = add(t, l, seq, 6000, "there is room")
			require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
			require.Equal(t, r.End(), recoveredEnd(t, d.DurableClone()))
		})
	}
}

// Files whose bytes wait to be committed are not removed.
func TestRemoveBeforeKeepsWhatIsNotCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 4096
		d := crashdisk.New()
		l := startLog(t, d, size, with(commitlog.WritePool), func(o *commitlog.Options) {
			o.CommitOnFlush, o.FlushInterval = true, time.Hour
		})
		seq := commitlog.NewSequence(0)
		for range 3 {
			add(t, l, seq, size-8, "x")
		}
		n, err := l.RemoveBefore(l.Appended())
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, l.Flush(background()))
		n, err = l.RemoveBefore(l.Appended())
		require.NoError(t, err)
		require.Equal(t, 2, n)
	})
}

// Zeros are written ahead where each append waits for its flush through the
// descriptor, and nowhere else: they are there for the flush.
func TestZerosAhead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		path   commitlog.WritePath
		sync   bool
		writes int
	}{
		{"file, flushed each time", commitlog.WriteFile, true, 1 + 256/16},
		{"file", commitlog.WriteFile, false, 1},
		{"pool, flushed each time", commitlog.WritePool, true, 2},
		{"mapping, flushed each time", commitlog.WriteMmap, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			l := startLog(t, d, 1<<20, with(c.path), func(o *commitlog.Options) { o.CommitOnFlush = c.sync })
			seq := commitlog.NewSequence(0)
			for range 3 {
				r := add(t, l, seq, 300, "x")
				require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
				if r.Offset == 0 {
					require.Equal(t, c.writes, d.Count(crashdisk.OpWrite, filePath(0)))
				}
			}
			if c.path == commitlog.WriteFile {
				require.Equal(t, c.writes+2, d.Count(crashdisk.OpWrite, filePath(0)), "the zeros last for a while")
			}
			all, _ := scan(t, l, 0, l.Appended(), commitlog.ScanOptions{})
			require.Len(t, recordsOf(all), 3)
		})
	}
}
