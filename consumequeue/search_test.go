// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// timed is a queue whose message i was stored at times[i]; a time of -1 is a
// blank entry.
func timed(t *testing.T, first int64, times []int64) *Queue {
	t.Helper()
	q, _ := newQueue(t, func(o *Options) {
		o.StoreTime = func(off message.Offset, size int32) (int64, error) {
			require.EqualValues(t, recSize, size)
			return times[int64(off)/recSize-first], nil
		}
	})
	for i, ms := range times {
		if ms < 0 {
			require.NoError(t, q.Fill(message.QueueOffset(first)+message.QueueOffset(i)+1))
			continue
		}
		put(t, q, first+int64(i), first+int64(i)+1)
	}
	return q
}

// The rows are those of ConsumeQueue.java: what its search by time returns in
// each case, with the clamping of ConsumeQueueStore.java.
func TestOffsetByTime(t *testing.T) {
	t.Parallel()
	ramp := make([]int64, 25) // 1000, 1010, … 1240; three files
	for i := range ramp {
		ramp[i] = 1000 + 10*int64(i)
	}
	equal := slices.Clone(ramp) // seven messages in one millisecond, over two files
	for i := 7; i < 14; i++ {
		equal[i] = 1070
	}
	same := slices.Repeat([]int64{1000}, 35)
	gaps := slices.Clone(ramp)
	for _, i := range []int{3, 9, 10, 11, 24} {
		gaps[i] = -1
	}
	tests := []struct {
		name         string
		times        []int64
		first        int64 // number of the first message
		expired      int64 // messages below this number have expired
		ms           int64
		lower, upper int64
	}{
		{"after the last: behind it, and it", ramp, 0, 0, 2000, 25, 24},
		{"before the first: it, and Min", ramp, 0, 0, 5, 0, 0},
		{"the first", ramp, 0, 0, 1000, 0, 0},
		{"the last", ramp, 0, 0, 1240, 24, 24},
		{"exactly one", ramp, 0, 0, 1050, 5, 5},
		{"between two", ramp, 0, 0, 1055, 6, 5},
		{"last of a file", ramp, 0, 0, 1090, 9, 9},
		{"between two files", ramp, 0, 0, 1095, 10, 9},
		{"first of a file", ramp, 0, 0, 1100, 10, 10},
		{"several in one millisecond", equal, 0, 0, 1070, 7, 13},
		{"just before them", equal, 0, 0, 1069, 7, 6},
		{"just after them", equal, 0, 0, 1071, 14, 13},
		{"all in one millisecond", same, 0, 0, 1000, 0, 34},
		{"all of them later", same, 0, 0, 999, 0, 0},
		{"all of them earlier", same, 0, 0, 1001, 35, 34},
		{"begins at 7: before the first", ramp, 7, 0, 5, 7, 7},
		{"begins at 7: between two", ramp, 7, 0, 1055, 13, 12},
		{"begins at 7: after the last", ramp, 7, 0, 2000, 32, 31},
		{"expired: before Min", ramp, 0, 13, 1055, 13, 13},
		{"expired: Min", ramp, 0, 13, 1130, 13, 13},
		{"expired: after Min", ramp, 0, 13, 1135, 14, 13},
		{"expired: all, after", ramp, 0, 25, 2000, 25, 25},
		{"expired: all, before", ramp, 0, 25, 5, 25, 25},
		{"blank: at its place", gaps, 0, 0, 1030, 4, 2},
		{"blank: over the end of a file", gaps, 0, 0, 1100, 12, 8},
		{"blank: at the end", gaps, 0, 0, 1235, 25, 23},
		{"blank: after the end", gaps, 0, 0, 9999, 25, 23},
		{"no message", nil, 0, 0, 1000, 0, 0},
		{"one message, earlier", []int64{1000}, 0, 0, 1001, 1, 0},
		{"one message, then", []int64{1000}, 0, 0, 1000, 0, 0},
		{"one message, later", []int64{1000}, 0, 0, 999, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := timed(t, tt.first, tt.times)
			require.NoError(t, q.CorrectMin(message.Offset(tt.expired*recSize)))
			lower, err := q.OffsetByTime(tt.ms, Lower)
			require.NoError(t, err)
			require.EqualValues(t, tt.lower, lower, "lower")
			upper, err := q.OffsetByTime(tt.ms, Upper)
			require.NoError(t, err)
			require.EqualValues(t, tt.upper, upper, "upper")
		})
	}
}

