// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

func benchStore(b *testing.B, change ...func(*store.Options)) *store.Store {
	b.Helper()
	o := store.Options{FileSize: 256 << 20}
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(b.TempDir(), o)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	return s
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := benchStore(b)
			m := &message.Message{Topic: "orders", Body: make([]byte, size)}
			ctx := context.Background()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Append(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendProducers has several goroutines append to queues of their own.
func BenchmarkAppendProducers(b *testing.B) {
	for _, c := range []struct {
		mode      store.FlushMode
		producers int
	}{{store.FlushAsync, 4}, {store.FlushSync, 1}, {store.FlushSync, 64}} {
		b.Run(fmt.Sprintf("%v/%d", c.mode, c.producers), func(b *testing.B) {
			s := benchStore(b, func(o *store.Options) { o.Flush = c.mode })
			b.SetBytes(1024)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for p := range c.producers {
				wg.Go(func() {
					m := &message.Message{Topic: "orders", QueueID: int32(p), Body: make([]byte, 1024)}
					for i := p; i < b.N; i += c.producers {
						if _, err := s.Append(context.Background(), m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkFetch reads 32 messages of 1 KiB and looks at each.
func BenchmarkFetch(b *testing.B) {
	s := benchStore(b)
	m := &message.Message{Topic: "orders", Body: make([]byte, 1024)}
	m.SetTags("red")
	ctx := context.Background()
	const n = 32 * 100
	for range n {
		if _, err := s.Append(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.WaitDispatched(ctx, s.Stats().Appended))
	b.ReportAllocs()
	from := message.QueueOffset(0)
	for b.Loop() {
		batch, err := s.Fetch(ctx, "orders", 0, from, store.Limit{})
		if err != nil || batch.Len() != 32 {
			b.Fatal(batch, err)
		}
		for _, err := range batch.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
		from = (from + 32) % n
		batch.Release()
	}
}

// BenchmarkFetchRandom reads one message of 1 KiB at a time, by its offset in the
// queue, and looks at it.
func BenchmarkFetchRandom(b *testing.B) {
	s := benchStore(b)
	m := &message.Message{Topic: "orders", Body: make([]byte, 1024)}
	ctx := context.Background()
	const n = 100_000
	for range n {
		if _, err := s.Append(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.WaitDispatched(ctx, s.Stats().Appended))
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		batch, err := s.Fetch(ctx, "orders", 0, message.QueueOffset(r.IntN(n)), store.Limit{Messages: 1})
		if err != nil || batch.Len() != 1 {
			b.Fatal(batch, err)
		}
		for _, err := range batch.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
		batch.Release()
	}
}

// TestAllocations holds the promise of BenchmarkFetch, and that of
// BenchmarkAppend.
func TestAllocations(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{FileSize: 64 << 20})
	require.NoError(t, err)
	defer s.Close()
	ctx := context.Background()
	m := &message.Message{Topic: "orders", Body: make([]byte, 1024)}
	appends := testing.AllocsPerRun(1000, func() {
		if _, err := s.Append(ctx, m); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, s.WaitDispatched(ctx, s.Stats().Appended))
	fetches := testing.AllocsPerRun(100, func() {
		batch, err := s.Fetch(ctx, "orders", 0, 17, store.Limit{})
		if err != nil || batch.Len() != 32 {
			t.Error(batch, err)
			return
		}
		for _, err := range batch.All() {
			if err != nil {
				t.Error(err)
			}
		}
		batch.Release()
	})
	if raceEnabled {
		t.Skip("sync.Pool drops what it is given under the race detector")
	}
	require.Zero(t, appends)
	require.LessOrEqual(t, fetches, 1.0, "the Batch")
}

// BenchmarkDispatch is how fast messages of 128 bytes come into their queues.
func BenchmarkDispatch(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	batch := make([]*message.Message, 100)
	for i := range batch {
		batch[i] = &message.Message{Topic: "orders", QueueID: int32(i % 8), Body: make([]byte, 128)}
	}
	b.ResetTimer()
	for done := 0; done < b.N; done += len(batch) {
		if _, err := s.AppendBatch(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.WaitDispatched(ctx, s.Stats().Appended))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkOpenKilled opens a store of 2 GiB whose process was killed, with a
// warm page cache. Only the first opening of each kill counts.
func BenchmarkOpenKilled(b *testing.B) {
	dir := b.TempDir()
	const mib = 2048
	took := time.Duration(0)
	opened := 0
	for more := int64(0); b.Loop(); more++ {
		b.StopTimer()
		c, _, out := startChild(b, jobFill, dir, fmt.Sprint(mib+more))
		if line, err := out.ReadString('\n'); err != nil || line != "full\n" {
			b.Fatal(line, err)
		}
		require.NoError(b, c.Process.Kill())
		_, err := io.Copy(io.Discard, out)
		require.NoError(b, err)
		require.Error(b, c.Wait())
		b.StartTimer()
		start := time.Now()
		s, err := store.Open(dir, store.Options{})
		took += time.Since(start)
		opened++
		b.StopTimer()
		require.NoError(b, err)
		require.Equal(b, store.ProcessKilled, s.Stats().Recovery.Kind)
		require.GreaterOrEqual(b, s.Stats().Appended, message.Offset(mib<<20))
		require.NoError(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(opened), "ms/open")
}

// BenchmarkOpenManyQueues opens 10,000 queues.
func BenchmarkOpenManyQueues(b *testing.B) {
	*manyTopics = 1000
	dir := makeManyQueues(b)
	var took time.Duration
	var heap uint64
	n := 0
	for b.Loop() {
		d, h := openManyQueues(b, dir)
		took, heap, n = took+d, max(heap, h), n+1
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(n), "ms/open")
	b.ReportMetric(float64(heap>>20), "heap-MiB")
}
