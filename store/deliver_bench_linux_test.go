// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// BenchmarkAppendBesideColdConsumers appends while as many consumers as there are
// processors fetch scattered records of a file that is never in memory: as a store
// sends them, and by touching the mapping, where a page fault keeps a processor.
// It says how long appends took.
func BenchmarkAppendBesideColdConsumers(b *testing.B) {
	const consumers, coldFile = 2, 64 << 20
	for _, c := range []struct {
		name   string
		method delivery.Method
	}{{"nobody", delivery.Methods}, {"auto", delivery.Auto}, {"touching", delivery.Copy}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := store.Open(b.TempDir(), store.Options{FileSize: coldFile, Index: store.IndexOptions{Off: true}})
			require.NoError(b, err)
			defer func() { require.NoError(b, s.Close()) }()
			m := msg("orders", 0, string(make([]byte, 1000)))
			for s.Log().Files().Len() < 2 || s.Log().Appended() < coldFile+coldFile/16 {
				_, err := s.Append(b.Context(), m)
				require.NoError(b, err)
			}
			require.NoError(b, s.Flush(b.Context()))
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			if c.method != delivery.Methods {
				for i := range consumers {
					here, there := connect(b, "tcp")
					running.Go(func() { _, _ = io.Copy(io.Discard, there) })
					running.Go(func() {
						defer func() { _ = here.Close() }()
						coldConsumer(ctx, b, s, here, c.method, uint64(i))
					})
				}
			}
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				_, err := s.Append(b.Context(), m)
				took = append(took, time.Since(start))
				require.NoError(b, err)
			}
			cancel()
			running.Wait()
			slices.Sort(took)
			for name, at := range map[string]float64{"p50-ns": .5, "p99-ns": .99, "p99.9-ns": .999, "p99.99-ns": .9999} {
				b.ReportMetric(float64(took[int(float64(len(took))*at)]), name)
			}
		})
	}
}

// coldConsumer sends responses of 32 scattered records of the first file, which it
// evicts before each.
func coldConsumer(ctx context.Context, b *testing.B, s *store.Store, w io.Writer, m delivery.Method, seed uint64) {
	sender := delivery.Sender{Guard: mappedfile.Guard}
	f := s.Log().Files().First()
	v, err := f.View(0, f.Size())
	if err != nil {
		b.Error(err)
		return
	}
	defer v.Release()
	src := commitlog.Source(v)
	random := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		_ = warmup.Advise(src.Data, warmup.DontNeed)
		_ = unix.Fadvise(int(src.File.Fd()), 0, 0, unix.FADV_DONTNEED)
		var runs []delivery.Run
		for range 32 {
			at := random.Int64N(f.Size() - 1024)
			runs = delivery.Append(runs, &src, at, at+1024)
		}
		if _, err := sender.Send(ctx, w, runs, m); err != nil && ctx.Err() == nil {
			b.Error(err)
			return
		}
	}
}
