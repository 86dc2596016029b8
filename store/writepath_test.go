// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

func TestParseWritePath(t *testing.T) {
	t.Parallel()
	for _, path := range allPaths {
		got, err := store.ParseWritePath(path.String())
		require.NoError(t, err)
		require.Equal(t, path, got)
	}
	_, err := store.ParseWritePath("mapping")
	require.ErrorIs(t, err, store.ErrOptions)
}

// With FlushSync the default is the file, unless warm pages are asked for: what is
// warmed up tells which one the store took.
func TestDefaultWritePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		mode   store.FlushMode
		warmup store.WarmupOptions
		want   store.WritePath
	}{
		{"async", store.FlushAsync, store.WarmupOptions{}, store.WriteMmap},
		{"async, nothing warm", store.FlushAsync, store.WarmupOptions{Mode: warmup.Off}, store.WriteMmap},
		{"sync", store.FlushSync, store.WarmupOptions{}, store.WriteFile},
		{"sync, nothing warm", store.FlushSync, store.WarmupOptions{Mode: warmup.Off}, store.WriteFile},
		{"sync, whole files warm", store.FlushSync, store.WarmupOptions{Mode: warmup.Populate}, store.WriteMmap},
		{"sync, touched", store.FlushSync, store.WarmupOptions{Mode: warmup.Touch}, store.WriteMmap},
		{"sync, a window", store.FlushSync, store.WarmupOptions{Window: 1 << 20}, store.WriteMmap},
		{"sync, locked", store.FlushSync, store.WarmupOptions{Lock: true}, store.WriteMmap},
		{"sync, required", store.FlushSync, store.WarmupOptions{Require: true}, store.WriteMmap},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, store.DefaultWritePath(c.mode, c.warmup))
			s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Flush, o.Warmup = c.mode, c.warmup })
			warm := c.want == store.WriteMmap && c.warmup.Mode != warmup.Off
			require.Equal(t, warm, s.Stats().Warmup.Mode != warmup.Off)
			m := appendOne(t, s, "orders", 0, "through it")
			require.NoError(t, s.Flush(t.Context())) // what is written with the flush can be read then
			got, err := s.Get(m.Offset)
			require.NoError(t, err)
			require.Equal(t, "through it", string(got.Body))
		})
	}
}

// A message in the pool is no message yet to whoever reads; it is in none of the
// ways to it, and a kill takes it.
func TestPooledMessageIsSeenOnceCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		s := openStore(t, d, func(o *store.Options) { o.WritePath = store.WritePool })
		before := appendOne(t, s, "t", 0, "before")
		waitAll(t, s)
		entered, pass := make(chan struct{}, 10), make(chan struct{})
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpWrite {
				entered <- struct{}{}
				<-pass
			}
		})
		r := appendOne(t, s, "t", 0, "waits")
		<-entered
		synctest.Wait()
		st := s.Stats()
		require.Equal(t, before.Offset+message.Offset(before.Size), st.Committed)
		require.Greater(t, st.Appended, st.Committed)
		require.Equal(t, st.Committed, st.Dispatched)
		_, err := s.Get(r.Offset)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, hi, err := s.Bounds("t", 0)
		require.NoError(t, err)
		require.EqualValues(t, 1, hi)
		require.Equal(t, 8, st.Pool.Buffers)
		require.Equal(t, 7, st.Pool.Free)
		require.Equal(t, 8*st.FileSize, st.Pool.LockedBytes)
		left := openStore(t, d.KillClone())
		require.Equal(t, st.Committed, left.Stats().Appended)

		close(pass)
		waitAll(t, s)
		got, err := s.Get(r.Offset)
		require.NoError(t, err)
		require.Equal(t, "waits", string(got.Body))
		require.Positive(t, s.Stats().Commits)
		d.Observe(nil)
		require.NoError(t, s.Close())
	})
}

// WAIT=false with FlushSync: the append returns while the flush that it asked for
// stands still. With the pool the message may be in memory only.
func TestWaitFalse(t *testing.T) {
	t.Parallel()
	eachPath(t, "sync", func(t *testing.T, path store.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			s := openStore(t, d, syncFlush, func(o *store.Options) { o.WritePath = path })
			entered, pass := make(chan struct{}, 10), make(chan struct{})
			d.Observe(func(op crashdisk.Op, path string) {
				if op == crashdisk.OpFlush && crashdisk.KindOf(path) == crashdisk.CommitLog {
					entered <- struct{}{}
					<-pass
				}
			})
			m := msg("t", 0, "does not wait")
			m.Properties.Set(message.PropertyWait, "false")
			r, err := s.Append(context.Background(), m)
			require.NoError(t, err)
			<-entered
			end := r.Offset + message.Offset(r.Size)
			require.Zero(t, s.Stats().Flushed)
			if path != store.WritePool {
				require.Equal(t, end, s.Stats().Committed, "a kill does not take it")
			}
			_, err = s.Append(context.Background(), msg("t", 0, "waits too short"))
			require.ErrorIs(t, err, store.ErrFlushTimeout)
			close(pass)
			waitAll(t, s)
			require.Len(t, fetchAll(t, s, "t", 0), 2)
			d.Observe(nil)
			require.NoError(t, s.Close())
		})
	})
}

