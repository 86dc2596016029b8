// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dir     = "/store/stele/timeindex"
	logFile = 24 << 10 // length of a file of the log
)

// fakeLog is a commit log in memory, whose store times are what the test says.
type fakeLog struct {
	t       testing.TB
	files   *mappedfile.Queue
	records []message.Message
	end     message.Offset
}

func newFakeLog(t testing.TB) *fakeLog {
	t.Helper()
	q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "/log", FileSize: logFile, Disk: crashdisk.New()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = q.Close() })
	return &fakeLog{t: t, files: q}
}

// add appends a record with a body of n bytes.
func (l *fakeLog) add(stored int64, n int) *message.Message {
	l.t.Helper()
	m := message.Message{Topic: "T", Body: make([]byte, n), BornTimestamp: int64(len(l.records)), QueueOffset: message.QueueOffset(len(l.records))}
	for i := range m.Body {
		m.Body[i] = byte(stored) + byte(i)
	}
	rec, err := message.Encoder{}.Append(nil, &m)
	require.NoError(l.t, err)
	f := l.files.Last()
	if f == nil || f.End()-int64(l.end) < int64(len(rec)+message.FillerSize) {
		if f != nil && f.End() > int64(l.end) {
			b, err := f.Bytes()
			require.NoError(l.t, err)
			message.PutFiller(b[int64(l.end)-f.Base():], int(f.End()-int64(l.end)))
			l.end = message.Offset(f.End())
		}
		f, err = l.files.Add(int64(l.end))
		require.NoError(l.t, err)
		require.NoError(l.t, f.Reserve(logFile))
	}
	b, err := f.Bytes()
	require.NoError(l.t, err)
	message.Record(rec).Patch(l.end, m.QueueOffset, stored)
	copy(b[int64(l.end)-f.Base():], rec)
	var got message.Message
	require.NoError(l.t, (&message.Decoder{}).Decode(b[int64(l.end)-f.Base():], &got))
	l.end += message.Offset(len(rec))
	l.records = append(l.records, got)
	return &l.records[len(l.records)-1]
}

// cut takes away the records at and behind off.
func (l *fakeLog) cut(off message.Offset) {
	l.t.Helper()
	_, err := l.files.RemoveFrom(int64(off))
	require.NoError(l.t, err)
	if f := l.files.Find(int64(off)); f != nil {
		require.NoError(l.t, f.ZeroFrom(int64(off)-f.Base()))
	}
	l.records = slices.DeleteFunc(l.records, func(m message.Message) bool { return m.PhysicalOffset >= off })
	l.end = off
}

func (l *fakeLog) lo() message.Offset { return message.Offset(l.files.Min()) }

// Starts implements Log.
func (l *fakeLog) Starts() (starts []message.Offset) {
	for _, f := range l.files.Files() {
		starts = append(starts, message.Offset(f.Base()))
	}
	return starts
}

// ViewRecord implements Log.
func (l *fakeLog) ViewRecord(off message.Offset) (mappedfile.View, error) {
	i, ok := slices.BinarySearchFunc(l.records, off, func(m message.Message, off message.Offset) int {
		return int(m.PhysicalOffset - off)
	})
	if !ok {
		return mappedfile.View{}, message.ErrMagic
	}
	return l.files.View(int64(off), int64(l.records[i].Size))
}

// FirstStoredAt implements Log.
func (l *fakeLog) FirstStoredAt(_ context.Context, from, to message.Offset, ms int64) (message.Offset, bool, error) {
	first, _ := slices.BinarySearchFunc(l.records, from, func(m message.Message, off message.Offset) int {
		return int(m.PhysicalOffset - off)
	})
	for i := range l.records[first:] {
		m := &l.records[first+i]
		if m.PhysicalOffset < to && m.StoreTimestamp >= ms {
			return m.PhysicalOffset, true, nil
		}
	}
	return 0, false, nil
}

// grow appends n records. Where steady, store times grow; otherwise the clock is
// set back now and then, and ahead.
func (l *fakeLog) grow(rng *rand.Rand, n int, steady bool) {
	now := int64(1_700_000_000_000)
	if len(l.records) > 0 {
		now = l.records[len(l.records)-1].StoreTimestamp
	}
	for range n {
		now += rng.Int64N(20)
		if !steady && rng.IntN(30) == 0 {
			now += rng.Int64N(40_000) - 20_000
		}
		size := rng.IntN(300)
		if rng.IntN(20) == 0 {
			size = rng.IntN(6000)
		}
		l.add(now, size)
	}
}

// openIndex opens the index on disk, which is fed from what Recover says up to
// the end of the log.
func openIndex(t testing.TB, disk mappedfile.Disk, l *fakeLog, from message.Offset, o Options) *Index {
	t.Helper()
	o.Dir, o.Disk = dir, disk
	x, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Close() })
	at, err := x.Recover(from, l.lo(), l)
	require.NoError(t, err)
	require.LessOrEqual(t, at, from)
	feed(t, x, l, at, l.end)
	return x
}

func feed(t testing.TB, x *Index, l *fakeLog, from, to message.Offset) {
	t.Helper()
	for i := range l.records {
		if m := &l.records[i]; m.PhysicalOffset >= from && m.PhysicalOffset < to {
			require.NoError(t, x.Put(m))
		}
	}
}

// times are the times that a search is tried with.
func (l *fakeLog) times(rng *rand.Rand) []int64 {
	all := []int64{-1, 0, 1, 1 << 50, l.records[0].StoreTimestamp, l.records[len(l.records)-1].StoreTimestamp + 1}
	for range 60 {
		all = append(all, l.records[rng.IntN(len(l.records))].StoreTimestamp+rng.Int64N(3)-1)
	}
	return all
}

// requireScan requires that searches find what a scan finds.
func requireScan(t testing.TB, x *Index, l *fakeLog, rng *rand.Rand, to message.Offset) {
	t.Helper()
	for _, ms := range l.times(rng) {
		at, ok, _ := l.FirstStoredAt(context.Background(), l.lo(), to, ms)
		if !ok {
			at = to
		}
		got, err := Search(context.Background(), l, x, to, ms)
		require.NoError(t, err)
		require.Equal(t, ok, got.OK, "%d in [%d, %d): %+v, want %d", ms, l.lo(), to, got, at)
		require.Equal(t, at, got.Offset, "%d: %+v", ms, got)
	}
}
