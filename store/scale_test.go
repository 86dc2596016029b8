// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

const (
	manyTopics, manyQueues = 1000, 10
	heapLimit              = 300 << 20
)

// makeManyQueues makes a store of 10,000 queues, each with some messages.
func makeManyQueues(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{FileSize: 16 << 20})
	require.NoError(t, err)
	for range 2 {
		for topic := range manyTopics {
			batch := make([]*message.Message, manyQueues)
			for q := range batch {
				batch[q] = msg(fmt.Sprintf("topic-%d", topic), int32(q), "a body")
			}
			_, err := s.AppendBatch(context.Background(), batch)
			require.NoError(t, err)
		}
	}
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	require.NoError(t, s.Close())
	return dir
}

// openManyQueues opens it and returns how long that took and the heap it needs.
func openManyQueues(t testing.TB, dir string) (time.Duration, uint64) {
	t.Helper()
	start := time.Now()
	s, err := store.Open(dir, store.Options{})
	took := time.Since(start)
	require.NoError(t, err)
	defer s.Close()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	require.Equal(t, manyTopics*manyQueues, s.Stats().Queues)
	require.Len(t, fetchAll(t, s, "topic-999", 9), 2)
	return took, mem.HeapAlloc
}

// TestManyQueues opens 10,000 queues.
func TestManyQueues(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 files")
	}
	start := time.Now()
	dir := makeManyQueues(t)
	t.Logf("made in %v", time.Since(start))
	took, heap := openManyQueues(t, dir)
	t.Logf("opened in %v with %d MiB of heap", took, heap>>20)
	require.Less(t, heap, uint64(heapLimit))
}
