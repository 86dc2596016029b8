// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"bytes"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// What RocketMQ wrote for the same calls: a queue that begins at 137, 100
// entries a file.
func TestPreBlankedFileIsRocketMQs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := OpenSet(Options{Dir: dir, FileSize: 2000})
	require.NoError(t, err)
	q := create(t, s, 3)
	r, err := q.Put(137, Entry{Offset: 0, Size: 128, TagsCode: 0x27A807})
	require.NoError(t, err)
	require.Equal(t, Appended, r)
	requireRange(t, q, 137, 138)
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())

	b, err := os.ReadFile(filepath.Join(dir, topic, "3", "00000000000000002000"))
	require.NoError(t, err)
	want := strings.Repeat("00000000000000007fffffff0000000000000000", 37) +
		"000000000000000000000080000000000027a807" + strings.Repeat("00", 62*EntrySize)
	require.Equal(t, want, hex.EncodeToString(b))
}

func TestPut(t *testing.T) {
	t.Parallel()
	q, d := newQueue(t)
	requireRange(t, q, 0, 0)
	require.Empty(t, d.Total(crashdisk.OpMkdirAll, crashdisk.AnyKind), "a queue in memory only")

	put(t, q, 0, 25)
	requireRange(t, q, 0, 25)
	require.Equal(t, entries(0, 25), all(t, q))
	require.Equal(t, []string{"00000000000000000000", "00000000000000000200", "00000000000000000400"}, names(t, d, queueDir(0)))
	require.Empty(t, d.Unreserved())

	tests := []struct {
		name string
		at   message.QueueOffset
		e    Entry
		want PutResult
		err  error
	}{
		{"the last once more", 24, entry(24), Duplicate, nil},
		{"the first once more", 0, entry(0), Duplicate, nil},
		{"something else where an entry is", 3, entry(99), Duplicate, nil},
		{"one too far", 26, entry(26), Gap, nil},
		{"far too far", 1 << 40, entry(26), Gap, nil},
		{"negative", -1, entry(26), 0, ErrOffsetOutOfRange},
		{"no position can express it", math.MaxInt64, entry(26), 0, ErrOffsetOutOfRange},
		{"blank", 25, blank, 0, ErrInvalidEntry},
		{"zero", 25, Entry{}, 0, ErrInvalidEntry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := q.Put(tt.at, tt.e)
			require.ErrorIs(t, err, tt.err)
			require.Equal(t, tt.want, r)
			requireRange(t, q, 0, 25)
			require.Equal(t, entries(0, 25), all(t, q))
		})
	}
}

func TestFirstPut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		at    int64
		file  int64 // entry number that the file begins with
		blank int
	}{
		{"at 0", 0, 0, 0},
		{"at 1", 1, 0, 1},
		{"last of the first file", 9, 0, 9},
		{"first of the second file", 10, 10, 0},
		{"in the middle of a far file", 1_000_007, 1_000_000, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, d := newQueue(t)
			put(t, q, tt.at, tt.at+1)
			requireRange(t, q, tt.at, tt.at+1)
			require.Equal(t, entries(tt.at, tt.at+1), all(t, q))
			require.Equal(t, []string{mappedfile.FileName(tt.file * EntrySize)}, names(t, d, queueDir(0)))
			want := bytes.Join(join(blanks(tt.blank), reals(tt.at, tt.at+1), zeros(perFile-1-tt.blank)), nil)
			require.Equal(t, want, content(t, d, tt.file))
			require.Empty(t, d.Unreserved())
			_, err := q.Read(message.QueueOffset(tt.at-1), 1)
			require.ErrorIs(t, err, ErrOffsetOutOfRange, "the blank part is below Min")
			put(t, q, tt.at+1, tt.at+perFile+2)
			require.Equal(t, entries(tt.at, tt.at+perFile+2), all(t, q))
		})
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		have, to int64
		lo, hi   int64 // afterwards
		blank    int   // among [lo, hi)
	}{
		{"one", 5, 6, 0, 6, 1},
		{"to the end of the file", 5, 10, 0, 10, 5},
		{"over three files", 5, 33, 0, 33, 28},
		{"from a full file on", 10, 12, 0, 12, 2},
		{"nothing", 5, 5, 0, 5, 0},
		{"backwards", 5, 2, 0, 5, 0},
		{"an empty queue begins elsewhere", 0, 33, 33, 33, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, d := newQueue(t)
			put(t, q, 0, tt.have)
			require.NoError(t, q.Fill(message.QueueOffset(tt.to)))
			requireRange(t, q, tt.lo, tt.hi)
			require.Empty(t, d.Unreserved())
			got := all(t, q)
			for i := range tt.blank {
				require.True(t, got[len(got)-1-i].IsBlank())
			}
			require.Equal(t, entries(0, int64(len(got)-tt.blank)), got[:len(got)-tt.blank])
			put(t, q, tt.hi, tt.hi+perFile)
			requireRange(t, q, tt.lo, tt.hi+perFile)
		})
	}
	q, _ := newQueue(t)
	require.ErrorIs(t, q.Fill(math.MaxInt64), ErrOffsetOutOfRange)
	require.ErrorIs(t, q.Fill(-1), ErrOffsetOutOfRange)
}

