// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// crashFile is small enough for many rolls and large enough for several pages.
const crashFile = 5 * crashdisk.PageSize

// journal is what was appended to a log, in order.
type journal struct {
	t       *testing.T
	rng     *rand.Rand
	records [][]byte
	starts  []message.Offset
	seq     *commitlog.Sequence
	sizes   []int // of records; one size makes old tails line up with new ends
}

func newJournal(t *testing.T, seed uint64) *journal {
	j := &journal{t: t, rng: rand.New(rand.NewPCG(seed, 1)), seq: commitlog.NewSequence(0)}
	j.sizes = [][]int{{200}, {512}, {130, 700, 2900}, {3 * crashdisk.PageSize, 150}, {crashFile - 8, 300}}[j.rng.IntN(5)]
	return j
}

// work appends n records or batches, and flushes and has pages written back now
// and then.
func (j *journal) work(d *crashdisk.Disk, l *commitlog.Log, n int, text string) {
	j.t.Helper()
	for range n {
		items := make([]commitlog.Item, 1+j.rng.IntN(3)/2)
		for i := range items {
			items[i] = item(j.t, j.seq, j.sizes[j.rng.IntN(len(j.sizes))], text)
		}
		if len(items) == 2 && len(items[0].Record)+len(items[1].Record)+message.FillerSize > crashFile {
			items = items[:1]
		}
		results := make([]commitlog.Result, len(items))
		require.NoError(j.t, l.AppendBatch(items, results))
		for i, r := range results {
			j.records = append(j.records, bytes.Clone(items[i].Record))
			j.starts = append(j.starts, r.Offset)
		}
		switch j.rng.IntN(8) {
		case 0:
			require.NoError(j.t, l.Flush(background()))
		case 1:
			d.Writeback(j.rng.Uint64())
		}
	}
}

// path draws a write path.
func (j *journal) path() func(*commitlog.Options) { return with(allPaths[j.rng.IntN(len(allPaths))]) }

// recover opens the log on d and checks that what is there is a prefix of what
// was appended and goes at least up to flushed. The journal is cut to it.
func (j *journal) recover(d *crashdisk.Disk, from, flushed message.Offset, change ...func(*commitlog.Options)) (*commitlog.Log, commitlog.Recovery) {
	j.t.Helper()
	l := openLog(j.t, d, crashFile, change...)
	skip := 0
	for skip < len(j.starts) && j.starts[skip] < from {
		skip++
	}
	n := skip
	r, err := l.Recover(commitlog.RecoverOptions{From: from, Durable: flushed, Visit: func(rec message.Record, m *message.Message) error {
		if n >= len(j.records) || !bytes.Equal(j.records[n], rec) {
			return fmt.Errorf("record %d of %d at %d is not what was appended: queue offset %d, time %d, %.20s", n, len(j.records), rec.PhysicalOffset(), rec.QueueOffset(), rec.StoreTimestamp(), m.Body)
		}
		n++
		return nil
	}})
	require.NoError(j.t, err)
	require.Empty(j.t, r.Damage)
	require.GreaterOrEqual(j.t, r.End, flushed)
	require.EqualValues(j.t, n-skip, r.Records)
	j.records, j.starts = j.records[:n], j.starts[:n]
	j.seq = commitlog.NewSequence(message.QueueOffset(n))
	return l, r
}

// Power is cut, the log is recovered from what was known to be flushed, goes on
// and loses power again, several times. Nothing that was flushed is lost, and
// no record of an earlier life comes back.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			j, d := newJournal(t, seed), crashdisk.New()
			c := newClock()
			// The clock goes back with each life, so that nothing depends on it.
			setClock := func(o *commitlog.Options) { c.Set(firstTime - int64(seed)); o.Clock = c.Now }
			flushed := message.Offset(0)
			for life := range 4 {
				from := flushed
				if life%2 == 1 {
					from = 0
				}
				l, r := j.recover(d, from, flushed, setClock, j.path())
				require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: flushed, LastTime: r.LastTime}))
				require.Equal(t, r.End, l.Flushed())
				j.work(d, l, 1+j.rng.IntN(30), fmt.Sprintf("life %d ", life))
				flushed = l.Flushed()
				d = d.CrashClone(seed*10 + uint64(life))
			}
			j.recover(d, 0, flushed)
		})
	}
}

