// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pathLog is a started log on a real disk, whose first file is written already:
// blocks that were never written cost a flush more.
func pathLog(b *testing.B, path WritePath, sync bool, flushes *int64, bytes *int64) *Log {
	b.Helper()
	l, err := Open(Options{
		Dir: filepath.Join(b.TempDir(), "commitlog"), FileSize: benchFile, PropertyCRC: true,
		WritePath: path, CommitOnFlush: sync,
		OnFlush: func(i FlushInfo) { *flushes++; *bytes += int64(i.To - i.From) },
	})
	require.NoError(b, err)
	b.Cleanup(func() { _ = l.Close() })
	file, err := l.files.Add(0)
	require.NoError(b, err)
	page := make([]byte, 1<<20)
	for at := int64(0); at < benchFile; at += int64(len(page)) {
		require.NoError(b, file.Write(at, page))
	}
	require.NoError(b, file.Flush(0, benchFile))
	require.NoError(b, l.Start(StartOptions{Clean: true}))
	return l
}

// BenchmarkPathAsync appends without waiting, while the flusher runs: per path
// and number of producers.
func BenchmarkPathAsync(b *testing.B) {
	for _, producers := range []int{1, 4} {
		for _, path := range []WritePath{WriteMmap, WritePool, WriteFile} {
			b.Run(fmt.Sprintf("%v/%dproducers", path, producers), func(b *testing.B) {
				var flushes, bytes int64
				l := pathLog(b, path, false, &flushes, &bytes)
				run := newRun(b, l, producers, func(Result) error { return nil })
				b.ResetTimer()
				run.round(b.N)
				b.StopTimer()
				run.report()
				b.ReportMetric(float64(l.Commits())/float64(b.N), "commits/op")
			})
		}
	}
}

// BenchmarkPathSync appends and waits for the flush. In between it does with bare
// writes and syncs what its flushes did: as many bytes in as many steps, into the
// same kind of file. floor/s is what that would have made, ratio what of it was
// reached; both had the same disk at the same time.
func BenchmarkPathSync(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		for _, path := range []WritePath{WriteMmap, WritePool, WriteFile} {
			b.Run(fmt.Sprintf("%v/%dproducers", path, producers), func(b *testing.B) {
				var flushes, bytes int64
				l := pathLog(b, path, true, &flushes, &bytes)
				run := newRun(b, l, producers, func(r Result) error {
					return l.WaitFlushed(context.Background(), r.End(), 5*time.Second)
				})
				bare := newBare(b)
				var floor time.Duration
				const rounds = 10
				b.ResetTimer()
				for i := range rounds {
					n, size := flushes, bytes
					run.round(b.N*(i+1)/rounds - b.N*i/rounds)
					b.StopTimer()
					floor += bare.commits(flushes-n, (bytes-size)/max(1, flushes-n))
					b.StartTimer()
				}
				b.StopTimer()
				run.report()
				b.ReportMetric(float64(b.N)/float64(flushes), "msg/flush")
				b.ReportMetric(float64(b.N)/floor.Seconds(), "floor/s")
				b.ReportMetric(floor.Seconds()/run.took.Seconds(), "ratio")
			})
		}
	}
}

// bare is a file to write and sync without anything else.
type bare struct {
	b    *testing.B
	file *os.File
	buf  []byte
	at   int64
}

func newBare(b *testing.B) *bare {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	require.NoError(b, err)
	b.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(make([]byte, benchFile))
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	return &bare{b: b, file: f, buf: make([]byte, benchFile/4)}
}

// commits writes and syncs n times size bytes.
func (w *bare) commits(n, size int64) time.Duration {
	start := time.Now()
	for range n {
		if w.at+size > benchFile {
			w.at = 0
		}
		_, err := w.file.WriteAt(w.buf[:min(size, int64(len(w.buf)))], w.at)
		if err == nil {
			err = unix.Fdatasync(int(w.file.Fd()))
		}
		if err != nil {
			w.b.Fatal(err)
		}
		w.at += size
	}
	return time.Since(start)
}

// run appends records of 1 KiB from several goroutines and times each.
type run struct {
	b     *testing.B
	log   *Log
	items []Item
	times [][]time.Duration
	wait  func(Result) error
	took  time.Duration
}

func newRun(b *testing.B, l *Log, producers int, wait func(Result) error) *run {
	b.Helper()
	const size = 1024
	b.ReportAllocs()
	b.SetBytes(size)
	r := &run{b: b, log: l, wait: wait, times: make([][]time.Duration, producers)}
	for p := range producers {
		r.items = append(r.items, benchItem(b, size, true))
		r.times[p] = make([]time.Duration, 0, b.N/producers+100)
	}
	return r
}

// round appends n records.
func (r *run) round(n int) {
	var wg sync.WaitGroup
	start := time.Now()
	for p := range r.items {
		wg.Go(func() {
			for i := p; i < n; i += len(r.items) {
				begin := time.Now()
				res, err := r.log.Append(r.items[p])
				if err == nil {
					err = r.wait(res)
				}
				if err != nil {
					r.b.Error(err)
					return
				}
				r.times[p] = append(r.times[p], time.Since(begin))
			}
		})
	}
	wg.Wait()
	r.took += time.Since(start)
}

// report says how many it were in a second, and the median and two percentiles of
// an append.
func (r *run) report() {
	all := slices.Concat(r.times...)
	slices.Sort(all)
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Nanoseconds()) / 1000 }
	r.b.ReportMetric(float64(len(all))/r.took.Seconds(), "msg/s")
	r.b.ReportMetric(at(0.5), "p50-us")
	r.b.ReportMetric(at(0.99), "p99-us")
	r.b.ReportMetric(at(0.999), "p99.9-us")
}
