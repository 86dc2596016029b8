// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/warmup"
)

func TestAppendAndRoll(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		const size = 4096
		for _, c := range []struct {
			name    string
			records []int
			offsets []message.Offset
			fillers map[message.Offset]int64 // size by offset
		}{
			{"one record", []int{200}, []message.Offset{0}, nil},
			{"back to back", []int{200, 300, 400}, []message.Offset{0, 200, 500}, nil},
			{"a record that fills its file", []int{4088, 200}, []message.Offset{0, 4096}, map[message.Offset]int64{4088: 8}},
			{"two that fill a file to the last byte but eight", []int{2000, 2088, 200}, []message.Offset{0, 2000, 4096}, map[message.Offset]int64{4088: 8}},
			{"one byte too many", []int{2000, 2089}, []message.Offset{0, 4096}, map[message.Offset]int64{2000: 2096}},
			{
				"a file for each record",
				[]int{3000, 3000, 3000, 1000},
				[]message.Offset{0, 4096, 8192, 11192},
				map[message.Offset]int64{3000: 1096, 7096: 1096},
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				d := crashdisk.New()
				l := startLog(t, d, size, with(path))
				seq := commitlog.NewSequence(7)
				for i, n := range c.records {
					r := add(t, l, seq, n, "x")
					require.Equal(t, commitlog.Result{
						Offset: c.offsets[i], Size: int32(n), QueueOffset: message.QueueOffset(7 + i), StoreTime: firstTime + int64(i),
					}, r)
					require.Equal(t, r.End(), l.Appended())
					require.Equal(t, r.StoreTime, l.LastTime())
				}
				all, stop := scan(t, l, 0, l.Appended(), commitlog.ScanOptions{Check: message.CheckAll})
				require.Equal(t, commitlog.Stop{Kind: commitlog.StopEnd, Offset: l.Appended()}, stop)
				fillers := map[message.Offset]int64{}
				var offsets []message.Offset
				next := message.Offset(0)
				for _, it := range all {
					require.Equal(t, next, it.Offset)
					next += message.Offset(it.Size)
					if it.Kind == commitlog.ItemFiller {
						fillers[it.Offset] = it.Size
						continue
					}
					require.EqualValues(t, 7+len(offsets), it.Queue)
					offsets = append(offsets, it.Offset)
				}
				require.Equal(t, c.offsets, offsets)
				if c.fillers == nil {
					c.fillers = map[message.Offset]int64{}
				}
				require.Equal(t, c.fillers, fillers)
				require.Empty(t, d.Unreserved(), "blocks are reserved before a page is touched")
			})
		}
	})
}

func TestTooLargeForAFile(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	l := startLog(t, d, 4096)
	seq := commitlog.NewSequence(0)
	add(t, l, seq, 200, "before")
	before := readFile(t, d, 0)

	_, err := l.Append(item(t, seq, 4089, "x"))
	require.ErrorIs(t, err, commitlog.ErrRecordTooLarge)
	require.EqualError(t, err, "record too large for a commit log file: 4089 bytes and a filler of 8, the file has 4096")

	err = l.AppendBatch([]commitlog.Item{item(t, seq, 2000, "a"), item(t, seq, 2089, "b")}, make([]commitlog.Result, 2))
	require.ErrorIs(t, err, commitlog.ErrBatchTooLarge)
	require.EqualError(t, err, "batch too large for a commit log file: 4089 bytes and a filler of 8, the file has 4096")

	require.Equal(t, before, readFile(t, d, 0))
	require.EqualValues(t, 1, add(t, l, seq, 200, "after").QueueOffset, "the sequence did not move")
}

