// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

const (
	manyQueues = 10       // of each topic
	heapLimit  = 30 << 10 // of a queue, in bytes: 300 MiB for 10,000
)

var manyTopics = flag.Int("many.topics", 200, "topics of the store with many queues, which has ten of each; the benchmark has 1000")

// makeManyQueues makes a store of many queues, each with some messages.
func makeManyQueues(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{FileSize: 16 << 20})
	require.NoError(t, err)
	for range 2 {
		for topic := range *manyTopics {
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
	require.Equal(t, *manyTopics*manyQueues, s.Stats().Queues)
	require.Len(t, fetchAll(t, s, fmt.Sprintf("topic-%d", *manyTopics-1), 9), 2)
	return took, mem.HeapAlloc
}

// TestManyQueues opens a store of many queues.
func TestManyQueues(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of files")
	}
	start := time.Now()
	dir := makeManyQueues(t)
	t.Logf("made in %v", time.Since(start))
	took, heap := openManyQueues(t, dir)
	t.Logf("opened in %v with %d MiB of heap", took, heap>>20)
	require.Less(t, heap, uint64(heapLimit**manyTopics*manyQueues))
}
