// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestStart(t *testing.T) {
	t.Parallel()
	whole := damageLog(t)
	for _, c := range []struct {
		name  string
		end   message.Offset
		files []int64        // that are left
		next  message.Offset // where a record goes that fits in what is left of the file
	}{
		{"in the last file", damageEnd, []int64{0, 1024, 2048}, damageEnd},
		{"in an earlier file", 1424, []int64{0, 1024}, 1424},
		{"at the beginning of the last file", 2048, []int64{0, 1024}, 2048},
		{"behind the last byte", 3072, []int64{0, 1024, 2048}, 3072},
		{"at the beginning of the log", 0, []int64{0}, 0},
		{"where a filler begins", 1000, []int64{0}, 1024},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := bytes.Clone(whole)
			for i := int(damageEnd); i < len(log); i++ {
				log[i] = 0xEE // an old tail
			}
			d := write(t, log, damageFile)
			l := openLog(t, d, 0)
			require.NoError(t, l.Start(c.end, c.end, firstTime, false))
			require.Equal(t, c.end, l.Appended())
			require.Equal(t, c.end, l.Flushed())

			// A power cut right behind Start finds it all done.
			for _, after := range []*crashdisk.Disk{d, d.DurableClone(), d.CrashClone(1)} {
				entries, err := after.List(dir)
				require.NoError(t, err)
				require.Len(t, entries, len(c.files))
				for _, base := range c.files {
					want := bytes.Clone(log[base : base+damageFile])
					if int64(c.end) < base+damageFile {
						clear(want[int64(c.end)-base:])
					}
					require.Equal(t, want, readFile(t, after, base))
				}
			}
			require.Equal(t, c.next, add(t, l, commitlog.NewSequence(0), damageRecord, "new").Offset)
			require.Empty(t, d.Unreserved())
		})
	}
}

// What only the page cache holds when the log starts is durable afterwards.
func TestStartMakesTheRestDurable(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	l := startLog(t, d, 4096)
	seq := commitlog.NewSequence(0)
	add(t, l, seq, 300, "flushed")
	require.NoError(t, l.Flush(background()))
	flushed := l.Flushed()
	for range 20 {
		add(t, l, seq, 300, "not flushed")
	}
	end := l.Appended()
	killed := d.KillClone()
	l = openLog(t, killed, 0)
	r, err := l.Recover(commitlog.RecoverOptions{From: flushed, Durable: flushed, Time: firstTime})
	require.NoError(t, err)
	require.Equal(t, end, r.End)
	require.NoError(t, l.Start(r.End, flushed, r.LastTime, false))
	again, err := openLog(t, killed.DurableClone(), 0).Recover(commitlog.RecoverOptions{})
	require.NoError(t, err)
	require.Equal(t, end, again.End)
}

func TestCleanStartChangesNothing(t *testing.T) {
	t.Parallel()
	log := damageLog(t)
	d := write(t, log, damageFile)
	l := openLog(t, d, 0)
	require.NoError(t, l.Start(damageEnd, damageEnd, firstTime, true))
	require.NoError(t, l.Close())
	for _, op := range []crashdisk.Op{
		crashdisk.OpCreate, crashdisk.OpFlush, crashdisk.OpReserve, crashdisk.OpZero, crashdisk.OpRemove, crashdisk.OpSyncDir,
	} {
		require.Zero(t, d.Total(op, crashdisk.CommitLog), op)
	}
	for base := int64(0); base < 3*damageFile; base += damageFile {
		require.Equal(t, log[base:base+damageFile], readFile(t, d, base))
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	log := damageLog(t)[damageFile:] // the first file has expired
	open := func(t *testing.T, change ...func(*commitlog.Options)) (*crashdisk.Disk, *commitlog.Log) {
		d := crashdisk.New()
		require.NoError(t, d.MkdirAll(dir))
		for base := int64(damageFile); base < 3*damageFile; base += damageFile {
			require.NoError(t, d.WriteFile(filePath(base), log[base-damageFile:base]))
		}
		return d, openLog(t, d, 0, change...)
	}
	t.Run("an end below the first file", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		err := l.Start(1023, 1023, 0, false)
		require.ErrorIs(t, err, commitlog.ErrOutOfRange)
		require.EqualError(t, err, "commitlog: start at 1023: offset outside the commit log: the files hold [1024, 3072)")
	})
	t.Run("an end behind the last file", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.ErrorIs(t, l.Start(3073, 3073, 0, false), commitlog.ErrOutOfRange)
		require.NoError(t, l.Start(3072, 3072, 0, false), "and can be tried again")
	})
	t.Run("a second time", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.NoError(t, l.Start(damageEnd, damageEnd, 0, false))
		require.ErrorContains(t, l.Start(damageEnd, damageEnd, 0, false), "started twice")
	})
	t.Run("a read-only log", func(t *testing.T) {
		t.Parallel()
		_, l := open(t, func(o *commitlog.Options) { o.ReadOnly = true })
		require.ErrorIs(t, l.Start(damageEnd, damageEnd, 0, false), mappedfile.ErrReadOnly)
	})
	t.Run("a closed log", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.NoError(t, l.Close())
		require.ErrorIs(t, l.Start(damageEnd, damageEnd, 0, false), commitlog.ErrClosed)
	})
	t.Run("a log whose flush failed", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
		require.ErrorIs(t, l.Start(damageEnd, 1024, 0, false), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.Start(damageEnd, 1024, 0, false), commitlog.ErrPoisoned, "the next flush would report success")
		require.Equal(t, 1, d.Total(crashdisk.OpFlush, crashdisk.CommitLog))
		require.ErrorIs(t, l.Close(), commitlog.ErrPoisoned)
	})
	t.Run("a log whose zeroed tail could not be flushed", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 1})
		require.ErrorIs(t, l.Start(damageEnd, 2048, 0, false), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.Start(damageEnd, 2048, 0, false), commitlog.ErrPoisoned)
	})
	t.Run("a full disk, but not for good", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpZero, Err: mappedfile.ErrDiskFull})
		require.ErrorIs(t, l.Start(damageEnd, 2048, 0, false), mappedfile.ErrDiskFull)
		require.NoError(t, l.Start(damageEnd, 2048, 0, false))
	})
	t.Run("append before start", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		_, err := l.Append(item(t, commitlog.NewSequence(0), damageRecord, "x"))
		require.EqualError(t, err, "commitlog: append before Start")
	})
}

// On a disk that is full a file that was sparse can be read, and the first
// append says so instead of touching a page without a block.
func TestSparseTailOnAFullDisk(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		d := crashdisk.New()
		makeFile(t, d, 0, 8192)
		d.SetCapacity(4096)
		l := openLog(t, d, 0)
		require.NoError(t, l.Start(0, 0, 0, true))
		seq := commitlog.NewSequence(0)
		_, err := l.Append(item(t, seq, 200, "x"))
		require.ErrorIs(t, err, mappedfile.ErrDiskFull)
		require.Equal(t, make([]byte, 8192), readFile(t, d, 0))
		d.SetCapacity(8192)
		require.Equal(t, commitlog.Result{Size: 200, StoreTime: firstTime}, add(t, l, seq, 200, "x"))
		require.Empty(t, d.Unreserved())
	})
}
