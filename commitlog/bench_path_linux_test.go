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
	require.NoError(b, l.Start(0, 0, 0, true))
	return l
}

// BenchmarkPathAsync appends without waiting, while the flusher runs: per path
// and number of producers. Run it with -count to have the paths interleaved.
func BenchmarkPathAsync(b *testing.B) {
	for _, producers := range []int{1, 4} {
		for _, path := range []WritePath{WriteMmap, WritePool, WriteFile} {
			b.Run(fmt.Sprintf("%v/%dproducers", path, producers), func(b *testing.B) {
				var flushes, bytes int64
				l := pathLog(b, path, false, &flushes, &bytes)
				produce(b, l, producers, func(Result) error { return nil })
				b.ReportMetric(float64(l.Commits())/float64(b.N), "commits/op")
			})
		}
	}
}

// BenchmarkPathSync appends and waits for the flush, and then does with bare
// writes and syncs what its flushes did: as many bytes in as many steps, into the
// same kind of file. floor/s is what that would have made, ratio what of it was
// reached.
func BenchmarkPathSync(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		for _, path := range []WritePath{WriteMmap, WritePool, WriteFile} {
			b.Run(fmt.Sprintf("%v/%dproducers", path, producers), func(b *testing.B) {
				var flushes, bytes int64
				l := pathLog(b, path, true, &flushes, &bytes)
				took := produce(b, l, producers, func(r Result) error {
					return l.WaitFlushed(context.Background(), r.End(), 5*time.Second)
				})
				if b.N < 1000 {
					return
				}
				floor := bareCommits(b, flushes, bytes/max(1, flushes))
				b.ReportMetric(float64(b.N)/float64(flushes), "msg/flush")
				b.ReportMetric(float64(b.N)/took.Seconds(), "msg/s")
				b.ReportMetric(float64(b.N)/floor.Seconds(), "floor/s")
				b.ReportMetric(floor.Seconds()/took.Seconds(), "ratio")
			})
		}
	}
}

// bareCommits writes and syncs n times so many bytes, and says how long that
// took.
func bareCommits(b *testing.B, n, size int64) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	require.NoError(b, err)
	defer f.Close()
	_, err = f.Write(make([]byte, benchFile))
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	buf := make([]byte, size)
	steps := min(n, 2000)
	start := time.Now()
	for i := range steps {
		_, err := f.WriteAt(buf, i*size%(benchFile-size))
		if err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) * time.Duration(n) / time.Duration(steps)
}

// produce appends b.N records of 1 KiB from several goroutines and reports the
// median, the 99th and the 99.9th percentile of an append.
func produce(b *testing.B, l *Log, producers int, wait func(Result) error) time.Duration {
	b.Helper()
	const size = 1024
	all := make([][]time.Duration, producers)
	b.ReportAllocs()
	b.SetBytes(size)
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for p := range producers {
		it := benchItem(b, size, true)
		all[p] = make([]time.Duration, 0, b.N/producers+1)
		wg.Go(func() {
			for i := p; i < b.N; i += producers {
				begin := time.Now()
				r, err := l.Append(it)
				if err == nil {
					err = wait(r)
				}
				if err != nil {
					b.Error(err)
					return
				}
				all[p] = append(all[p], time.Since(begin))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	b.StopTimer()
	took99 := slices.Concat(all...)
	slices.Sort(took99)
	at := func(q float64) float64 { return float64(took99[int(q*float64(len(took99)-1))].Nanoseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-us")
	b.ReportMetric(at(0.99), "p99-us")
	b.ReportMetric(at(0.999), "p99.9-us")
	return took
}
