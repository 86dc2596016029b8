// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func itoa(id int32) string { return strconv.Itoa(int(id)) }

func TestRead(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t)
	put(t, q, 3, 35)
	require.NoError(t, q.Fill(37))
	tests := []struct {
		name   string
		from   message.QueueOffset
		n      int
		want   int // entries; -1 for an OffsetError
		blanks int
	}{
		{"some", 5, 3, 3, 0},
		{"to the end of the file", 5, 5, 5, 0},
		{"not beyond the file", 5, 6, 5, 0},
		{"a whole file", 10, 1000, 10, 0},
		{"not beyond Max", 34, 1000, 3, 2},
		{"as many as there can be", 30, math.MaxInt, 7, 2},
		{"at Max", 37, 10, 0, 0},
		{"none", 5, 0, 0, 0},
		{"fewer than none", 5, -1, 0, 0},
		{"above Max", 38, 1, -1, 0},
		{"far above Max", math.MaxInt64, 1, -1, 0},
		{"below Min", 2, 1, -1, 0},
		{"negative", -1, 1, -1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			es, err := q.Read(tt.from, tt.n)
			if tt.want < 0 {
				var oe *OffsetError
				require.ErrorAs(t, err, &oe)
				require.ErrorIs(t, err, ErrOffsetOutOfRange)
				require.Equal(t, OffsetError{Topic: topic, From: tt.from, Min: 3, Max: 37}, *oe)
				require.Contains(t, err.Error(), "orders/0")
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, es.Len())
			require.Equal(t, tt.from, es.First())
			for i := range tt.want - tt.blanks {
				require.Equal(t, entry(int64(tt.from)+int64(i)), es.At(i))
			}
			for i := tt.want - tt.blanks; i < tt.want; i++ {
				require.True(t, es.At(i).IsBlank())
			}
			require.Panics(t, func() { es.At(tt.want) })
			es.Release()
		})
	}
	e, err := q.EntryAt(34)
	require.NoError(t, err)
	require.Equal(t, entry(34), e)
	for _, at := range []message.QueueOffset{2, 37, 38} {
		_, err = q.EntryAt(at)
		require.ErrorIs(t, err, ErrOffsetOutOfRange)
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		make func(*testing.T, *Queue)
		want int64 // -1 for none
	}{
		{"empty", func(*testing.T, *Queue) {}, -1},
		{"one", func(t *testing.T, q *Queue) { put(t, q, 0, 1) }, 0},
		{"begins at 7", func(t *testing.T, q *Queue) { put(t, q, 7, 8) }, 7},
		{"full file", func(t *testing.T, q *Queue) { put(t, q, 0, 10) }, 9},
		{"behind it only blank ones", func(t *testing.T, q *Queue) { put(t, q, 0, 5); require.NoError(t, q.Fill(33)) }, 4},
		{"empty, and begins elsewhere", func(t *testing.T, q *Queue) { require.NoError(t, q.Fill(33)) }, -1},
		{"all expired", func(t *testing.T, q *Queue) {
			put(t, q, 0, 25)
			require.NoError(t, q.CorrectMin(1<<40))
			requireRange(t, q, 25, 25)
		}, 24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q, _ := newQueue(t)
			tt.make(t, q)
			e, at, ok, err := q.Last()
			require.NoError(t, err)
			require.Equal(t, tt.want >= 0, ok)
			if ok {
				require.Equal(t, entry(tt.want), e)
				require.EqualValues(t, tt.want, at)
			}
		})
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	tests := []struct {
		name string
		act  func(t *testing.T, q *Queue, cancel context.CancelCauseFunc)
		past message.QueueOffset
		want error
	}{
		{"put", func(t *testing.T, q *Queue, _ context.CancelCauseFunc) { put(t, q, 3, 4) }, 3, nil},
		{"put before", func(*testing.T, *Queue, context.CancelCauseFunc) {}, 2, nil},
		{"filled", func(t *testing.T, q *Queue, _ context.CancelCauseFunc) { require.NoError(t, q.Fill(40)) }, 39, nil},
		{"failed", func(_ *testing.T, q *Queue, _ context.CancelCauseFunc) { q.Fail(stopped) }, 3, stopped},
		{"cancelled", func(_ *testing.T, _ *Queue, c context.CancelCauseFunc) { c(stopped) }, 3, stopped},
		{"for ever", func(t *testing.T, q *Queue, c context.CancelCauseFunc) { put(t, q, 3, 9); c(stopped) }, math.MaxInt64, stopped},
		{"closed", func(t *testing.T, q *Queue, _ context.CancelCauseFunc) { require.NoError(t, q.set.Close()) }, 3, mappedfile.ErrClosed},
		{"removed", func(t *testing.T, q *Queue, _ context.CancelCauseFunc) { require.NoError(t, q.set.Remove(topic, 0)) }, 3, ErrRemoved},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newQueue(t)
				put(t, q, 0, 3)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				got := make(chan error)
				go func() { got <- q.Wait(ctx, tt.past) }()
				synctest.Wait()
				tt.act(t, q, cancel)
				require.ErrorIs(t, <-got, tt.want)
			})
		})
	}
}

// Readers, searches, flushes and expiry beside the writer: whatever a reader
// gets is what was put, and an offset that is refused is out of range.
func TestReadersBesideTheWriter(t *testing.T) {
	t.Parallel()
	const total = 20_000
	s := openSet(t, crashdisk.New(), func(o *Options) {
		o.FileSize = 100 * EntrySize
		o.StoreTime = func(off message.Offset, _ int32) (int64, error) { return int64(off), nil }
	})
	q := create(t, s, 0)
	var done atomic.Bool
	var wg sync.WaitGroup
	beside := func(do func(rng *rand.Rand) error) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, 2))
			for !done.Load() {
				if err := do(rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		beside(func(rng *rand.Rand) error { return readSome(t, q, rng) })
	}
	beside(func(rng *rand.Rand) error {
		lo, hi := q.Min(), q.Max()
		at, err := q.OffsetByTime(rng.Int64N(total*recSize), Boundary(rng.IntN(2)))
		if err == nil && (at < lo || at > q.Max()) {
			t.Errorf("search by time: %d is outside [%d, %d]", at, lo, hi)
		}
		return err
	})
	beside(func(*rand.Rand) error { return s.Flush() })
	beside(func(rng *rand.Rand) error {
		_, err := q.RemoveBefore(message.Offset((int64(q.Max()) - 500) * recSize))
		return err
	})
	wg.Go(func() {
		for i := range int64(total) {
			if err := q.Wait(context.Background(), message.QueueOffset(i)); err != nil {
				t.Error(err)
			}
		}
	})
	put(t, q, 5, total)
	done.Store(true)
	wg.Wait()
	_, err := q.RemoveBefore((total - 500) * recSize)
	require.NoError(t, err)
	requireRange(t, q, total-500, total)
	require.Equal(t, 5, q.files.Len())
}

func readSome(t *testing.T, q *Queue, rng *rand.Rand) error {
	lo, hi := q.Min(), q.Max()
	if hi <= lo {
		return nil
	}
	from := lo + message.QueueOffset(rng.Int64N(int64(hi-lo)))
	es, err := q.Read(from, 32)
	if errors.Is(err, ErrOffsetOutOfRange) {
		if q.Min() <= from {
			t.Errorf("%v, but Min is %d", err, q.Min())
		}
		return nil
	}
	if err != nil {
		return err
	}
	for i := range es.Len() {
		if got, want := es.At(i), entry(int64(from)+int64(i)); got != want {
			t.Errorf("entry %d: %+v", int(from)+i, got)
		}
	}
	es.Release()
	return nil
}
