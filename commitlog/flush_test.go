// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// In these tests time is that of the synctest bubble: it stands still while any
// goroutine can run.

func TestAsyncFlush(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		const page = 4096
		for _, c := range []struct {
			name    string
			change  func(*commitlog.Options)
			bytes   int // appended, in records of a quarter page
			flushed time.Duration
		}{
			{"fewer pages than the least wait for the thorough flush", nil, 3 * page, 10 * time.Second},
			{"the least pages are flushed at the next interval", nil, 4 * page, 500 * time.Millisecond},
			{"another interval", func(o *commitlog.Options) { o.FlushInterval = 20 * time.Millisecond }, 4 * page, 20 * time.Millisecond},
			{"another least", func(o *commitlog.Options) { o.FlushLeastPages = 1 }, page, 500 * time.Millisecond},
			{"any byte", func(o *commitlog.Options) { o.FlushLeastPages = -1 }, 1024, 500 * time.Millisecond},
			{"another thorough interval", func(o *commitlog.Options) { o.FlushThoroughInterval = 2 * time.Second }, 1024, 2 * time.Second},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d := crashdisk.New()
					var infos []commitlog.FlushInfo
					l := startLog(t, d, 64*page, with(path), func(o *commitlog.Options) {
						o.OnFlush = func(i commitlog.FlushInfo) { infos = append(infos, i) }
						if c.change != nil {
							c.change(o)
						}
					})
					start := time.Now()
					seq := commitlog.NewSequence(0)
					var last commitlog.Result
					for n := 0; n < c.bytes; n += 1024 {
						last = add(t, l, seq, 1024, "x")
					}
					<-time.After(c.flushed - time.Nanosecond)
					synctest.Wait()
					require.Zero(t, l.Flushed())
					require.Zero(t, d.Flushes(filePath(0)))
					require.NoError(t, l.WaitFlushedBeyond(background(), 0))
					require.Equal(t, c.flushed, time.Since(start))
					require.Equal(t, l.Appended(), l.Flushed())
					require.Equal(t, 1, d.Flushes(filePath(0)))
					synctest.Wait()
					require.Equal(t, []commitlog.FlushInfo{{To: last.End(), StoreTime: last.StoreTime}}, infos)
					// Nothing was appended since, so nothing is flushed.
					<-time.After(time.Minute)
					require.Equal(t, 1, d.Flushes(filePath(0)))
				})
			})
		}
	})
}

// gate makes each flush of the commit log wait to be let through.
type gate struct {
	entered chan struct{}
	pass    chan struct{}
}

func newGate(d *crashdisk.Disk) *gate {
	g := &gate{entered: make(chan struct{}, 100), pass: make(chan struct{})}
	d.Observe(func(op crashdisk.Op, _ string) {
		if op == crashdisk.OpFlush {
			g.entered <- struct{}{}
			<-g.pass
		}
	})
	return g
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			const waiters = 64
			d := crashdisk.New()
			l := startLog(t, d, 1<<20, with(path))
			g := newGate(d)
			seq := commitlog.NewSequence(0)
			var wg sync.WaitGroup
			appendSync := func() {
				r, err := l.Append(item(t, seq, 200, "x"))
				require.NoError(t, err)
				require.NoError(t, l.WaitFlushed(background(), r.End(), 5*time.Second))
				require.GreaterOrEqual(t, l.Flushed(), r.End())
			}
			wg.Go(appendSync)
			<-g.entered // the first one is on its way to the disk
			for range waiters - 1 {
				wg.Go(appendSync)
			}
			synctest.Wait()
			require.Zero(t, l.Flushed())
			require.EqualValues(t, waiters*200, l.Appended())
			close(g.pass)
			wg.Wait()
			require.Equal(t, 2, d.Flushes(filePath(0)), "one for the first, and one for all others")
			require.Equal(t, l.Appended(), l.Flushed())
		})
	})
}