// A power cut between any two steps of recovery, start and the first appends.
func TestPowerCutsDuringStart(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			j, d := newJournal(t, seed), crashdisk.New()
			l := startLog(t, d, crashFile, j.path())
			j.work(d, l, 25, "first life ")
			flushed := l.Flushed()
			d = d.CrashClone(seed)
			l, r := j.recover(d, 0, flushed, j.path())
			var clones []*crashdisk.Disk
			d.Observe(func(crashdisk.Op, string) { clones = append(clones, d.CrashClone(seed+uint64(len(clones)))) })
			require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: flushed, LastTime: r.LastTime}))
			d.Observe(nil)
			require.NotEmpty(t, clones)
			end := r.End
			for _, clone := range clones {
				after := *j
				after.records, after.starts = slices.Clone(j.records), slices.Clone(j.starts)
				l, r := after.recover(clone, 0, flushed, j.path())
				require.LessOrEqual(t, r.End, end)
				require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: flushed, LastTime: r.LastTime}))
				after.work(clone, l, 3, "second life")
				after.recover(clone.CrashClone(seed), 0, l.Flushed())
			}
		})
	}
}

// A process that is killed loses nothing that was committed, whatever was flushed;
// and where an append commits, nothing that was appended.
func TestKill(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		for seed := range uint64(50) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				j, d := newJournal(t, seed), crashdisk.New()
				for life := range 3 {
					l, r := j.recover(d, 0, 0, with(path))
					require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: 0, LastTime: r.LastTime}))
					j.work(d, l, 20, fmt.Sprintf("life %d ", life))
					committed := l.Committed()
					d = d.KillClone()
					_, r = j.recover(d, 0, committed)
					if path != commitlog.WritePool {
						require.Equal(t, l.Appended(), r.End)
					}
				}
			})
		}
	})
}

// A process that is killed in the middle of a write, or whose power goes then.
func TestKilledInTheMiddleOfAWrite(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			path := []commitlog.WritePath{commitlog.WritePool, commitlog.WriteFile}[seed%2]
			j, d := newJournal(t, seed), crashdisk.New()
			type left struct {
				disk               *crashdisk.Disk
				committed, flushed message.Offset
			}
			var mu sync.Mutex
			var kills []left
			l := startLog(t, d, crashFile, with(path), func(o *commitlog.Options) { o.PoolBuffers = 1 })
			d.Observe(func(op crashdisk.Op, _ string) {
				if op != crashdisk.OpWriteRest {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				at := left{committed: l.Committed(), flushed: l.Flushed()}
				at.disk = d.KillClone()
				kills = append(kills, at)
			})
			j.work(d, l, 40, "x")
			require.NoError(t, l.Flush(background()))
			d.Observe(nil)
			mu.Lock()
			defer mu.Unlock()
			for i, k := range kills {
				for _, disk := range []*crashdisk.Disk{k.disk, k.disk.CrashClone(seed)} {
					after := *j
					after.records, after.starts = slices.Clone(j.records), slices.Clone(j.starts)
					durable := k.flushed
					if disk == k.disk {
						durable = k.committed
					}
					l, r := after.recover(disk, 0, durable, func(o *commitlog.Options) { o.WritePath = allPaths[i%3] })
					require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: k.flushed, LastTime: r.LastTime}))
					after.work(disk, l, 2, "second life")
				}
			}
		})
	}
}

// A process that is killed while it copies a record leaves a part of it.
func TestKilledInTheMiddleOfACopy(t *testing.T) {
	t.Parallel()
	rec := recordOf(t, 200, "x")
	rec.Patch(200, 1, firstTime+1)
	rec.Seal()
	for _, copied := range []int{1, 8, 91, 199} {
		t.Run(fmt.Sprint(copied), func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			l := startLog(t, d, 4096)
			end := add(t, l, commitlog.NewSequence(0), 200, "whole").End()
			d = d.KillClone()
			file := readFile(t, d, 0)
			// The size and the magic number are copied last.
			copy(file[end+message.FillerSize:], rec[message.FillerSize:max(copied, message.FillerSize)])
			require.NoError(t, d.WriteFile(filePath(0), file))
			got, err := openLog(t, d, 0).Recover(commitlog.RecoverOptions{})
			require.NoError(t, err)
			require.Equal(t, end, got.End)
			require.Equal(t, commitlog.StopEmpty, got.Stop.Kind)
		})
	}
}