func TestAppendBatch(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		const size = 4096
		for _, c := range []struct {
			name  string
			fill  int // bytes in the file before the batch
			sizes []int
			at    message.Offset
		}{
			{"in an empty log", 0, []int{200, 300, 400}, 0},
			{"behind others", 1000, []int{200, 300}, 1000},
			{"to the last byte but eight", 3088, []int{500, 500}, 3088},
			{"kept together in the next file", 3089, []int{500, 500}, 4096},
			{"as large as a file", 200, []int{2044, 2044}, 4096},
			{"of nothing", 200, nil, 200},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				l := startLog(t, crashdisk.New(), size, with(path))
				seqs := []*commitlog.Sequence{commitlog.NewSequence(0), commitlog.NewSequence(100)}
				if c.fill > 0 {
					add(t, l, commitlog.NewSequence(0), c.fill, "fill")
				}
				var items []commitlog.Item
				for i, n := range c.sizes {
					items = append(items, item(t, seqs[i%2], n, "b"))
				}
				results := make([]commitlog.Result, len(items))
				require.NoError(t, l.AppendBatch(items, results))
				at := c.at
				for i, r := range results {
					require.Equal(t, commitlog.Result{
						Offset: at, Size: int32(c.sizes[i]), QueueOffset: message.QueueOffset(i/2 + i%2*100),
						StoreTime: results[0].StoreTime,
					}, r)
					at = r.End()
				}
				require.Equal(t, at, l.Appended())
				all, stop := scan(t, l, 0, l.Appended(), commitlog.ScanOptions{Check: message.CheckAll})
				require.Equal(t, commitlog.StopEnd, stop.Kind)
				require.Equal(t, at, stop.Offset)
				require.GreaterOrEqual(t, len(recordsOf(all)), len(items))
			})
		}
	})
}

// A batch whose results have no room must not leave half of itself behind.
func TestAppendBatchChecksResultsFirst(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	l := startLog(t, d, 4096)
	seq := commitlog.NewSequence(0)
	add(t, l, seq, 200, "before")
	before := readFile(t, d, 0)
	items := []commitlog.Item{item(t, seq, 200, "a"), item(t, seq, 200, "b")}
	require.Panics(t, func() { _ = l.AppendBatch(items, make([]commitlog.Result, 1)) })
	require.Equal(t, before, readFile(t, d, 0))
	require.EqualValues(t, 1, add(t, l, seq, 200, "after").QueueOffset)
}

// A prepared or rolled back transaction has no place in its queue; an inner
// batch takes several.
func TestSteps(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		l := startLog(t, crashdisk.New(), 4096, with(path))
		seq := commitlog.NewSequence(5)
		for _, c := range []struct {
			name   string
			change func(*message.Message)
			step   message.QueueOffset
			want   message.QueueOffset
		}{
			{"plain", func(*message.Message) {}, 1, 5},
			{"prepared", func(m *message.Message) { m.SysFlag = message.TransactionPrepared }, 0, 0},
			{"rolled back", func(m *message.Message) { m.SysFlag = message.TransactionRollback }, 0, 0},
			{"committed", func(m *message.Message) { m.SysFlag = message.TransactionCommit }, 1, 6},
			{"inner batch of three", func(m *message.Message) {
				m.SysFlag = message.InnerBatch
				m.Properties = message.NewProperties(message.PropertyInnerNum, "3", message.PropertyInnerBase, "7")
			}, 3, 7},
			{"behind it", func(*message.Message) {}, 1, 10},
		} {
			m := message.Message{Topic: "T", Body: []byte(c.name)}
			c.change(&m)
			require.Equal(t, c.step, m.QueueStep(), c.name)
			rec, err := message.Encoder{PropertyCRC: true}.Append(nil, &m)
			require.NoError(t, err, c.name)
			r, err := l.Append(commitlog.Item{Record: rec, Sequence: seq, Step: m.QueueStep()})
			require.NoError(t, err, c.name)
			require.Equal(t, c.want, r.QueueOffset, c.name)
			committed(t, l, r.End())
			v, err := l.ViewRecord(r.Offset)
			require.NoError(t, err, c.name)
			require.Equal(t, c.want, message.Record(v.Bytes()).QueueOffset(), c.name)
			v.Release()
		}
	})
}