func TestFlushOnDemand(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			l := startLog(t, d, 4096, with(path))
			start := time.Now()
			require.NoError(t, l.Flush(background()), "an empty log is flushed")
			seq := commitlog.NewSequence(0)
			for range 5 {
				add(t, l, seq, 3000, "each in a file of its own")
			}
			require.NoError(t, l.Flush(background()))
			require.Equal(t, l.Appended(), l.Flushed())
			for base := int64(0); base < 5*4096; base += 4096 {
				require.Equal(t, 1, d.Flushes(filePath(base)))
				durable, named, err := d.Durable(filePath(base))
				require.NoError(t, err)
				require.True(t, named)
				require.Equal(t, readFile(t, d, base), durable)
			}
			require.NoError(t, l.Flush(background()))
			require.Equal(t, 1, d.Flushes(filePath(0)), "what is flushed is not flushed again")

			// A message that waits for nothing has itself flushed all the same.
			add(t, l, seq, 1000, "x")
			l.KickFlush()
			synctest.Wait()
			require.Equal(t, l.Appended(), l.Flushed())
			require.Zero(t, time.Since(start), "nothing waited for the interval")
		})
	})
}

func TestWaitFlushedGivesUp(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			l := startLog(t, d, 4096, with(path))
			g := newGate(d)
			r := add(t, l, commitlog.NewSequence(0), 200, "x")
			start := time.Now()
			err := l.WaitFlushed(background(), r.End(), 5*time.Second)
			require.ErrorIs(t, err, commitlog.ErrFlushTimeout)
			require.EqualError(t, err, "stored, but the flush was not confirmed in time (5s)")
			require.Equal(t, 5*time.Second, time.Since(start))

			cause := errors.New("the caller went away")
			ctx, cancel := context.WithCancelCause(background())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			require.Equal(t, cause, l.WaitFlushed(ctx, r.End(), 0))
			require.Equal(t, cause, l.Flush(ctx), "done already")

			// The record is in the log, and was only late.
			close(g.pass)
			require.NoError(t, l.WaitFlushed(background(), r.End(), 0))
			require.NoError(t, l.WaitFlushed(ctx, r.End(), 0), "what is flushed is flushed for any context")
		})
	})
}

func TestWaitAppended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := startLog(t, crashdisk.New(), 4096)
		woken := make(chan error, 2)
		go func() { woken <- l.WaitAppended(background(), 0) }()
		synctest.Wait()
		require.Empty(t, woken)
		r := add(t, l, commitlog.NewSequence(0), 200, "x")
		require.NoError(t, <-woken)
		require.NoError(t, l.WaitAppended(background(), r.End()-1))
		go func() { woken <- l.WaitAppended(background(), r.End()) }()
		go func() { woken <- l.WaitFlushedBeyond(background(), r.End()) }()
		synctest.Wait()
		require.Empty(t, woken)
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-woken, commitlog.ErrClosed)
		require.ErrorIs(t, <-woken, commitlog.ErrClosed)
	})
}

// FlushInfo.StoreTime must never be that of a record that the flush left out:
// a checkpoint is made from it.
func TestFlushedStoreTimeIsCovered(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	var mu sync.Mutex
	var infos []commitlog.FlushInfo
	l := startLog(t, d, 1<<16, func(o *commitlog.Options) {
		o.OnFlush = func(i commitlog.FlushInfo) {
			mu.Lock()
			defer mu.Unlock()
			infos = append(infos, i)
		}
	})
	times := map[int64]message.Offset{} // the end of the record of a store time; the clock never repeats one
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			seq := commitlog.NewSequence(0)
			for range 500 {
				r := add(t, l, seq, 200, "x")
				mu.Lock()
				times[r.StoreTime] = r.End()
				mu.Unlock()
				l.KickFlush()
			}
		})
	}
	wg.Wait()
	require.NoError(t, l.Close())
	require.NotEmpty(t, infos)
	var last commitlog.FlushInfo
	for _, i := range infos {
		require.Equal(t, last.To, i.From)
		require.GreaterOrEqual(t, i.StoreTime, last.StoreTime)
		require.LessOrEqual(t, times[i.StoreTime], i.To)
		last = i
	}
	require.Equal(t, l.LastTime(), last.StoreTime)
}
