// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestFirstStoredAt holds the walk through the headers against a scan of whole
// records, in a log that is sound and in one that is damaged.
func TestFirstStoredAt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := crashdisk.New()
		c := newClock()
		l := startLog(t, d, 8<<10, func(o *commitlog.Options) { o.Clock = c.Now })
		seq := commitlog.NewSequence(0)
		var starts []message.Offset
		for range 100 {
			c.Set(firstTime + int64(len(starts)*10) + rng.Int64N(10))
			m := &message.Message{Topic: "t", Body: make([]byte, rng.IntN(700))}
			rec, err := message.Encoder{PropertyCRC: true}.Append(nil, m)
			require.NoError(t, err)
			r, err := l.Append(commitlog.Item{Record: rec, Sequence: seq, Step: 1})
			require.NoError(t, err)
			starts = append(starts, r.Offset)
		}
		end := l.Appended()
		require.Len(t, l.Starts(), l.Files().Len())
		if seed%3 > 0 { // headers, store times, bodies
			for range rng.IntN(8) {
				off := starts[1+rng.IntN(len(starts)-1)] + message.Offset(rng.IntN(100))
				f := l.Files().Find(int64(off))
				b, err := f.Bytes()
				require.NoError(t, err)
				b[int64(off)-f.Base()] ^= 1 << rng.IntN(8)
			}
		}
		for range 100 {
			ms := firstTime + rng.Int64N(1100) - 20
			to := starts[rng.IntN(len(starts))]
			if rng.IntN(2) == 0 {
				to = end
			}
			want, there := message.Offset(0), false
			s := l.Scan(0, to, commitlog.ScanOptions{Check: message.CheckAll, Resync: commitlog.ResyncAlways})
			for s.Next() && !there {
				if it := s.Item(); it.Kind == commitlog.ItemRecord && it.Message.StoreTimestamp >= ms {
					want, there = it.Offset, true
				}
			}
			s.Close()
			at, ok, err := l.FirstStoredAt(context.Background(), 0, to, ms)
			require.NoError(t, err)
			require.Equal(t, there, ok, "seed %d: %d below %d", seed, ms, to)
			require.Equal(t, want, at, "seed %d: %d below %d", seed, ms, to)
		}
		ctx, stop := context.WithCancel(context.Background())
		stop()
		_, _, err := l.FirstStoredAt(ctx, 0, end, 0)
		require.ErrorIs(t, err, context.Canceled)
		_, err = l.RemoveBefore(end)
		require.NoError(t, err)
		_, _, err = l.FirstStoredAt(context.Background(), 0, end, 0)
		require.ErrorIs(t, err, mappedfile.ErrExpired)
	}
}