// A disk that is full at any moment loses nothing that was put before, changes
// nothing, and lets the same Put through once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const big = 1000 // entries a file: several reservations in each
	for _, op := range []crashdisk.Op{crashdisk.OpCreate, crashdisk.OpReserve, crashdisk.OpMkdirAll} {
		t.Run(op.String(), func(t *testing.T) {
			q, d := newQueue(t, func(o *Options) { o.FileSize = big * EntrySize })
			refused := 0
			for i := int64(7); i < 3500; i++ {
				d.Inject(crashdisk.Fault{Op: op, Err: syscall.ENOSPC})
				before, files := q.Max(), q.files.Len()
				r, err := q.Put(message.QueueOffset(i), entry(i))
				d.ClearFaults()
				if err != nil {
					refused++
					require.ErrorIs(t, err, mappedfile.ErrDiskFull)
					require.ErrorContains(t, err, "orders/0")
					require.Equal(t, before, q.Max())
					require.Equal(t, files, q.files.Len(), "no empty file stays behind")
					r, err = q.Put(message.QueueOffset(i), entry(i))
				}
				require.NoError(t, err)
				require.Equal(t, Appended, r)
			}
			require.GreaterOrEqual(t, refused, 4)
			require.Equal(t, entries(7, 3500), all(t, q))
			require.Empty(t, d.Unreserved())
		})
	}
}

func TestFillOnAFullDisk(t *testing.T) {
	t.Parallel()
	q, d := newQueue(t)
	put(t, q, 0, 5)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, After: 1, Err: syscall.ENOSPC, Stays: true})
	require.ErrorIs(t, q.Fill(35), mappedfile.ErrDiskFull)
	requireRange(t, q, 0, 20)
	require.Len(t, names(t, d, queueDir(0)), 2, "no empty file stays behind")
	d.ClearFaults()
	require.NoError(t, q.Fill(35))
	put(t, q, 35, 36)
	e, err := q.EntryAt(34)
	require.NoError(t, err)
	require.True(t, e.IsBlank())
}

func TestHotPathsAllocateNothing(t *testing.T) {
	q, _ := newQueue(t, func(o *Options) { o.FileSize = 1 << 20 / EntrySize * EntrySize })
	put(t, q, 0, 1)
	require.NoError(t, q.tail.file.ReserveAll())
	i := int64(1)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := q.Put(message.QueueOffset(i), entry(i)); err != nil {
			t.Fatal(err)
		}
		i++
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		es, err := q.Read(3, 32)
		if err != nil || es.Len() != 32 || es.At(31) != entry(34) {
			t.Fatal(err)
		}
		es.Release()
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if q.set.Get(topic, 0) != q {
			t.Fatal("another queue")
		}
	}))
}

func TestChangesToAReadOnlySet(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	layFiles(t, d, queueDir(0), fileSize, 0, reals(0, 25))
	s := openSet(t, d, readOnly)
	require.NoError(t, s.Recover(math.MaxInt64, TrustNothing, 1))
	q := s.Get(topic, 0)
	require.Equal(t, entries(0, 25), all(t, q))
	changes := map[string]func() error{
		"put":          func() error { _, err := q.Put(25, entry(25)); return err },
		"fill":         func() error { return q.Fill(30) },
		"trim":         func() error { return q.Trim(TrustNothing) },
		"trim all":     func() error { return s.Trim(TrustOrder, 1) },
		"remove files": func() error { _, err := q.RemoveBefore(2000); return err },
		"remove":       func() error { return s.Remove(topic, 0) },
		"remove topic": func() error { return s.RemoveTopic(topic) },
		"reset":        s.Reset,
		"flush all":    s.FlushAll,
		"put in a new queue": func() error {
			q, err := s.GetOrCreate("other", 1)
			require.NoError(t, err)
			_, err = q.Put(0, entry(0))
			return err
		},
	}
	for name, change := range changes {
		require.ErrorIs(t, change(), mappedfile.ErrReadOnly, name)
	}
	require.NoError(t, s.Flush(), "nothing changed")
	require.NoError(t, q.CorrectMin(1200), "in memory only")
	requireRange(t, q, 12, 25)
	require.Equal(t, []string{topic}, names(t, d, root))
	require.Len(t, names(t, d, queueDir(0)), 3)
}
