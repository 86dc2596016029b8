// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

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
			require.NoError(t, l.Start(commitlog.StartOptions{End: c.end, Flushed: c.end, LastTime: firstTime}))
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
	require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: flushed, LastTime: r.LastTime}))
	again, err := openLog(t, killed.DurableClone(), 0).Recover(commitlog.RecoverOptions{})
	require.NoError(t, err)
	require.Equal(t, end, again.End)
}

// The same, when it may come later: the first flush sees to it, and so does Close;
// what a failed flush of the earlier owner dropped is written again.
func TestStartLater(t *testing.T) {
	t.Parallel()
	const size, page = 16 << 10, 4096
	for _, n := range []int{1, 12, 13, 14, 40, 100} { // several pages, several files
		for name, settle := range map[string]func(t *testing.T, l *commitlog.Log){
			"Flush": func(t *testing.T, l *commitlog.Log) { require.NoError(t, l.Flush(background())) },
			"Close": func(t *testing.T, l *commitlog.Log) { require.NoError(t, l.Close()) },
		} {
			for _, failed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d records, %s, after a failed flush %v", n, name, failed), func(t *testing.T) {
					t.Parallel()
					d := crashdisk.New()
					l := startLog(t, d, size)
					seq := commitlog.NewSequence(0)
					for range n {
						add(t, l, seq, 300, "not flushed")
					}
					end := l.Appended()
					if failed {
						d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
						require.ErrorIs(t, l.Flush(background()), commitlog.ErrPoisoned)
					}
					killed := d.KillClone()
					killed.ClearFaults()
					spy := &redirtySpy{Disk: killed, pages: map[int64]bool{}}
					l = openLog(t, spy, 0)
					r, err := l.Recover(commitlog.RecoverOptions{})
					require.NoError(t, err)
					require.Equal(t, end, r.End)
					require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, LastTime: r.LastTime, Later: true}))
					require.Equal(t, end, l.Appended())
					spy.started.Store(true)
					next := add(t, l, commitlog.NewSequence(0), 300, "next").Offset
					settle(t, l)
					again, err := openLog(t, killed.DurableClone(), 0).Recover(commitlog.RecoverOptions{})
					require.NoError(t, err)
					require.GreaterOrEqual(t, again.End, next)
					for page := range (int64(end) + page - 1) / page {
						require.True(t, spy.pages[page], "page %d of what was there is written again", page)
					}
					require.LessOrEqual(t, spy.late, int64(end)/page, "appends store into the last page")
				})
			}
		}
	}
}

// redirtySpy takes down which pages of a log are redirtied.
type redirtySpy struct {
	mappedfile.Disk
	started atomic.Bool
	mu      sync.Mutex
	pages   map[int64]bool
	late    int64 // behind the last one, once it is started
}

func (d *redirtySpy) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := d.Disk.Open(path, m)
	base, _ := mappedfile.ParseFileName(filepath.Base(path))
	return spiedRegion{r, d, base}, err
}

type spiedRegion struct {
	mappedfile.Region
	spy  *redirtySpy
	base int64
}

func (r spiedRegion) Redirty(from, to int64) {
	const page = 4096
	r.spy.mu.Lock()
	defer r.spy.mu.Unlock()
	end := (r.base + to + page - 1) / page
	for i := (r.base + from) / page; i < end; i++ {
		r.spy.pages[i] = true
	}
	if r.spy.started.Load() {
		r.spy.late = max(r.spy.late, end)
	}
	r.Region.(interface{ Redirty(from, to int64) }).Redirty(from, to)
}

