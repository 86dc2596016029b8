// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCopiesThatAreTimed(t *testing.T) {
	t.Parallel()
	var c copyTimer
	for _, step := range []struct {
		end, flushes int64
		want         bool
		reason       string
	}{
		{100, 0, false, "the page that the log was started on counts as known"},
		{pageSize, 0, false, "up to its last byte"},
		{pageSize + 1, 0, true, "one byte on the next page"},
		{pageSize + 200, 0, false, "more on it"},
		{pageSize + 300, 1, true, "a flush began"},
		{pageSize + 400, 1, false, "it goes on"},
		{pageSize + 500, 2, true, "and ended"},
		{9 * pageSize, 2, true, "pages further on"},
	} {
		require.Equal(t, step.want, c.due(step.end, step.flushes), step.reason)
	}
}

func TestSlowCopies(t *testing.T) {
	t.Parallel()
	var l Log
	var w Waits
	now := time.Since(clockBase)
	l.endCopy(&w, -1, 100)
	require.Zero(t, w.Copy, "it was not timed")
	l.endCopy(&w, now-time.Millisecond, math.MaxInt32)
	require.Zero(t, w.Copy, "it was a long copy")
	l.endCopy(&w, now-time.Millisecond, 1000)
	require.GreaterOrEqual(t, w.Copy, time.Millisecond)
	require.EqualValues(t, -1, l.startCopy(nil, 9*pageSize), "nobody wants to know")
	require.EqualValues(t, -1, l.startCopy(&w, 9*pageSize), "not into a mapping")
	l.direct = true
	require.Positive(t, l.startCopy(&w, 9*pageSize))
}

func TestWaitForTheLock(t *testing.T) {
	t.Parallel()
	var l Log
	var w Waits
	l.lock(&w)
	l.mu.Unlock()
	require.Zero(t, w.Lock, "it was free")
	// It takes the other goroutine a while to come to the lock.
	for hold := time.Millisecond; w.Lock == 0; hold *= 2 {
		l.mu.Lock()
		done := make(chan struct{})
		go func() {
			l.lock(&w)
			l.mu.Unlock()
			close(done)
		}()
		<-time.After(hold)
		l.mu.Unlock()
		<-done
	}
}
