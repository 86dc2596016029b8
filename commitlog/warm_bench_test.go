// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/latency"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/warmup"
)

// These run on the disk of the temporary directory (TMPDIR). Each round has new
// files. What is written through the page cache for the first time after memory
// was freed may take several times as long: compare the best rounds.

var warmBytes = flag.Int64("warm.file", 1<<30, "bytes of the files in the benchmarks of warm-up")

// warmWays are what is compared.
var warmWays = []struct {
	name string
	o    WarmOptions
}{
	{"off", WarmOptions{}},
	{"touch", WarmOptions{Plan: warmup.Plan{Mode: warmup.Touch}}},
	{"populate", WarmOptions{Plan: warmup.Plan{Mode: warmup.Populate}}},
	{"populate+lock", WarmOptions{Plan: warmup.Plan{Mode: warmup.Populate, Lock: true}}},
	{"window", WarmOptions{Plan: warmup.Plan{Mode: warmup.Populate}, Window: 4 << 20}},
}

// needs skips what the system refuses.
func needs(b *testing.B, o WarmOptions) {
	b.Helper()
	if err := warmup.CanLock(o.LockNeed(*warmBytes)); err != nil {
		b.Skip(err)
	}
}

// BenchmarkWarmPrepare is what it costs to make a file and to warm it up; with a
// window, what of that comes before the first append.
func BenchmarkWarmPrepare(b *testing.B) {
	for _, way := range warmWays {
		b.Run(way.name, func(b *testing.B) {
			needs(b, way.o)
			var sum warmup.Result
			for b.Loop() {
				q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: b.TempDir(), FileSize: *warmBytes, ReserveWhole: true})
				require.NoError(b, err)
				f, err := q.Add(0)
				require.NoError(b, err)
				to := *warmBytes
				if way.o.Window > 0 {
					to = min(to, way.o.Window)
				}
				r, err := f.Warm(context.Background(), way.o.Plan, 0, to)
				require.NoError(b, err)
				sum.Add(r)
				b.StopTimer()
				_, err = q.RemoveFrom(0)
				require.NoError(b, err)
				require.NoError(b, q.Close())
				b.StartTimer()
			}
			n := float64(b.N)
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/n, "ms/file")
			b.ReportMetric(float64(sum.MinorFaults+sum.MajorFaults)/n, "faults/file")
			b.ReportMetric(float64(sum.Resident)/(1<<20)/n, "resident-MiB")
			b.ReportMetric(float64(sum.Locked)/(1<<20)/n, "locked-MiB")
		})
	}
}

// warmLog is a log of which the first file is warm, as far as it is to be.
func warmLog(b *testing.B, o WarmOptions, fileSize int64) *Log {
	b.Helper()
	done := make(chan struct{}, 64)
	o.OnWarm = func(i WarmInfo) {
		if i.Done && i.Base == 0 {
			done <- struct{}{}
		}
	}
	l, err := Open(Options{
		Dir: filepath.Join(b.TempDir(), "commitlog"), FileSize: fileSize, PropertyCRC: true, Warm: o,
		FlushInterval: 50 * time.Millisecond,
	})
	require.NoError(b, err)
	require.NoError(b, l.Start(StartOptions{}))
	if l.o.Warm.wanted() && o.Window == 0 {
		<-done
	}
	return l
}

// BenchmarkWarmAppend is how long appends of 1 KiB take at full speed through a
// part of a file, beside a flusher that comes every 50 ms.
func BenchmarkWarmAppend(b *testing.B) {
	const part = 256 << 20
	for _, way := range warmWays {
		b.Run(way.name, func(b *testing.B) {
			needs(b, way.o)
			it := benchItem(b, 1024, true)
			var all latency.Histogram
			slow := 0
			for b.Loop() {
				b.StopTimer()
				l := warmLog(b, way.o, *warmBytes)
				var w Waits
				it.Waits = &w
				_, err := l.Append(it) // makes the file, where nobody asked for it
				require.NoError(b, err)
				b.StartTimer()
				for range min(part, *warmBytes-4096)/1024 - 2 {
					w = Waits{}
					start := time.Now()
					if _, err := l.Append(it); err != nil {
						b.Fatal(err)
					}
					all.Record(time.Since(start))
					if w.Copy > 0 {
						slow++
					}
				}
				b.StopTimer()
				require.NoError(b, l.Close())
				b.StartTimer()
			}
			s := all.Summary()
			b.ReportMetric(float64(s.P50.Nanoseconds())/1000, "p50-us")
			b.ReportMetric(float64(s.P99.Nanoseconds())/1000, "p99-us")
			b.ReportMetric(float64(s.P999.Nanoseconds())/1000, "p999-us")
			b.ReportMetric(float64(s.Max.Microseconds()), "max-us")
			b.ReportMetric(float64(slow)/float64(b.N), "cold-pages")
			b.ReportMetric(float64(s.Count)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkWarmRoll is the longest append that goes on to a new file, of ten
// that are filled at full speed.
func BenchmarkWarmRoll(b *testing.B) {
	const files = 10
	fileSize := max(*warmBytes/16, 1<<20)
	for _, way := range warmWays {
		b.Run(way.name, func(b *testing.B) {
			needs(b, way.o)
			it := benchItem(b, 1024, true)
			var rolls, all latency.Histogram
			var waited int
			for b.Loop() {
				b.StopTimer()
				l := warmLog(b, way.o, fileSize)
				l.o.OnRoll = func(i RollInfo) {
					if i.Waited {
						waited++
					}
				}
				var w Waits
				it.Waits = &w
				_, err := l.Append(it)
				require.NoError(b, err)
				b.StartTimer()
				for l.Appended() < message.Offset(files*fileSize)+1024 {
					w = Waits{}
					start := time.Now()
					if _, err := l.Append(it); err != nil {
						b.Fatal(err)
					}
					took := time.Since(start)
					all.Record(took)
					if w.Roll > 0 {
						rolls.Record(took)
					}
				}
				b.StopTimer()
				require.NoError(b, l.Close())
				b.StartTimer()
			}
			r, s := rolls.Summary(), all.Summary()
			b.ReportMetric(float64(r.Max.Microseconds()), "max-roll-us")
			b.ReportMetric(float64(r.P50.Microseconds()), "p50-roll-us")
			b.ReportMetric(float64(waited)/float64(b.N), "not-ready")
			b.ReportMetric(float64(s.Max.Microseconds()), "max-us")
			b.ReportMetric(float64(s.Count)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkWarmFirstFlush is how long the first flush of a warm file takes, of
// 1 MiB, and the longest of the next hundred.
func BenchmarkWarmFirstFlush(b *testing.B) {
	for _, way := range warmWays {
		b.Run(way.name, func(b *testing.B) {
			needs(b, way.o)
			it := benchItem(b, 1024, true)
			var first, later latency.Histogram
			for b.Loop() {
				l := warmLog(b, way.o, *warmBytes)
				for i := range min(100, *warmBytes>>20-2) {
					for range 1024 {
						if _, err := l.Append(it); err != nil {
							b.Fatal(err)
						}
					}
					start := time.Now()
					require.NoError(b, l.Flush(context.Background()))
					if took := time.Since(start); i == 0 {
						first.Record(took)
					} else {
						later.Record(took)
					}
				}
				require.NoError(b, l.Close())
			}
			b.ReportMetric(float64(first.Summary().Max.Microseconds())/1000, "first-ms")
			b.ReportMetric(float64(later.Summary().P50.Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(later.Summary().Max.Microseconds())/1000, "max-ms")
		})
	}
}
