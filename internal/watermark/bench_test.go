// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package watermark

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkGroup has many goroutines take a number and wait until the mark has
// reached it, and one that moves the mark to the last number that was taken: a
// group commit without a disk. An operation is one wait.
func BenchmarkGroup(b *testing.B) {
	for _, waiters := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) {
			var m Mark
			var taken atomic.Int64
			kick := make(chan struct{}, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range kick {
					m.Advance(taken.Load())
				}
			}()
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range waiters {
				wg.Go(func() {
					for i := w; i < b.N; i += waiters {
						n := taken.Add(1)
						select {
						case kick <- struct{}{}:
						default:
						}
						if err := m.Wait(context.Background(), n, 5*time.Second); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			close(kick)
			<-done
		})
	}
}
