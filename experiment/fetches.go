// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// fetches is the experiment of Fetch: one store, whose log is one file of records
// of equal length, in turn of each queue.
type fetches struct {
	config  FetchConfig
	cases   []fetchCase
	results []fetchResult
	store   *store.Store
	view    mappedfile.View // of the log's file
	first   int64           // where the first record begins in it
	record  int64           // bytes
	sum     uint32          // of what the floor computed, so that the compiler leaves it in
}

// fetchResult is what the rounds of one case came to, each by round.
type fetchResult struct {
	perSecond, floor, ratio, allocs, cpu, floorCPU []float64
	latency                                        []*hdrhistogram.Histogram
	messages                                       int64
}

// place is where a batch begins.
type place struct {
	queue int32
	from  int64
}

func (e *fetches) open(ctx context.Context, dir string) (err error) {
	c := e.config
	e.store, err = store.Open(dir, store.Options{
		FileSize: int64(c.Messages)*int64(c.Size+recordOverhead) + 1<<20, Warmup: store.WarmupOptions{Mode: warmup.Off},
		Index: store.IndexOptions{Off: true}, CheckpointInterval: time.Hour,
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	m := &message.Message{Topic: topic, Body: make([]byte, c.Size)}
	for i := range m.Body {
		m.Body[i] = byte(i * 7)
	}
	for n := range c.Messages / c.Queues * c.Queues {
		m.QueueID = int32(n % c.Queues)
		at, err := e.store.Append(ctx, m)
		if err != nil {
			return err
		}
		if n == 0 {
			e.first, e.record = int64(at.Offset), int64(at.Size)
		}
		if int64(at.Offset) != e.first+int64(n)*e.record {
			return fmt.Errorf("record %d lies at %d, not behind the one before it", n, at.Offset)
		}
	}
	if err := errors.Join(e.store.Flush(ctx), e.store.WaitDispatched(ctx, e.store.Log().Appended())); err != nil {
		return err
	}
	f := e.store.Log().Files().First()
	e.first -= f.Base()
	e.view, err = f.View(0, f.Size())
	return err
}

func (e *fetches) close() error {
	e.view.Release()
	return e.store.Close()
}

// places lists the batches of a case in the order in which they are fetched: so
// many that each message would be read once.
func (e *fetches) places(k fetchCase) []place {
	perQueue := int64(e.config.Messages / e.config.Queues)
	batches := perQueue / int64(k.batch)
	all := make([]place, 0, batches*int64(e.config.Queues))
	random := rand.New(rand.NewPCG(1, 2)) // the same in each round
	for q := range int32(e.config.Queues) {
		for i := range batches {
			p := place{queue: q, from: i * int64(k.batch)}
			if k.order == Random {
				p = place{queue: random.Int32N(int32(e.config.Queues)), from: random.Int64N(perQueue - int64(k.batch) + 1)}
			}
			all = append(all, p)
		}
	}
	return all
}

// step measures a case once: its throughput, its latencies and its floor.
func (e *fetches) step(ctx context.Context, _ string, i int, keep bool) error {
	k := e.cases[i]
	places := e.places(k)
	floor, floorCPU, err := timed(func() error { return e.walk(ctx, k, places) })
	if err != nil {
		return err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took, cpu, err := timed(func() error { return e.read(ctx, k, places, nil) })
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	latency := newHistogram()
	if err := e.read(ctx, k, places, latency); err != nil {
		return err
	}
	if keep {
		r, n := &e.results[i], float64(len(places)*k.batch)
		r.messages = int64(n)
		r.perSecond = append(r.perSecond, n/took.Seconds())
		r.floor = append(r.floor, n/floor.Seconds())
		r.ratio = append(r.ratio, float64(floor)/float64(took))
		r.allocs = append(r.allocs, float64(after.Mallocs-before.Mallocs)/n)
		r.latency = append(r.latency, latency)
		if cpu > 0 && floorCPU > 0 {
			r.cpu, r.floorCPU = append(r.cpu, float64(cpu)/n), append(r.floorCPU, float64(floorCPU)/n)
		}
	}
	return nil
}

// timed returns how long do took, and its processor time.
func timed(do func() error) (took, cpu time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, before := time.Now(), threadCPU()
	err = do()
	return time.Since(start), threadCPU() - before, err
}

// read fetches the batches and decodes their messages, which verifies checksums.
// With a histogram it takes the time of each fetch until its batch is released.
func (e *fetches) read(ctx context.Context, k fetchCase, places []place, latency *hdrhistogram.Histogram) error {
	limit := store.Limit{Messages: k.batch, Bytes: k.batch * int(e.record)}
	for _, p := range places {
		var start time.Time
		if latency != nil {
			start = time.Now()
		}
		b, err := e.store.Fetch(ctx, topic, p.queue, message.QueueOffset(p.from), limit)
		if err != nil {
			return err
		}
		n := 0
		for _, failed := range b.All() {
			if err = failed; err != nil {
				break
			}
			n++
		}
		b.Release()
		if err == nil && n != k.batch {
			err = fmt.Errorf("%d messages from offset %d of queue %d instead of %d", n, p.from, p.queue, k.batch)
		}
		if err != nil {
			return err
		}
		if latency != nil {
			// It fails only for a value above longest, which no fetch lives to see.
			_ = latency.RecordValue(max(1, int64(time.Since(start))))
		}
	}
	return nil
}

// walk is the floor: the checksums of the same records, by their place in the file.
func (e *fetches) walk(ctx context.Context, k fetchCase, places []place) error {
	const often = 1024 // batches between looks at the context
	data, queues := e.view.Bytes(), int64(e.config.Queues)
	return mappedfile.Guard(func() error {
		for i, p := range places {
			if i%often == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			for j := range int64(k.batch) {
				at := e.first + ((p.from+j)*queues+int64(p.queue))*e.record
				e.sum ^= crc32.ChecksumIEEE(data[at : at+e.record])
			}
		}
		return nil
	})
}

var fetchColumns = []Column{
	{Name: "experiment"},
	{Name: "messages", Title: "MESSAGES"},
	{Name: "size", Title: "SIZE"},
	{Name: "queues", Title: "QUEUES"},
	{Name: "order", Title: "ORDER"},
	{Name: "batch", Title: "BATCH"},
	{Name: "msgsPerSec", Title: "MSGS/S"},
	{Name: "mbPerSec", Title: "MB/S", Decimals: 1},
	{Name: "p50us", Title: "P50 µs", Decimals: 2},
	{Name: "p99us", Title: "P99 µs", Decimals: 2},
	{Name: "p999us", Title: "P99.9 µs", Decimals: 1},
	{Name: "maxus", Title: "MAX µs", Decimals: 0},
	{Name: "allocsPerOp", Title: "ALLOCS/OP", Decimals: 2},
	{Name: "floorMsgsPerSec", Title: "FLOOR/S"},
	{Name: "ratioToFloor", Title: "RATIO", Decimals: 3},
	{Name: "cpuRatio", Title: "CPU RATIO", Decimals: 3},
	{Name: "cpuNsPerOp"},
	{Name: "floorCpuNsPerOp"},
	{Name: "ratioMin"},
	{Name: "ratioMax"},
	{Name: "msgsPerSecMin"},
	{Name: "msgsPerSecMax"},
	{Name: "floorSpread"},
	{Name: "rounds"},
}

// fill turns the results into the report's rows and distributions.
func (e *fetches) fill(r *Report, labels []string) {
	r.Columns, r.Labels = fetchColumns, labels
	var floors []spread
	for i := range e.results {
		res := &e.results[i]
		floors = append(floors, spreadOf(res.floor))
		r.Rows = append(r.Rows, res.row(e.cases[i], e.config, e.record))
		r.Distributions = append(r.Distributions, distribution(labels[i], i, res.latency))
	}
	r.Bars = Bars{
		Value: "msgsPerSec", Low: "msgsPerSecMin", High: "msgsPerSecMax", Floor: "floorMsgsPerSec",
		Title: "Throughput", Unit: "messages/s",
	}
	r.Notes = []string{
		fmt.Sprintf("Each figure is the median of %s; the cases took turns. MAX is the longest of all rounds.", plural(r.Rounds, "round")),
		"One goroutine fetches; the log is in memory. SIZE is the body; MB/S counts whole records. ALLOCS/OP is for a message.",
		"Latencies are of a fetch, until its messages are decoded and it is released. They come from a pass of their own: taking the time of each slows it down.",
		"FLOOR/S is a walk over the mapping that computes the checksum of the same records in the same order. CPU RATIO is the same in processor time of the thread, which other programs disturb less.",
	}
	r.noise(floors)
}

func (r *fetchResult) row(k fetchCase, c FetchConfig, record int64) []any {
	perSecond, ratio, floor := spreadOf(r.perSecond), spreadOf(r.ratio), spreadOf(r.floor)
	at := func(p float64) any { return pointOf(p, r.latency).Value }
	var cpuRatio, cpu, floorCPU any
	if len(r.cpu) > 0 {
		own, least := spreadOf(r.cpu).median, spreadOf(r.floorCPU).median
		cpuRatio, cpu, floorCPU = rounded(least/own, 4), rounded(own, 1), rounded(least, 1)
	}
	return []any{
		"fetch", r.messages, int64(c.Size), int64(c.Queues), k.order, int64(k.batch),
		rounded(perSecond.median, 0), rounded(perSecond.median*float64(record)/1e6, 2),
		at(50), at(99), at(99.9), at(100), rounded(spreadOf(r.allocs).median, 3),
		rounded(floor.median, 0), rounded(perSecond.median/floor.median, 6),
		cpuRatio, cpu, floorCPU, rounded(ratio.low, 6), rounded(ratio.high, 6),
		rounded(perSecond.low, 0), rounded(perSecond.high, 0), rounded(floor.relative(), 3), int64(len(r.perSecond)),
	}
}
