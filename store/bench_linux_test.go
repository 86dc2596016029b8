// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// threadTime returns the processor time of this thread in nanoseconds.
func threadTime(b *testing.B) int64 {
	b.Helper()
	var r unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_THREAD, &r))
	return r.Utime.Nano() + r.Stime.Nano()
}

// BenchmarkAppendWarm appends to a file that was warmed up as a whole before, so
// that it shows what an append itself costs. With -benchtime up to 3000000x all
// of the 128 bytes fit in the first file, and 900000x of the 1024. cpu-ns/op is the
// processor time of the appending thread, which other programs disturb less.
func BenchmarkAppendWarm(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			warm := make(chan struct{}, 8)
			s := benchStore(b, func(o *store.Options) {
				o.FileSize = 1 << 30
				o.Warmup.Mode = warmup.Populate
				o.Events.Warmed = func(i commitlog.WarmInfo) {
					if i.Done {
						warm <- struct{}{}
					}
				}
			})
			m := &message.Message{Topic: "orders", Body: make([]byte, size)}
			ctx := context.Background()
			for range 100 {
				if _, err := s.Append(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
			<-warm
			b.SetBytes(int64(size))
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ResetTimer()
			cpu := threadTime(b)
			for range b.N {
				if _, err := s.Append(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(threadTime(b)-cpu)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			require.NoError(b, s.WaitDispatched(ctx, s.Stats().Appended))
		})
	}
}