func TestStoreTimeNeverDecreases(t *testing.T) {
	t.Parallel()
	d, c := crashdisk.New(), newClock()
	l := openLog(t, d, 4096, func(o *commitlog.Options) { o.Clock = c.Now })
	const known = firstTime + 500 // of the record before the start
	require.NoError(t, l.Start(commitlog.StartOptions{LastTime: known}))
	require.Equal(t, known, l.LastTime())
	seq := commitlog.NewSequence(0)
	for _, row := range []struct{ clock, want int64 }{
		{firstTime, known}, // behind what the log holds
		{firstTime + 600, firstTime + 600},
		{firstTime + 100, firstTime + 600}, // the clock goes back
		{firstTime + 601, firstTime + 601},
	} {
		c.Set(row.clock)
		r := add(t, l, seq, 200, "x")
		require.Equal(t, row.want, r.StoreTime)
		require.Equal(t, row.want, l.LastTime())
		v, err := l.ViewRecord(r.Offset)
		require.NoError(t, err)
		require.Equal(t, row.want, message.Record(v.Bytes()).StoreTimestamp())
		v.Release()
	}
}

func TestNextFileIsPreparedAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var rolls []commitlog.RollInfo
		var warmed []int64
		l := startLog(t, crashdisk.New(), 4096, func(o *commitlog.Options) {
			o.OnRoll = func(r commitlog.RollInfo) { rolls = append(rolls, r) }
			o.Warm = commitlog.WarmOptions{
				Plan:   warmup.Plan{Mode: warmup.Touch},
				OnWarm: func(i commitlog.WarmInfo) { warmed = append(warmed, int64(i.Base)) },
			}
		})
		seq := commitlog.NewSequence(0)
		synctest.Wait()
		require.Equal(t, []int64{0}, warmed, "whoever wants whole files warm has the first one before it is needed")
		add(t, l, seq, 200, "takes the first file")
		synctest.Wait()
		require.Equal(t, []int64{0}, warmed, "a file that is less than 1/16 full asks for no other")
		require.Equal(t, []commitlog.RollInfo{{Path: filePath(0)}}, rolls)

		add(t, l, seq, 200, "passes 1/16 of the file")
		synctest.Wait()
		require.Equal(t, []int64{0, 4096}, warmed)
		require.Equal(t, 1, l.Files().Len(), "prepared, and not part of the log yet")

		add(t, l, seq, 3900, "rolls")
		require.Equal(t, commitlog.RollInfo{Path: filePath(4096), Base: 4096}, rolls[1])
	})
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		const size = 4096
		for _, c := range []struct {
			name  string
			full  func(*crashdisk.Disk)
			space func(*crashdisk.Disk)
		}{
			{
				"no blocks for the next file",
				func(d *crashdisk.Disk) { d.SetCapacity(d.Used()) },
				func(d *crashdisk.Disk) { d.SetCapacity(0) },
			},
			{
				"no room to create it",
				func(d *crashdisk.Disk) {
					d.Inject(crashdisk.Fault{Op: crashdisk.OpCreate, Err: syscall.ENOSPC, Stays: true})
				},
				(*crashdisk.Disk).ClearFaults,
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				d := crashdisk.New()
				l := startLog(t, d, size, with(path))
				seq := commitlog.NewSequence(0)
				add(t, l, seq, 100+sealedMin, "less than 1/16 asks for nothing")
				c.full(d)
				last := add(t, l, seq, 3000, "still goes into the file that is there")
				committed(t, l, last.End())
				before := readFile(t, d, 0)
				for range 2 {
					_, err := l.Append(item(t, seq, 2000, "x"))
					require.ErrorIs(t, err, mappedfile.ErrDiskFull)
					require.ErrorIs(t, err, syscall.ENOSPC)
					err = l.AppendBatch([]commitlog.Item{item(t, seq, 2000, "x")}, make([]commitlog.Result, 1))
					require.ErrorIs(t, err, mappedfile.ErrDiskFull)
				}
				require.Equal(t, before, readFile(t, d, 0), "not even a filler")
				require.Equal(t, last.End(), l.Appended())
				entries, err := d.List(dir)
				require.NoError(t, err)
				require.Len(t, entries, 1, "what was created is removed again")
				require.EqualValues(t, 2, add(t, l, seq, 200, "a smaller one still fits").QueueOffset)

				c.space(d)
				r := add(t, l, seq, 2000, "x")
				require.EqualValues(t, size, r.Offset)
				require.EqualValues(t, 3, r.QueueOffset)
				require.Empty(t, d.Unreserved())
			})
		}
	})
}
