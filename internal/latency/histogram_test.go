// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package latency_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/latency"
)

func TestEmpty(t *testing.T) {
	t.Parallel()
	var h latency.Histogram
	require.Equal(t, latency.Summary{}, h.Summary())
}

func TestOne(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, 1, 17, 1234567, time.Second, latency.Longest, latency.Longest + time.Hour} {
		var h latency.Histogram
		h.Record(d)
		s := h.Summary()
		require.EqualValues(t, 1, s.Count)
		require.Equal(t, d, s.Total)
		require.Equal(t, d, s.Max)
		for _, p := range []time.Duration{s.P50, s.P90, s.P99, s.P999, s.P9999} {
			require.LessOrEqual(t, p, d)
			require.GreaterOrEqual(t, p, min(d, latency.Longest))
		}
	}
	var h latency.Histogram
	h.Record(-time.Second)
	require.Equal(t, latency.Summary{Count: 1}, h.Summary())
}

// The percentiles are those of the sorted durations, to two digits.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{10, 1000, 50_000} {
		var h latency.Histogram
		all := make([]time.Duration, n)
		total := time.Duration(0)
		for i := range all {
			all[i] = time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
			total += all[i]
			h.Record(all[i])
		}
		slices.Sort(all)
		s := h.Summary()
		require.EqualValues(t, n, s.Count)
		require.Equal(t, total, s.Total)
		require.Equal(t, all[n-1], s.Max)
		for percent, got := range map[float64]time.Duration{50: s.P50, 90: s.P90, 99: s.P99, 99.9: s.P999} {
			rank := min(int(percent/100*float64(n)+0.5), n) - 1
			want := all[max(rank, 0)]
			require.InEpsilonf(t, float64(want), float64(got), 0.02, "%v of %d", percent, n)
		}
	}
}

func TestConcurrently(t *testing.T) {
	t.Parallel()
	var h latency.Histogram
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.Record(time.Duration(i))
				if i%100 == 0 {
					h.Summary()
				}
			}
		})
	}
	wg.Wait()
	s := h.Summary()
	require.EqualValues(t, 8000, s.Count)
	require.EqualValues(t, 8*999*500, s.Total)
	require.EqualValues(t, 999, s.Max)
}

func BenchmarkRecord(b *testing.B) {
	var h latency.Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Record(123456)
	}
}
