// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkGroupCommit is an append that waits for its flush, beside a loop of
// bare writes and syncs on the same disk: what one producer alone can have.
func BenchmarkGroupCommit(b *testing.B) {
	const size = 1024
	b.Run("bare", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
		require.NoError(b, err)
		defer f.Close()
		_, err = f.Write(make([]byte, benchFile))
		require.NoError(b, err)
		require.NoError(b, f.Sync())
		rec := make([]byte, size)
		for i := int64(0); b.Loop(); i++ {
			_, err := f.WriteAt(rec, i*size%benchFile)
			if err == nil {
				err = unix.Fdatasync(int(f.Fd()))
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, producers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("%dproducers", producers), func(b *testing.B) {
			flushes := 0
			l := benchLog(b, nil, true)
			require.NoError(b, l.files.Flush(0, benchFile))
			l.o.OnFlush = func(FlushInfo) { flushes++ }
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for p := range producers {
				it := benchItem(b, size, true)
				wg.Go(func() {
					for i := p; i < b.N; i += producers {
						r, err := l.Append(it)
						if err == nil {
							err = l.WaitFlushed(context.Background(), r.End(), 5*time.Second)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(b.N)/float64(flushes), "msg/flush")
		})
	}
}
