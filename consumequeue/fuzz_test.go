// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// Bisection finds the same end as a look at every entry, wherever the entries
// lie in order.
func TestOrderedEndIsIntactEnd(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		size := 1 + rng.Int64N(3000)
		used := rng.Int64N(size + 1)
		u := units(make([]byte, size*EntrySize))
		at := message.Offset(0)
		for i := int64(0); i < used; i++ {
			if run := rng.Int64N(40); run == 0 {
				n := min(used-i, rng.Int64N(500))
				u[i*EntrySize : (i+n)*EntrySize].blankAll()
				if i += n; i == used {
					break
				}
			}
			e := Entry{at + message.Offset(rng.Int64N(50)), 1 + rng.Int32N(100), rng.Int64()}
			e.Encode(u[i*EntrySize:])
			at = e.End()
		}
		if used < size && rng.IntN(2) == 0 {
			copy(u[used*EntrySize:], tornUnit(1<<40))
		}
		for range 20 {
			below := message.Offset(rng.Int64N(int64(at) + 100))
			require.Equal(t, real(u, u.intactEnd(0, below)), real(u, u.orderedEnd(below)), "%d of %d, below %d", used, size, below)
		}
	}
}

// real is n without the blank entries that precede it.
func real(u units, n int64) int64 {
	for n > 0 && u.at(n-1).IsBlank() {
		n--
	}
	return n
}

// layout makes units of a program, so that a fuzzer gets past the first one: a
// byte is the next entry in order, or something that a crash or a stranger left.
func layout(program []byte) (us [][]byte) {
	next := int64(0)
	for _, b := range program {
		switch arg := int64(b >> 3); b % 8 {
		default:
			us = append(us, unit(next))
			next++
		case 4:
			us = append(us, blanks(int(arg))...)
		case 5:
			us = append(us, zeros(int(arg))...)
		case 6:
			us = append(us, tornUnit(next))
		case 7:
			next = arg * arg
		}
	}
	return us
}

func FuzzRecover(f *testing.F) {
	const noLimit = int64(everything)
	ten := make([]byte, 10)
	f.Add(bytes.Repeat(ten, 3), []byte{}, uint16(0), noLimit, true)
	f.Add(bytes.Repeat(ten, 3), []byte{}, uint16(3), int64(1234), false)
	f.Add([]byte{7<<3 | 4, 4<<3 | 7, 0, 0, 0, 0}, []byte{}, uint16(1), int64(2000), false)
	f.Add([]byte{0, 0, 0, 18<<3 | 4, 0, 0}, []byte{}, uint16(0), int64(300), true)
	f.Add([]byte{0, 0, 0, 3<<3 | 5, 0, 0, 0, 0, 0, 0, 6}, []byte("garbage"), uint16(0), noLimit, false)
	f.Add([]byte{30<<3 | 4}, []byte{}, uint16(9), int64(-1), true)
	f.Add([]byte{0, 0, 1<<3 | 7, 0, 0, 6, 0}, []byte{}, uint16(0), noLimit, false)
	f.Fuzz(func(t *testing.T, program, raw []byte, file uint16, limit int64, ordered bool) {
		data := append(bytes.Join(layout(program), nil), raw...)
		if len(data) == 0 || len(data) > 40*fileSize {
			return
		}
		d, below, how := crashdisk.New(), message.Offset(limit), TrustNothing
		if ordered {
			how = TrustOrder
		}
		first := int64(file) * perFile
		layFiles(t, d, queueDir(0), fileSize, first, [][]byte{data})
		s := openSet(t, d)
		q := s.Get(topic, 0)
		require.NoError(t, s.Recover(below, how, 1))
		lo, hi := q.Min(), q.Max()
		requireConsistent(t, q, below)

		require.NoError(t, s.Trim(how, 1))
		require.Equal(t, hi, q.Max())
		if how == TrustNothing && !q.empty {
			// Nothing is left that a second recovery could see otherwise.
			again := openSet(t, d.DurableClone())
			require.NoError(t, again.Recover(everything, TrustNothing, 1))
			requireRange(t, again.Get(topic, 0), int64(lo), int64(hi))
		}
		e := Entry{Offset: 1 << 60, Size: 100}
		for range 2*perFile + 1 {
			r, err := q.Put(q.Max(), e)
			require.NoError(t, err)
			require.Equal(t, Appended, r)
			e.Offset = e.End()
		}
		last, at, ok, err := q.Last()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, e.Offset, last.End())
		require.Equal(t, hi+2*perFile, at)
		require.Empty(t, d.Unreserved())
	})
}

// requireConsistent checks what holds for a recovered queue whatever its files
// were.
func requireConsistent(t *testing.T, q *Queue, below message.Offset) {
	t.Helper()
	lo, hi := q.Min(), q.Max()
	require.LessOrEqual(t, lo, hi)
	require.Equal(t, q.empty, lo == hi)
	if !q.empty {
		// The first entry may be damaged: there is a message all the same.
		e, err := q.EntryAt(lo)
		require.NoError(t, err)
		require.False(t, e.IsBlank(), "entry %d: %+v", lo, e)
		e, err = q.EntryAt(hi - 1)
		require.NoError(t, err)
		require.True(t, e.Valid(), "entry %d: %+v", hi-1, e)
		last, _, _, err := q.Last()
		require.NoError(t, err)
		require.LessOrEqual(t, last.End(), below)
	}
	require.Len(t, all(t, q), int(hi-lo))
	for _, logMin := range []message.Offset{0, below / 2, below} {
		require.NoError(t, q.CorrectMin(logMin))
		require.LessOrEqual(t, lo, q.Min())
		require.LessOrEqual(t, q.Min(), hi)
	}
	q.min.Store(int64(lo))
}
