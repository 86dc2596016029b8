// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

func TestClose(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			l := startLog(t, d, 4096, with(path))
			seq := commitlog.NewSequence(0)
			r := add(t, l, seq, 1000, "kept")
			synctest.Wait()
			entries, err := d.List(dir)
			require.NoError(t, err)
			require.Len(t, entries, 2, "a spare file is prepared")
			v, err := l.ViewRecord(r.Offset)
			require.NoError(t, err)
			s := l.Scan(0, l.Appended(), commitlog.ScanOptions{})
			require.True(t, s.Next())

			require.NoError(t, l.Close())
			require.NoError(t, l.Close(), "twice")
			for _, after := range []*crashdisk.Disk{d, d.DurableClone()} {
				entries, err = after.List(dir)
				require.NoError(t, err)
				require.Len(t, entries, 1, "and removed, durably")
				r, err := openLog(t, after, 0).Recover(commitlog.RecoverOptions{})
				require.NoError(t, err)
				require.Equal(t, l.Appended(), r.End)
			}

			// Bytes that are held stay valid.
			require.Equal(t, message.Offset(0), message.Record(v.Bytes()).PhysicalOffset())
			require.Contains(t, string(v.Bytes()), "kept")
			require.Contains(t, string(s.Item().Message.Body), "kept")
			v.Release()
			s.Close()

			// Everything else is refused.
			_, err = l.Append(item(t, seq, 200, "x"))
			require.ErrorIs(t, err, commitlog.ErrClosed)
			require.ErrorIs(t, l.AppendBatch([]commitlog.Item{item(t, seq, 200, "x")}, make([]commitlog.Result, 1)), commitlog.ErrClosed)
			_, err = l.View(0, 10)
			require.ErrorIs(t, err, commitlog.ErrClosed)
			_, err = l.ViewRecord(0)
			require.ErrorIs(t, err, commitlog.ErrClosed)
			require.ErrorIs(t, l.WaitAppended(background(), r.End()), commitlog.ErrClosed)
			require.ErrorIs(t, l.WaitFlushed(background(), r.End()+1, 0), commitlog.ErrClosed)
			require.NoError(t, l.Flush(background()), "there is nothing left to flush")
			// A scan must not take a closed log for one that ends here.
			_, stop := scan(t, l, 0, r.End(), commitlog.ScanOptions{})
			require.Equal(t, commitlog.StopError, stop.Kind)
			require.ErrorIs(t, stop.Err, commitlog.ErrClosed)
		})
	})
}

// Close flushes for those who wait, and for those who don't.
func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			l := startLog(t, d, 4096, with(path))
			g := newGate(d)
			seq := commitlog.NewSequence(0)
			first := add(t, l, seq, 200, "x")
			waited := make(chan error, 2)
			go func() { waited <- l.WaitFlushed(background(), first.End(), 0) }()
			<-g.entered
			last := add(t, l, seq, 200, "x")
			closed := make(chan error)
			go func() { closed <- l.Close() }()
			synctest.Wait()
			go func() { waited <- l.WaitFlushed(background(), last.End(), 0) }()
			synctest.Wait()
			require.Empty(t, waited)
			close(g.pass)
			require.NoError(t, <-closed)
			require.NoError(t, <-waited)
			require.NoError(t, <-waited)
			require.Equal(t, last.End(), recoveredEnd(t, d.DurableClone()))
		})
	})
}

func TestRemoveBefore(t *testing.T) {
	t.Parallel()
	whole := damageLog(t)
	for _, c := range []struct {
		name    string
		before  message.Offset
		removed int
		min     message.Offset
	}{
		{"nothing", 0, 0, 0},
		{"less than a file", 1023, 0, 0},
		{"one file", 1024, 1, 1024},
		{"two, and part of the last", 2500, 2, 2048},
		{"never the last", 1 << 40, 2, 2048},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := write(t, whole, damageFile)
			l := openLog(t, d, 0)
			require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd, LastTime: firstTime, Clean: true}))
			v, err := l.ViewRecord(200)
			require.NoError(t, err)
			n, err := l.RemoveBefore(c.before)
			require.NoError(t, err)
			require.Equal(t, c.removed, n)
			require.Equal(t, c.min, l.Min())
			entries, err := d.DurableClone().List(dir)
			require.NoError(t, err)
			require.Len(t, entries, 3-c.removed)
			require.Contains(t, string(v.Bytes()), "record 1", "what is held stays")
			v.Release()
			require.Equal(t, damageEnd, add(t, l, commitlog.NewSequence(0), 200, "x").Offset)
		})
	}
}

// Files are removed while an append waits for a new one.
func TestRemoveBeforeDoesNotWaitForAppends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := write(t, damageLog(t), damageFile)
		l := openLog(t, d, 0)
		require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd, LastTime: firstTime, Clean: true}))
		making := make(chan struct{})
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpCreate {
				<-making
			}
		})
		appended := make(chan commitlog.Result)
		it := item(t, commitlog.NewSequence(0), 800, "rolls")
		go func() {
			r, err := l.Append(it)
			assert.NoError(t, err)
			appended <- r
		}()
		synctest.Wait()
		n, err := l.RemoveBefore(1 << 40)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		close(making)
		require.EqualValues(t, 3072, (<-appended).Offset)
	})
}
