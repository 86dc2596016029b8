// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// fillTimers appends n messages that wait for an hour.
func fillTimers(b *testing.B, dir string, n int) {
	s, err := store.Open(dir, store.Options{FileSize: 64 << 20})
	require.NoError(b, err)
	due := time.Now().Add(time.Hour)
	for i := 0; i < n; i += 500 {
		msgs := make([]*message.Message, 500)
		for k := range msgs {
			msgs[k] = msg("t", 0, string(make([]byte, 100)))
			msgs[k].SetDeliverAt(due.Add(time.Duration((i+k)*7919%100000) * time.Millisecond))
		}
		_, err := s.AppendBatch(context.Background(), msgs)
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())
}

// BenchmarkDelayOpen is how long it takes from Open until a store with 100,000
// messages that wait for a time delivers.
func BenchmarkDelayOpen(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	fillTimers(b, dir, n)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		s, err := store.Open(dir, store.Options{})
		require.NoError(b, err)
		for !s.Stats().Delay.Loaded {
			runtime.Gosched()
		}
		require.EqualValues(b, n, s.Stats().Delay.Timers)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.NoError(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/timer")
}
