// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/stelelog/stele/mappedfile"
)

// A floor is what the machine can do at best: a loop that does only the one
// thing that an append can't do without.

// The copies of a floor are measured for that long, or in that many mappings.
const (
	floorTime = 50 * time.Millisecond
	copyLaps  = 5
)

// pageSize is the step in which a mapping is touched; a larger page is touched
// more than once.
const pageSize = 4096

// mapped makes a file of size bytes with its blocks reserved, maps it, and
// touches every page for writing.
func mapped(path string, size int64) (mappedfile.Region, error) {
	r, err := mappedfile.OS().Create(path, size, mappedfile.Mapping{})
	if err != nil {
		return nil, err
	}
	if err := r.Reserve(0, size); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	data := r.Bytes()
	for at := int64(0); at < size; at += pageSize {
		data[at] = 0
	}
	return r, nil
}

// floor is what was measured of one: operations a second, and the processor time
// of each in nanoseconds, or 0.
type floor struct{ perSecond, cpu float64 }

// copyFloor measures how many records of n bytes one goroutine can copy in a
// second into a warmed mapping of size bytes: no log that is written through a
// mapping can take more. As in a log, each page is written once: a second lap
// would find the pages in the caches of the CPU, and be far too fast.
func copyFloor(ctx context.Context, dir string, n int, size int64) (f floor, err error) {
	runtime.LockOSThread() // for the processor time of the thread
	defer runtime.UnlockOSThread()
	size = max(size/pageSize*pageSize, int64(n+pageSize)/pageSize*pageSize)
	record := make([]byte, n)
	for i := range record {
		record[i] = byte(i)
	}
	copies, took, cpu := 0, time.Duration(0), time.Duration(0)
	for laps := 0; laps < copyLaps && took < floorTime; laps++ {
		if ctx.Err() != nil {
			return f, context.Cause(ctx)
		}
		d, c, err := copyLap(filepath.Join(dir, "floor"), record, size)
		if err != nil {
			return f, err
		}
		copies, took, cpu = copies+int(size)/n, took+d, cpu+c
	}
	return floor{perSecond: float64(copies) / took.Seconds(), cpu: float64(cpu) / float64(copies)}, nil
}

// copyLap fills a new mapping with copies of record, and says how long that took,
// and how much processor time.
func copyLap(path string, record []byte, size int64) (took, cpu time.Duration, err error) {
	r, err := mapped(path, size)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close(), os.Remove(path)) }()
	data, n := r.Bytes(), len(record)
	err = mappedfile.Guard(func() error {
		start, before := time.Now(), threadCPU()
		for pos := 0; pos+n <= len(data); pos += n {
			copy(data[pos:pos+n], record)
		}
		took, cpu = max(time.Since(start), 1), threadCPU()-before
		return nil
	})
	return took, cpu, err
}

// syncFloor returns how often a second n bytes can be written behind each other
// into a file of size bytes and synced, each time before the next: no log can
// make more batches of that length durable. The file's blocks are reserved and,
// with written, have been written once, which makes a sync cheaper. It ends
// after limit, or after syncs of them if that comes first.
func syncFloor(ctx context.Context, dir string, n, size int64, written bool, syncs int64, limit time.Duration) (perSecond float64, err error) {
	size = max(size, n)
	path := filepath.Join(dir, "floor")
	if err := prepared(path, size, written); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	batch := make([]byte, n)
	for i := range batch {
		batch[i] = byte(i)
	}
	const unmeasured = 3 // the first syncs meet what making the file left behind
	start, pos := time.Now(), int64(0)
	for i := int64(0); ; i++ {
		if i == unmeasured {
			start = time.Now()
		}
		if done := i - unmeasured; done > 0 && (done >= syncs || time.Since(start) >= limit) {
			return float64(done) / time.Since(start).Seconds(), nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if pos+n > size {
			pos = 0
		}
		if _, err := f.WriteAt(batch, pos); err != nil {
			return 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, err
		}
		pos += n
	}
}

// prepared makes the file of syncFloor, as the log's allocator would.
func prepared(path string, size int64, written bool) error {
	if written {
		r, err := mapped(path, size)
		if err != nil {
			return err
		}
		return errors.Join(r.Flush(0, size), r.Close())
	}
	r, err := mappedfile.OS().Create(path, size, mappedfile.Mapping{})
	if err != nil {
		return err
	}
	return errors.Join(r.Reserve(0, size), r.Flush(0, size), r.Close())
}
