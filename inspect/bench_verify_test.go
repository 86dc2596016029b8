// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// verifyMiBEnv is how large the log of BenchmarkVerify is, in MiB. 4096 is what its
// goal is about; without it the log is small, and the benchmark quick.
const verifyMiBEnv = "STELE_BENCH_VERIFY_MIB"

// heapGoal is how much memory Verify may take beside the files that it maps.
const heapGoal = 200 << 20

// BenchmarkVerify checks a store of messages with bodies of 1 KiB, a tag and a key
// each, and compares that with the least that a check can do: reading the files of
// the log, in the same run and by one goroutine, with a CRC-32 over each body. The
// metrics are ratio, by the clock, and cpu-ratio, by the time that the process had
// of the processors, which other work on the machine does not change: 0.5 is the
// goal, half of that speed.
func BenchmarkVerify(b *testing.B) {
	mib := int64(16)
	if text := os.Getenv(verifyMiBEnv); text != "" {
		var err error
		mib, err = strconv.ParseInt(text, 10, 64)
		require.NoError(b, err)
	}
	dir := b.TempDir()
	n := benchStore(b, dir, mib<<20)
	// Both from the page cache, so it is not the disk that is measured.
	bytes := readBodies(b, dir, n)
	peak := uint64(0)
	d, err := inspect.Open(dir, inspect.Options{Progress: func(int64, int64) { peak = max(peak, heapNow()) }})
	require.NoError(b, err)
	runtime.GC()
	var checking, reading, checkingCPU, readingCPU time.Duration
	b.SetBytes(bytes)
	b.ResetTimer()
	for b.Loop() {
		start, cpu := time.Now(), cpuTime(b)
		sum, err := d.Verify(context.Background(), func(f *inspect.Finding) error { return errors.New(f.Detail) })
		checking += time.Since(start)
		checkingCPU += cpuTime(b) - cpu
		if err != nil || sum.Records != n || sum.Entries != n {
			b.Fatalf("%+v, %v", sum, err)
		}
		peak = max(peak, heapNow())
		b.StopTimer()
		start, cpu = time.Now(), cpuTime(b)
		readBodies(b, dir, n)
		reading += time.Since(start)
		readingCPU += cpuTime(b) - cpu
		b.StartTimer()
	}
	b.ReportMetric(reading.Seconds()/checking.Seconds(), "ratio")
	b.ReportMetric(readingCPU.Seconds()/checkingCPU.Seconds(), "cpu-ratio")
	b.ReportMetric(float64(bytes)*float64(b.N)/1e6/reading.Seconds(), "floor-MB/s")
	b.ReportMetric(float64(peak)/(1<<20), "peak-heap-MiB")
	if peak > heapGoal {
		b.Errorf("%d MiB of heap, the goal is %d", peak>>20, heapGoal>>20)
	}
}

// benchStore appends messages until the log is so many bytes long, and returns how
// many they are.
func benchStore(b *testing.B, dir string, size int64) (n int64) {
	b.Helper()
	s, err := store.Open(dir, store.Options{FileSize: min(1<<30, max(size/4, 1<<20))})
	require.NoError(b, err)
	body := make([]byte, 1024)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	batch := make([]*message.Message, 64)
	for end := message.Offset(0); int64(end) < size; {
		for i := range batch {
			m := &message.Message{Topic: fmt.Sprintf("topic-%d", n%8), QueueID: int32(n / 8 % 4), Body: body}
			m.SetTags("TagA")
			m.SetKeys("order-" + strconv.FormatInt(n, 10))
			batch[i] = m
			n++
		}
		at, err := s.AppendBatch(context.Background(), batch)
		require.NoError(b, err)
		end = at[len(at)-1].Offset
	}
	require.NoError(b, s.Close())
	return n
}

// readBodies reads the log's files and computes the checksum of n bodies. It returns
// how many bytes the records take.
func readBodies(b *testing.B, dir string, n int64) (bytes int64) {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
	require.NoError(b, err)
	buf := make([]byte, 4<<20)
	for _, path := range files {
		f, err := os.Open(path)
		require.NoError(b, err)
		kept := 0
		for done := false; !done; {
			got, err := io.ReadFull(f, buf[kept:])
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
			rest := buf[:kept+got]
			for !done && len(rest) >= message.FillerSize {
				size := int(binary.BigEndian.Uint32(rest))
				if magic := binary.BigEndian.Uint32(rest[4:]); magic != message.MagicV1 && magic != message.MagicV2 {
					done = true // a filler, or the end
				} else if size > len(rest) {
					break
				} else {
					checkBody(b, rest[:size])
					bytes += int64(size)
					rest = rest[size:]
					n--
				}
			}
			done = done || got == 0
			kept = copy(buf, rest)
		}
		require.NoError(b, f.Close())
	}
	require.Zero(b, n)
	return bytes
}

// checkBody computes the checksum over the body of a record with hosts of IPv4.
func checkBody(b *testing.B, rec []byte) {
	const atBodyCRC, atBodyLen = 8, 84
	body := rec[atBodyLen+4:][:binary.BigEndian.Uint32(rec[atBodyLen:])]
	if crc32.ChecksumIEEE(body)&0x7FFFFFFF != binary.BigEndian.Uint32(rec[atBodyCRC:]) {
		b.Fatal("a body with another checksum")
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heapNow is how much memory the heap takes, what is not given back included.
func heapNow() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64()
}
