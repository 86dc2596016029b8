// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// The benchmarks run on the disk of the temporary directory (TMPDIR). The
// mapping is reserved and every page of it touched, and the log is set back to
// its beginning when a file is full, so that what is measured is the append and
// not the making of files.

const benchFile = 64 << 20

// benchLog is a started log on a new file that is warm.
func benchLog(tb testing.TB, disk mappedfile.Disk, propertyCRC bool) *Log {
	tb.Helper()
	l, err := Open(Options{
		Dir: filepath.Join(tb.TempDir(), "commitlog"), Disk: disk, FileSize: benchFile, PropertyCRC: propertyCRC,
		FlushInterval: time.Hour,
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	file, err := l.files.Add(0)
	require.NoError(tb, err)
	data, err := file.Bytes()
	require.NoError(tb, err)
	for i := 0; i < len(data); i += pageSize {
		data[i] = 1
	}
	require.NoError(tb, l.Start(StartOptions{}))
	if disk == nil {
		clear(data) // warm again: Start has given the pages back
	}
	l.asked = true // no other file is wanted
	return l
}

// rewind sets the log back to its beginning when n more bytes don't fit.
func (l *Log) rewind(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.appended.Load() > benchFile-2*int64(n) {
		l.appended.Reset(0)
		l.committed.Reset(0)
	}
}

// bytes is the mapping of the file that is appended to.
func (l *Log) bytes(tb testing.TB) []byte {
	tb.Helper()
	data, err := l.tail.Bytes()
	require.NoError(tb, err)
	return data
}

func benchItem(tb testing.TB, size int, propertyCRC bool) Item {
	tb.Helper()
	m := &message.Message{Topic: "T", Body: bytes.Repeat([]byte("x"), size-message.MinRecordSize)}
	if propertyCRC {
		m.Body = m.Body[message.PropertyCRCLen:]
	}
	rec, err := message.Encoder{PropertyCRC: propertyCRC}.Append(nil, m)
	require.NoError(tb, err)
	require.Len(tb, rec, size)
	return Item{Record: rec, Sequence: NewSequence(0), Step: 1}
}

var benchSizes = []int{128, 1024}

func BenchmarkAppend(b *testing.B) {
	for _, size := range benchSizes {
		for _, crc := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/propertyCRC=%v", size, crc), func(b *testing.B) {
				l, it := benchLog(b, nil, crc), benchItem(b, size, crc)
				floor := copyFloor(l.bytes(b), it.Record)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if i%1024 == 0 {
						l.rewind(1024 * size)
					}
					if _, err := l.Append(it); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(floor, "copy-ns/op")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/floor, "x-copy")
			})
		}
	}
}

// copyFloor is what it costs to copy rec into the mapping and do nothing else,
// in nanoseconds: no append through a mapping can be faster.
func copyFloor(data []byte, rec []byte) float64 {
	const rounds = 4
	n, start := 0, time.Now()
	for range rounds {
		for pos := 0; pos+len(rec) <= len(data); pos += len(rec) {
			copy(data[pos:], rec)
			n++
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

func BenchmarkAppendParallel(b *testing.B) {
	const producers = 4
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dB/%dgoroutines", size, producers), func(b *testing.B) {
			l := benchLog(b, nil, true)
			floor := copyFloor(l.bytes(b), benchItem(b, size, true).Record)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			b.ResetTimer()
			var wg sync.WaitGroup
			for p := range producers {
				it := benchItem(b, size, true)
				wg.Go(func() {
					for i := p; i < b.N; i += producers {
						if i/producers%1024 == 0 {
							l.rewind(2 * 1024 * producers * size)
						}
						if _, err := l.Append(it); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/floor, "x-copy")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, size := range benchSizes {
		l, it := benchLog(b, nil, true), benchItem(b, size, true)
		for l.appended.Load()+int64(2*size) < benchFile {
			_, err := l.Append(it)
			require.NoError(b, err)
		}
		for _, check := range []message.Check{message.CheckNone, message.CheckBody, message.CheckAll} {
			b.Run(fmt.Sprintf("%dB/check=%d", size, check), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(l.appended.Load())
				for b.Loop() {
					s := l.Scan(0, l.Appended(), ScanOptions{Check: check})
					for s.Next() {
					}
					s.Close()
					if s.Stop().Offset != l.Appended() {
						b.Fatal(s.Stop())
					}
				}
			})
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	l, it := benchLog(t, crashdisk.New(), true), benchItem(t, 1024, true)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := l.Append(it); err != nil {
			t.Fatal(err)
		}
	}))
	items, results := []Item{it, it, it}, make([]Result, 3)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := l.AppendBatch(items, results); err != nil {
			t.Fatal(err)
		}
	}))
	s := l.Scan(0, l.Appended(), ScanOptions{Check: message.CheckAll})
	defer s.Close()
	require.True(t, s.Next())
	require.Zero(t, testing.AllocsPerRun(1000, func() { s.Next() }))
}
