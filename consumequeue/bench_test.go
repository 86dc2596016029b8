// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// diskQueue is a queue on the real file system.
func diskQueue(b *testing.B) *Queue {
	b.Helper()
	s, err := OpenSet(Options{Dir: b.TempDir(), FileSize: DefaultFileSize})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	q, err := s.GetOrCreate(topic, 0)
	require.NoError(b, err)
	return q
}

// Rolls and reservations are part of it: a file is 300,000 entries.
func BenchmarkPut(b *testing.B) {
	b.ReportAllocs()
	q := diskQueue(b)
	i := int64(0)
	for b.Loop() {
		if i%(10*DefaultFileSize/EntrySize) == 0 && i > 0 {
			b.StopTimer() // keep the disk small
			_, err := q.RemoveBefore(message.Offset(i * recSize))
			require.NoError(b, err)
			b.StartTimer()
		}
		if r, err := q.Put(message.QueueOffset(i), entry(i)); r != Appended || err != nil {
			b.Fatal(r, err)
		}
		i++
	}
}

// The same where every page has been touched: what Put itself costs.
func BenchmarkPutTouched(b *testing.B) {
	b.ReportAllocs()
	q := diskQueue(b)
	const last = DefaultFileSize/EntrySize - 1
	put(b, q, 0, last)
	i := int64(last)
	for b.Loop() {
		if i == last {
			q.max.Reset(0)
			i = 0
		}
		if r, err := q.Put(message.QueueOffset(i), entry(i)); r != Appended || err != nil {
			b.Fatal(r, err)
		}
		i++
	}
}

// What a dispatcher does for each record: find the queue, put.
func BenchmarkGetOrCreateAndPut(b *testing.B) {
	b.ReportAllocs()
	s := diskQueue(b).set
	i := int64(0)
	for b.Loop() {
		q, err := s.GetOrCreate(topic, int32(i%16))
		if err != nil {
			b.Fatal(err)
		}
		if r, err := q.Put(message.QueueOffset(i/16), entry(i)); r != Appended || err != nil {
			b.Fatal(r, err)
		}
		i++
	}
}

func BenchmarkRead32(b *testing.B) {
	b.ReportAllocs()
	q := diskQueue(b)
	put(b, q, 0, 10_000)
	sum, at := message.Offset(0), message.QueueOffset(0)
	for b.Loop() {
		es, err := q.Read(at, 32)
		if err != nil {
			b.Fatal(err)
		}
		for i := range es.Len() {
			sum += es.At(i).Offset
		}
		es.Release()
		at = (at + 32) % 9_000
	}
	require.Positive(b, sum)
}

func BenchmarkFlushOfOneEntry(b *testing.B) {
	q := diskQueue(b)
	i := int64(0)
	for b.Loop() {
		put(b, q, i, i+1)
		if err := q.set.Flush(); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// Opening 10,000 queues of 1,000 entries each, in files of RocketMQ's size.
func BenchmarkOpen10000Queues(b *testing.B) {
	const queues, kept = 10_000, 1000
	dir := b.TempDir()
	data := make([]byte, kept*EntrySize)
	for i := range int64(kept) {
		entry(i).Encode(data[i*EntrySize:])
	}
	for i := range queues {
		name := filepath.Join(dir, "topic-"+strconv.Itoa(i/8), strconv.Itoa(i%8), mappedfile.FileName(0))
		require.NoError(b, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(b, os.WriteFile(name, data, 0o644))
		require.NoError(b, os.Truncate(name, DefaultFileSize))
	}
	for name, how := range map[string]Trust{"order": TrustOrder, "nothing": TrustNothing} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				start := b.Elapsed()
				s, err := OpenSet(Options{Dir: dir})
				require.NoError(b, err)
				b.ReportMetric(float64(b.Elapsed()-start)/1e6, "open-ms")
				after := heap()
				opened := b.Elapsed()
				require.NoError(b, s.Recover(kept*recSize, how, runtime.GOMAXPROCS(0)))
				recovered := b.Elapsed()
				require.NoError(b, s.Trim(how, runtime.GOMAXPROCS(0)))
				b.ReportMetric(float64(recovered-opened)/1e6, "recover-ms")
				b.ReportMetric(float64(b.Elapsed()-recovered)/1e6, "trim-ms")
				b.ReportMetric(float64(after-before)/queues, "B/queue")
				require.EqualValues(b, kept, s.Get("topic-99", 3).Max())
				require.NoError(b, s.Close())
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
