// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// BenchmarkAppendBesideColdConsumers appends 10,000 messages a second, while as many
// consumers as there are processors read a file that is never in memory: scattered
// records as a store sends them; scattered records by touching the mapping, where a
// page fault keeps a processor; the file in order, as a replica pulls it. It says
// how long after they were due appends were done. The appending goroutine spins
// until the next one is due.
//
//	go test ./store -run '^$' -bench BesideColdConsumers -benchtime 30000x
func BenchmarkAppendBesideColdConsumers(b *testing.B) {
	const consumers, coldFile, perSecond = 2, 64 << 20, 10_000
	for _, c := range []struct {
		name    string
		consume func(ctx context.Context, s *store.Store, w io.Writer, seed uint64) (int64, error)
	}{
		{"nobody", nil},
		{"scattered", func(ctx context.Context, s *store.Store, w io.Writer, seed uint64) (int64, error) {
			return coldConsumer(ctx, s, w, delivery.Auto, seed)
		}},
		{"touching", func(ctx context.Context, s *store.Store, w io.Writer, seed uint64) (int64, error) {
			return coldConsumer(ctx, s, w, delivery.Copy, seed)
		}},
		{"range", coldRange},
	} {
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
			var sent atomic.Int64
			if c.consume != nil {
				for i := range consumers {
					here, there := connect(b, "tcp")
					require.NoError(b, here.(*net.TCPConn).SetWriteBuffer(1<<20))
					running.Go(func() { _, _ = io.Copy(io.Discard, there) })
					running.Go(func() {
						defer func() { _ = here.Close() }()
						for ctx.Err() == nil {
							n, err := c.consume(ctx, s, here, uint64(i))
							sent.Add(n)
							if err != nil && ctx.Err() == nil {
								b.Error(err)
								return
							}
						}
					})
				}
			}
			var took []time.Duration
			start := time.Now()
			for b.Loop() {
				due := time.Duration(len(took)) * time.Second / perSecond
				for time.Since(start) < due {
					runtime.Gosched()
				}
				_, err := s.Append(b.Context(), m)
				took = append(took, time.Since(start)-due)
				require.NoError(b, err)
			}
			elapsed := time.Since(start)
			cancel()
			running.Wait()
			slices.Sort(took)
			for name, at := range map[string]float64{"p50-ns": .5, "p99-ns": .99, "p99.9-ns": .999, "p99.99-ns": .9999} {
				b.ReportMetric(float64(took[int(float64(len(took))*at)]), name)
			}
			b.ReportMetric(float64(sent.Load())/1e6/elapsed.Seconds(), "consumed-MB/s")
		})
	}
}

// coldRange evicts the first file and sends it whole.
func coldRange(ctx context.Context, s *store.Store, w io.Writer, _ uint64) (int64, error) {
	f := s.Log().Files().First()
	v, err := f.View(0, f.Size())
	if err != nil {
		return 0, err
	}
	src := commitlog.Source(v)
	evictSource(&src)
	v.Release()
	return s.SendRange(ctx, w, message.Offset(f.Base()), message.Offset(f.End()))
}

func evictSource(src *delivery.Source) {
	_ = warmup.Advise(src.Data, warmup.DontNeed)
	_ = unix.Fadvise(int(src.File.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// coldConsumer sends a hundred responses of 32 scattered records of the first file,
// which it evicts before each.
func coldConsumer(ctx context.Context, s *store.Store, w io.Writer, m delivery.Method, seed uint64) (sent int64, err error) {
	sender := delivery.Sender{Guard: mappedfile.Guard}
	f := s.Log().Files().First()
	v, err := f.View(0, f.Size())
	if err != nil {
		return 0, err
	}
	defer v.Release()
	src := commitlog.Source(v)
	random := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano())))
	for range 100 {
		evictSource(&src)
		var runs []delivery.Run
		for range 32 {
			at := random.Int64N(f.Size() - 1024)
			runs = delivery.Append(runs, &src, at, at+1024)
		}
		n, err := sender.Send(ctx, w, runs, m)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
