// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

func TestFailedFlushPoisons(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			var poisons []error
			flushes := 0
			l := startLog(t, d, 1<<16, with(path), func(o *commitlog.Options) {
				o.OnPoison = func(err error) { poisons = append(poisons, err) }
				o.OnFlush = func(commitlog.FlushInfo) { flushes++ }
			})
			seq := commitlog.NewSequence(0)
			acknowledged := add(t, l, seq, 200, "acknowledged")
			require.NoError(t, l.Flush(background()))

			// One flush fails and the next one would succeed, as on Linux.
			d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.CommitLog})
			g := newGate(d)
			add(t, l, seq, 200, "x")
			l.KickFlush()
			<-g.entered
			const waiters = 8
			errs := make(chan error, 2*waiters)
			for range waiters {
				r := add(t, l, seq, 5000, "not acknowledged")
				go func() { errs <- l.WaitFlushed(background(), r.End(), 0) }()
				go func() { errs <- l.WaitFlushedBeyond(background(), r.Offset) }()
			}
			synctest.Wait()
			require.Empty(t, errs)
			end := l.Appended()
			close(g.pass)
			for range 2 * waiters {
				err := <-errs
				require.ErrorIs(t, err, commitlog.ErrPoisoned)
				require.ErrorIs(t, err, syscall.EIO, "with the cause")
			}

			tried := d.Total(crashdisk.OpFlush, crashdisk.CommitLog)
			require.Equal(t, 2, tried)
			_, err := l.Append(item(t, seq, 200, "x"))
			require.ErrorIs(t, err, commitlog.ErrPoisoned)
			require.ErrorIs(t, l.AppendBatch([]commitlog.Item{item(t, seq, 200, "x")}, make([]commitlog.Result, 1)), commitlog.ErrPoisoned)
			require.ErrorIs(t, l.Flush(background()), commitlog.ErrPoisoned)
			require.ErrorIs(t, l.Err(), commitlog.ErrPoisoned)
			require.NoError(t, l.WaitFlushed(background(), acknowledged.End(), 0), "what was durable still is")
			l.KickFlush()
			synctest.Wait()

			// Reads go on, also of what was not acknowledged.
			require.Equal(t, end, l.Appended())
			require.Equal(t, acknowledged.End(), l.Flushed())
			all, stop := scan(t, l, 0, l.Appended(), commitlog.ScanOptions{Check: message.CheckAll})
			require.Equal(t, commitlog.StopEnd, stop.Kind)
			require.Len(t, all, 2+waiters)

			err = l.Close()
			require.ErrorIs(t, err, commitlog.ErrPoisoned)
			require.ErrorIs(t, err, syscall.EIO)
			require.NoError(t, l.Close())
			require.Equal(t, []error{l.Err()}, poisons, "once")
			require.Equal(t, 1, flushes)
			require.Equal(t, tried, d.Total(crashdisk.OpFlush, crashdisk.CommitLog), "no flush is tried again")

			// Whatever the disk holds after that, what was acknowledged is there.
			require.Equal(t, end, recoveredEnd(t, d), "the process is the only one that died")
			for seed := range uint64(50) {
				require.GreaterOrEqual(t, recoveredEnd(t, d.CrashClone(seed)), acknowledged.End())
			}
		})
	})
}

// recoveredEnd recovers a log without knowing anything about it, and checks
// that it is a prefix: queue offsets from 0 on, without a gap.
func recoveredEnd(t *testing.T, d *crashdisk.Disk) message.Offset {
	t.Helper()
	l := openLog(t, d, 0)
	next := message.QueueOffset(0)
	r, err := l.Recover(commitlog.RecoverOptions{Visit: func(_ message.Record, m *message.Message) error {
		require.Equal(t, next, m.QueueOffset)
		next++
		return nil
	}})
	require.NoError(t, err)
	require.Empty(t, r.Damage)
	return r.End
}

// The flush that Close does counts as well.
func TestCloseReturnsAFailedFlush(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		d := crashdisk.New()
		l := startLog(t, d, 4096, with(path))
		add(t, l, commitlog.NewSequence(0), 200, "x")
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
		require.ErrorIs(t, l.Close(), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.WaitFlushed(background(), 200, 0), commitlog.ErrPoisoned)
	})
}

// Appends that race with the failure are acknowledged or refused, never both.
func TestPoisonUnderLoad(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		d := crashdisk.New()
		l := startLog(t, d, 1<<14, with(path))
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 20, Stays: true})
		var mu sync.Mutex
		var acknowledged message.Offset
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				seq := commitlog.NewSequence(0)
				for {
					r, err := l.Append(item(t, seq, 300, "x"))
					if err == nil {
						err = l.WaitFlushed(background(), r.End(), 0)
					}
					if err != nil {
						require.ErrorIs(t, err, commitlog.ErrPoisoned)
						return
					}
					mu.Lock()
					acknowledged = max(acknowledged, r.End())
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Equal(t, 21, d.Total(crashdisk.OpFlush, crashdisk.CommitLog))
		require.Positive(t, acknowledged)
		r, err := openLog(t, d.DurableClone(), 0).Recover(commitlog.RecoverOptions{})
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.End, acknowledged)
	})
}