func TestCleanStartChangesNothing(t *testing.T) {
	t.Parallel()
	log := damageLog(t)
	d := write(t, log, damageFile)
	l := openLog(t, d, 0)
	require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd, LastTime: firstTime, Clean: true}))
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
		err := l.Start(commitlog.StartOptions{End: 1023, Flushed: 1023})
		require.ErrorIs(t, err, commitlog.ErrOutOfRange)
		require.EqualError(t, err, "commitlog: start at 1023: offset outside the commit log: the files hold [1024, 3072)")
	})
	t.Run("an end behind the last file", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: 3073, Flushed: 3073}), commitlog.ErrOutOfRange)
		require.NoError(t, l.Start(commitlog.StartOptions{End: 3072, Flushed: 3072}), "and can be tried again")
	})
	t.Run("a second time", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd}))
		require.ErrorContains(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd}), "started twice")
	})
	t.Run("a read-only log", func(t *testing.T) {
		t.Parallel()
		_, l := open(t, func(o *commitlog.Options) { o.ReadOnly = true })
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd}), mappedfile.ErrReadOnly)
	})
	t.Run("a closed log", func(t *testing.T) {
		t.Parallel()
		_, l := open(t)
		require.NoError(t, l.Close())
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd}), commitlog.ErrClosed)
	})
	t.Run("a log whose flush failed", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 1024}), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 1024}), commitlog.ErrPoisoned, "the next flush would report success")
		require.Equal(t, 1, d.Total(crashdisk.OpFlush, crashdisk.CommitLog))
		require.ErrorIs(t, l.Close(), commitlog.ErrPoisoned)
	})
	t.Run("a log whose zeroed tail could not be flushed", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 1})
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 2048}), commitlog.ErrPoisoned)
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 2048}), commitlog.ErrPoisoned)
	})
	t.Run("a full disk, but not for good", func(t *testing.T) {
		t.Parallel()
		d, l := open(t)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpZero, Err: mappedfile.ErrDiskFull})
		require.ErrorIs(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 2048}), mappedfile.ErrDiskFull)
		require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: 2048}))
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
		require.NoError(t, l.Start(commitlog.StartOptions{Clean: true}))
		seq := commitlog.NewSequence(0)
		_, err := l.Append(item(t, seq, 200, "x"))
		require.ErrorIs(t, err, mappedfile.ErrDiskFull)
		require.Equal(t, make([]byte, 8192), readFile(t, d, 0))
		d.SetCapacity(8192)
		require.Equal(t, commitlog.Result{Size: 200, StoreTime: firstTime}, add(t, l, seq, 200, "x"))
		require.Empty(t, d.Unreserved())
	})
}

// TestStartKeepsTheSpare: the file that a killed process had made ahead of need is
// there when it is needed, but only when nothing was written to it.
func TestStartKeepsTheSpare(t *testing.T) {
	t.Parallel()
	const size, record = 4096, 300
	for _, c := range []struct {
		name    string
		records int // of which 13 go into a file
		killed  bool
		change  func(t *testing.T, d *crashdisk.Disk) // of what the process left
		kept    bool
	}{
		{"after a kill", 5, true, nil, true},
		{"after a kill, in the second file", 18, true, nil, true},
		{"after a kill, two of them", 5, true, func(t *testing.T, d *crashdisk.Disk) { makeFile(t, d, 2*size, size) }, true},
		{"after something else", 5, false, nil, false},
		{"something was written to it", 5, true, func(t *testing.T, d *crashdisk.Disk) {
			require.NoError(t, d.FlipBit(filePath(size), 3, 0))
		}, false},
		{"there is none", 5, true, func(t *testing.T, d *crashdisk.Disk) { require.NoError(t, d.Remove(filePath(size))) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := crashdisk.New()
				l := startLog(t, d, size)
				seq := commitlog.NewSequence(0)
				for range c.records {
					add(t, l, seq, record, "before")
				}
				end := l.Appended()
				spare := filePath(int64(end)/size*size + size)
				synctest.Wait() // it is made
				killed := d.KillClone()
				if c.change != nil {
					c.change(t, killed)
				}
				var made, removed []string
				killed.Observe(func(op crashdisk.Op, path string) {
					switch op {
					case crashdisk.OpCreate:
						made = append(made, path)
					case crashdisk.OpRemove:
						removed = append(removed, path)
					default:
					}
				})
				l = openLog(t, killed, 0)
				r, err := l.Recover(commitlog.RecoverOptions{Whole: true})
				require.NoError(t, err)
				require.Equal(t, end, r.End)
				require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, LastTime: r.LastTime, Killed: c.killed}))
				for range 13 {
					add(t, l, seq, record, "behind")
				}
				synctest.Wait()
				require.Equal(t, c.kept, !slices.Contains(made, spare))
				require.NotContains(t, removed[min(1, len(removed)):], spare, "once at the most")
				require.NoError(t, l.Close())
				if c.kept {
					require.NotContains(t, removed, spare)
				}
				for _, after := range []*crashdisk.Disk{killed, killed.KillClone()} {
					again, err := openLog(t, after, 0).Recover(commitlog.RecoverOptions{})
					require.NoError(t, err)
					require.Equal(t, c.records+13, int(again.Records))
				}
			})
		})
	}
}