// Each answer is that of a search which looks at every message.
func TestOffsetByTimeAgainstLinearSearch(t *testing.T) {
	t.Parallel()
	times := []int64{}
	for i := range int64(60) {
		ms := 1000 + i/3*7
		if i%11 == 4 || i >= 30 && i < 42 {
			ms = -1
		}
		times = append(times, ms)
	}
	q := timed(t, 0, times)
	for ms := int64(990); ms < 1150; ms++ {
		lower, upper := int64(len(times)), int64(0)
		for i := len(times) - 1; i >= 0; i-- {
			if times[i] >= ms {
				lower = int64(i)
			}
		}
		for i := range times {
			if times[i] >= 0 && times[i] <= ms {
				upper = int64(i)
			}
		}
		got, err := q.OffsetByTime(ms, Lower)
		require.NoError(t, err)
		require.EqualValues(t, lower, got, "lower of %d", ms)
		got, err = q.OffsetByTime(ms, Upper)
		require.NoError(t, err)
		require.EqualValues(t, upper, got, "upper of %d", ms)
	}
}

func TestOffsetByTimeWithoutTimes(t *testing.T) {
	t.Parallel()
	broken := errors.New("record is damaged")
	var cause error
	expired := message.Offset(0)
	q, _ := newQueue(t, func(o *Options) {
		o.StoreTime = func(off message.Offset, _ int32) (int64, error) {
			if off < expired {
				return 0, fmt.Errorf("the log begins at %d: %w", expired, mappedfile.ErrExpired)
			}
			return int64(off), cause
		}
	})
	put(t, q, 0, 25)
	cause = broken
	_, err := q.OffsetByTime(1000, Lower)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "orders/0")

	cause, expired = nil, 900 // the log lost a file, and Min doesn't know yet
	at, err := q.OffsetByTime(500, Lower)
	require.NoError(t, err)
	require.EqualValues(t, 9, at)

	plain, _ := newQueue(t)
	_, err = plain.OffsetByTime(0, Upper)
	require.ErrorIs(t, err, ErrNoStoreTime)
}

func TestCorrectMin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		make   func(*testing.T, *Queue)
		logMin message.Offset
		want   int64
	}{
		{"log begins at 0", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 0, 0},
		{"at the begin of a record", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 1200, 12},
		{"within a record", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 1201, 13},
		{"the last record", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 2400, 24},
		{"behind it", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 2401, 25},
		{"far behind it", func(t *testing.T, q *Queue) { put(t, q, 0, 25) }, 1 << 40, 25},
		{"empty", func(*testing.T, *Queue) {}, 1200, 0},
		{"blank part is no message, log begins at 0", func(t *testing.T, q *Queue) { put(t, q, 17, 25) }, 0, 17},
		{"blank part is no message", func(t *testing.T, q *Queue) { put(t, q, 17, 25) }, 1, 17},
		{"begins at 17", func(t *testing.T, q *Queue) { put(t, q, 17, 25) }, 1801, 19},
		{"into a filled part", func(t *testing.T, q *Queue) {
			put(t, q, 0, 8)
			require.NoError(t, q.Fill(22))
			put(t, q, 22, 30)
		}, 800, 22},
		{"behind it, blank ones at the end", func(t *testing.T, q *Queue) {
			put(t, q, 0, 8)
			require.NoError(t, q.Fill(22))
		}, 800, 22},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, d := newQueue(t)
			tt.make(t, q)
			was := int64(q.Max())
			require.NoError(t, q.CorrectMin(tt.logMin))
			requireRange(t, q, tt.want, was)
			require.NoError(t, q.CorrectMin(0))
			require.EqualValues(t, tt.want, q.Min(), "never down")

			// After a restart it is the same.
			require.NoError(t, q.set.Flush())
			again := openSet(t, d.KillClone())
			require.NoError(t, again.Recover(1<<50, TrustOrder, 1))
			if r := again.Get(topic, 0); r != nil && r.Max() == q.Max() {
				require.NoError(t, r.CorrectMin(tt.logMin))
				requireRange(t, r, tt.want, was)
			}
		})
	}
}

