// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package watermark

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAdvanceOnlyGrows(t *testing.T) {
	var m Mark
	m.Advance(5)
	m.Advance(3)
	require.EqualValues(t, 5, m.Load())
	m.Reset(2)
	require.EqualValues(t, 2, m.Load())
}

func TestWait(t *testing.T) {
	failed := errors.New("disk gone")
	stopped := errors.New("stopped")
	tests := []struct {
		name string
		act  func(m *Mark, cancel context.CancelCauseFunc)
		want error
	}{
		{"reached", func(m *Mark, _ context.CancelCauseFunc) { m.Advance(9); m.Advance(10) }, nil},
		{"overshot", func(m *Mark, _ context.CancelCauseFunc) { m.Advance(11) }, nil},
		{"failed", func(m *Mark, _ context.CancelCauseFunc) { m.Advance(9); m.Fail(failed) }, failed},
		{"cancelled", func(_ *Mark, c context.CancelCauseFunc) { c(stopped) }, stopped},
		{"timed out", func(*Mark, context.CancelCauseFunc) {}, ErrTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m Mark
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				got := make(chan error)
				go func() { got <- m.Wait(ctx, 10, time.Minute) }()
				synctest.Wait()
				tt.act(&m, cancel)
				require.ErrorIs(t, <-got, tt.want)
				require.Empty(t, m.waiters)
				require.Zero(t, m.waiting.Load())
			})
		})
	}
}

func TestWaitAfterFailure(t *testing.T) {
	var m Mark
	m.Advance(4)
	failed := errors.New("disk gone")
	m.Fail(failed)
	m.Fail(errors.New("later"))
	require.NoError(t, m.Wait(t.Context(), 4, 0), "what was reached before stays reached")
	require.ErrorIs(t, m.Wait(t.Context(), 5, 0), failed)
}

func TestEveryWaiterIsWoken(t *testing.T) {
	var m Mark
	var wg sync.WaitGroup
	const n = 2000
	for i := 1; i <= n; i++ {
		wg.Go(func() {
			if err := m.Wait(context.Background(), int64(i), 0); err != nil {
				t.Errorf("wait for %d: %v", i, err)
			}
			if m.Load() < int64(i) {
				t.Errorf("woken at %d before %d", m.Load(), i)
			}
		})
	}
	for i := 1; i <= n; i++ {
		wg.Go(func() { m.Advance(int64(i)) })
	}
	wg.Wait()
	require.Zero(t, m.waiting.Load())
}

func BenchmarkAdvance(b *testing.B) {
	var m Mark
	var v int64
	for b.Loop() {
		v++
		m.Advance(v)
	}
}

func BenchmarkWaitReached(b *testing.B) {
	b.ReportAllocs()
	var m Mark
	var v int64
	done := make(chan struct{})
	targets := make(chan int64)
	go func() {
		defer close(done)
		for t := range targets {
			m.Advance(t)
		}
	}()
	for b.Loop() {
		v++
		targets <- v
		if err := m.Wait(context.Background(), v, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
	close(targets)
	<-done
}