// ErrFlushTimeout comes with the place of the message, which is stored.
func TestFlushTimeoutOnEachPath(t *testing.T) {
	t.Parallel()
	eachPath(t, "sync", func(t *testing.T, path store.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			s := openStore(t, d, syncFlush, func(o *store.Options) { o.WritePath, o.FlushTimeout = path, time.Second })
			pass := make(chan struct{})
			d.Observe(func(op crashdisk.Op, path string) {
				if op == crashdisk.OpFlush && crashdisk.KindOf(path) == crashdisk.CommitLog {
					<-pass
				}
			})
			r, err := s.Append(context.Background(), msg("t", 0, "one"))
			require.ErrorIs(t, err, store.ErrFlushTimeout)
			require.Positive(t, r.Size)
			all, err := s.AppendBatch(context.Background(), []*message.Message{msg("t", 0, "two"), msg("t", 1, "three")})
			require.ErrorIs(t, err, store.ErrFlushTimeout)
			require.Len(t, all, 2)
			require.Positive(t, all[1].Size)
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			last, err := s.Append(ctx, msg("t", 0, "four"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Positive(t, last.Size)
			close(pass)
			waitAll(t, s)
			got, err := s.Get(last.Offset)
			require.NoError(t, err)
			require.Equal(t, "four", string(got.Body))
			d.Observe(nil)
			require.NoError(t, s.Close())
		})
	})
}

// A commit that fails: nothing is acknowledged any more, what was committed can be
// read, and what was acknowledged before and waits is there for the next Open once
// the disk works again.
func TestPoisonedByACommit(t *testing.T) {
	t.Parallel()
	for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
		for _, path := range allPaths[1:] {
			for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
				t.Run(mode.String()+", "+path.String()+", "+cause.Error(), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { poisonedByACommit(t, mode, path, cause) })
				})
			}
		}
	}
}

func poisonedByACommit(t *testing.T, mode store.FlushMode, path store.WritePath, cause syscall.Errno) {
	d := crashdisk.New()
	var poisoned []error
	s := openStore(t, d, func(o *store.Options) {
		o.Flush, o.WritePath = mode, path
		o.Events.Poisoned = func(err error) { poisoned = append(poisoned, err) }
	})
	before := appendOne(t, s, "t", 0, "before")
	waitAll(t, s)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpWrite, Err: cause, Stays: true})
	r, err := s.Append(context.Background(), msg("t", 0, "then"))
	require.Positive(t, r.Size)
	if mode == store.FlushSync || path == store.WriteFile {
		require.ErrorIs(t, err, store.ErrPoisoned)
		require.ErrorIs(t, err, cause)
	} else {
		require.NoError(t, err)
	}
	synctest.Wait()
	require.Len(t, poisoned, 1)
	for range 2 {
		_, err := s.Append(context.Background(), msg("t", 0, "refused"))
		require.ErrorIs(t, err, store.ErrPoisoned)
	}
	require.ErrorIs(t, s.Flush(context.Background()), store.ErrPoisoned)
	require.Len(t, fetchAll(t, s, "t", 0), 1, "reads go on")
	_, err = s.Get(before.Offset)
	require.NoError(t, err)
	st := s.Stats()
	require.ErrorIs(t, st.Poisoned, cause)
	require.Less(t, st.Committed, st.Appended)

	d.ClearFaults()
	require.ErrorIs(t, s.Close(), store.ErrPoisoned)
	again := openStore(t, d)
	require.Len(t, fetchAll(t, again, "t", 0), 2)
}

// The pool runs empty: the event and Stats say so, and everything arrives.
func TestPoolEmptyIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		var empty []commitlog.PoolInfo
		var refused []error
		d.Inject(crashdisk.Fault{Op: crashdisk.OpLockMemory, Err: syscall.EPERM, Stays: true})
		s := openStore(t, d, func(o *store.Options) {
			o.WritePath, o.PoolBuffers = store.WritePool, 1
			o.Events.PoolEmpty = func(i commitlog.PoolInfo) { empty = append(empty, i) }
			o.Events.LockRefused = func(err error) { refused = append(refused, err) }
		})
		pass := make(chan struct{})
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpWrite {
				<-pass
			}
		})
		size := s.Stats().FileSize
		for s.Stats().Appended < message.Offset(2*size) {
			appendOne(t, s, "t", 0, string(make([]byte, 2000)))
		}
		synctest.Wait()
		st := s.Stats()
		require.EqualValues(t, len(empty), st.Pool.Fallbacks)
		require.NotEmpty(t, empty)
		require.Zero(t, st.Committed)
		require.Len(t, refused, 1)
		require.ErrorIs(t, st.Pool.LockRefused, syscall.EPERM)
		require.Zero(t, st.Pool.LockedBytes)
		close(pass)
		waitAll(t, s)
		require.Len(t, fetchAll(t, s, "t", 0), int(s.Stats().AppendedMessages))
		d.Observe(nil)
		require.NoError(t, s.Close())
	})
}