// The example of RocketMQ's own ConsumeQueueTest: 10,000 entries of 100 bytes.
func TestCorrectMinOfManyFiles(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t)
	put(t, q, 0, 10_000)
	require.NoError(t, q.CorrectMin(2000))
	requireRange(t, q, 20, 10_000)
	require.NoError(t, q.CorrectMin(777_777))
	requireRange(t, q, 7778, 10_000)
}

func TestRemoveBefore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		first  int64
		to     int64
		fill   message.QueueOffset // 0 for none
		logMin message.Offset
		files  int // removed
		min    int64
	}{
		{"nothing", 0, 35, 0, 0, 0, 0},
		{"the last entry of a file is needed", 0, 35, 0, 900, 0, 9},
		{"it isn't any more", 0, 35, 0, 901, 1, 10},
		{"two files and a bit", 0, 35, 0, 2301, 2, 24},
		{"never the last file", 0, 35, 0, 1 << 40, 3, 35},
		{"never the last file, though it is full", 0, 30, 0, 1 << 40, 2, 30},
		{"one file", 0, 10, 0, 1 << 40, 0, 10},
		{"begins at 7", 7, 35, 0, 1200, 1, 12},
		{"a blank end of a file, and blank files", 0, 5, 32, 401, 3, 32},
		{"a needed entry before a blank end", 0, 5, 32, 400, 0, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, d := newQueue(t)
			put(t, q, tt.first, tt.to)
			want := entries(tt.min, tt.to)
			if tt.fill > 0 {
				require.NoError(t, q.Fill(tt.fill))
				put(t, q, int64(tt.fill), 35)
				want = nil // checked below
			}
			es, err := q.Read(q.Min(), 1)
			require.NoError(t, err)
			was := q.files.Len()

			n, err := q.RemoveBefore(tt.logMin)
			require.NoError(t, err)
			require.Equal(t, tt.files, n)
			require.Equal(t, was-tt.files, q.files.Len())
			require.Len(t, names(t, d, queueDir(0)), was-tt.files)
			require.EqualValues(t, tt.min, q.Min())
			if want != nil {
				require.Equal(t, want, all(t, q))
			}
			require.Equal(t, entry(tt.first), es.At(0), "what was borrowed stays")
			es.Release()

			n, err = q.RemoveBefore(tt.logMin)
			require.NoError(t, err)
			require.Zero(t, n)
			if tt.files > 0 && tt.fill == 0 {
				requireLeftoversGo(t, d.KillClone(), tt.logMin)
			}
			put(t, q, int64(q.Max()), 48)
			require.NoError(t, q.set.Flush())

			again := openSet(t, d.DurableClone())
			require.NoError(t, again.Recover(1<<50, TrustNothing, 1))
			require.EqualValues(t, 48, again.Get(topic, 0).Max())
		})
	}
}

// requireLeftoversGo puts a file before the queue's first one, as a crash leaves
// it that came before it was removed: the queue removes it though its minimum is
// right already.
func requireLeftoversGo(t *testing.T, d *crashdisk.Disk, logMin message.Offset) {
	t.Helper()
	s := openSet(t, d)
	base := s.Get(topic, 0).files.Min()
	layFiles(t, d, queueDir(0), fileSize, base/EntrySize-10, reals(base/EntrySize-10, base/EntrySize))
	s = openSet(t, d)
	require.NoError(t, s.Recover(1<<50, TrustNothing, 1))
	q := s.Get(topic, 0)
	require.Equal(t, base-fileSize, q.files.Min())
	require.NoError(t, q.CorrectMin(logMin))
	n, err := q.RemoveBefore(logMin)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, base, q.files.Min())
}

func TestSearchErrorsNameTheQueue(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	layFiles(t, d, queueDir(0), fileSize, 0, reals(0, 25))
	s := openSet(t, d)
	q := s.Get(topic, 0)
	require.NoError(t, q.Recover(1<<50, TrustOrder))
	d.Inject(crashdisk.Fault{Op: crashdisk.OpOpen, Stays: true})
	_, err := q.RemoveBefore(1000)
	require.ErrorContains(t, err, "orders/0")
	require.ErrorContains(t, q.CorrectMin(1000), "orders/0")
	require.ErrorContains(t, q.Recover(1<<50, TrustOrder), "orders/0")
	require.ErrorContains(t, s.Recover(1<<50, TrustNothing, 3), "orders/0")
}
