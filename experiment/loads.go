// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// loads is an experiment that puts loads on stores: append and flush.
type loads struct {
	name    string
	matrix  Matrix
	config  AppendConfig
	durable bool // measure until all is flushed
	results []result
	idle    []*hdrhistogram.Histogram // of the loop that appends nothing, at a rate
}

// result is what the rounds of one case came to.
type result struct {
	Case
	messages, perSecond, mbPerSecond, dispatched, allocs []float64
	floor, ratio, perSync                                []float64
	faults, cpu, floorCPU                                []float64
	latency                                              []*hdrhistogram.Histogram
	warmup                                               store.WarmupStats
	waits                                                waits
}

func (e *loads) run(ctx context.Context) (*Report, error) {
	s, err := e.config.Schedule.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := e.config.check(); err != nil {
		return nil, err
	}
	if err := e.matrix.check(); err != nil {
		return nil, err
	}
	cases := e.matrix.cases()
	e.results = make([]result, len(cases))
	labels := make([]string, len(cases))
	for i, c := range cases {
		e.results[i].Case = c
		labels[i] = e.matrix.label(c)
	}
	r := s.report(e.name)
	if err := s.run(ctx, labels, e.step); err != nil {
		return nil, err
	}
	r.Took = time.Since(r.Time)
	e.fill(r, labels)
	return r, nil
}

// step measures a case once: its throughput, its latencies and its floor.
func (e *loads) step(ctx context.Context, dir string, i int, keep bool) error {
	k := e.results[i].Case
	l := e.config.load(k)
	l.durable = e.durable
	fileSize := e.config.fileSize(l)
	o := store.Options{FileSize: fileSize}

	// Where an append waits for a disk, or for its turn, a look at the clock is
	// nothing, and one pass tells both.
	l.timed = k.Flush == store.FlushSync || l.rate > 0
	p, err := e.pass(ctx, dir, o, l)
	if err != nil {
		return err
	}
	timed := p
	if !l.timed {
		l.timed = true
		if timed, err = e.pass(ctx, dir, o, l); err != nil {
			return err
		}
	}
	floor, err := e.floor(ctx, dir, p, k, fileSize)
	if err != nil {
		return err
	}
	if keep {
		e.results[i].add(p, timed, floor)
		if l.rate > 0 {
			e.idle = append(e.idle, idle(ctx, l))
		}
	}
	return nil
}

// pass measures a load on a store of its own, and removes that.
func (e *loads) pass(ctx context.Context, dir string, o store.Options, l load) (*pass, error) {
	dir = filepath.Join(dir, "store")
	p, err := measure(ctx, dir, o, l)
	if err != nil {
		return nil, err
	}
	if p.messages == 0 {
		return nil, fmt.Errorf("%w: no message was appended in %v", ErrConfig, l.duration)
	}
	return p, os.RemoveAll(dir)
}

// floor returns what the machine could do at best, in messages a second.
func (e *loads) floor(ctx context.Context, dir string, p *pass, k Case, fileSize int64) (floor, error) {
	n := p.recordSize()
	if !e.durable && k.Flush == store.FlushAsync {
		return copyFloor(ctx, dir, n, min(p.bytes, fileSize))
	}
	perSync := p.bytes / max(1, p.flushes)
	// A file that was warmed up as a whole has been written once.
	written := p.warmup.Mode != warmup.Off && p.warmup.Window == 0
	limit := min(e.config.load(k).duration, syncTime)
	if limit == 0 {
		limit = syncTime
	}
	syncs, err := syncFloor(ctx, dir, perSync, fileSize, written, max(p.flushes, 3), limit)
	return floor{perSecond: syncs * float64(perSync) / float64(n)}, err
}

// idle is the load without the store: how late the loop itself is at a rate.
func idle(ctx context.Context, l load) *hdrhistogram.Histogram {
	p := newProducer(nil, l, 0)
	start := time.Now()
	for i := range p.batches {
		due := p.due(i)
		p.await(ctx, start, due)
		_ = p.latency.RecordValue(max(1, int64(time.Since(start)-due))) // as in produceTimed
	}
	return p.latency
}

func (r *result) add(p, timed *pass, f floor) {
	seconds := p.elapsed.Seconds()
	r.messages = append(r.messages, float64(p.messages))
	r.perSecond = append(r.perSecond, p.perSecond())
	r.mbPerSecond = append(r.mbPerSecond, float64(p.bytes)/1e6/seconds)
	r.dispatched = append(r.dispatched, float64(p.messages)/p.dispatched.Seconds())
	r.allocs = append(r.allocs, float64(p.mallocs)/float64(p.messages))
	r.perSync = append(r.perSync, float64(p.bytes)/float64(max(1, p.flushes)))
	r.faults = append(r.faults, float64(p.faults))
	r.warmup = p.warmup
	r.floor = append(r.floor, f.perSecond)
	r.ratio = append(r.ratio, p.perSecond()/f.perSecond)
	if p.cpu > 0 && f.cpu > 0 {
		r.cpu = append(r.cpu, float64(p.cpu)/float64(p.messages))
		r.floorCPU = append(r.floorCPU, f.cpu)
	}
	r.latency = append(r.latency, timed.latency)
	r.waits.add(timed)
}

// The names of the columns from experiment to ratioToFloor are fixed: whoever
// reads the JSON counts on them.
var loadColumns = []Column{
	{Name: "experiment"},
	{Name: "messages", Title: "MESSAGES"},
	{Name: "size", Title: "SIZE"},
	{Name: "producers", Title: "PRODUCERS"},
	{Name: "batch", Title: "BATCH"},
	{Name: "flush", Title: "FLUSH"},
	{Name: "writePath", Title: "PATH"},
	{Name: "warmup", Title: "WARMUP"},
	{Name: "msgsPerSec", Title: "MSGS/S"},
	{Name: "mbPerSec", Title: "MB/S", Decimals: 1},
	{Name: "dispatchedMsgsPerSec", Title: "DISPATCHED/S"},
	{Name: "p50us", Title: "P50 µs", Decimals: 2},
	{Name: "p99us", Title: "P99 µs", Decimals: 2},
	{Name: "p999us", Title: "P99.9 µs", Decimals: 1},
	{Name: "p9999us", Title: "P99.99 µs", Decimals: 1},
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
	{Name: "bytesPerSync"},
	{Name: "faults"},
	{Name: "rate"},
	{Name: "rounds"},
}

// fill turns the results into the report's rows and distributions.
func (e *loads) fill(r *Report, labels []string) {
	r.Columns, r.Labels = slices.Concat(loadColumns, waitColumns()), labels
	var floors []spread
	for i := range e.results {
		res := &e.results[i]
		floor := spreadOf(res.floor)
		floors = append(floors, floor)
		r.Rows = append(r.Rows, res.row(e.name, floor, e.config.Rate))
		r.Distributions = append(r.Distributions, distribution(labels[i], i, res.latency))
	}
	if len(e.idle) > 0 {
		d := distribution("no append", -1, e.idle)
		r.Distributions = append(r.Distributions, d)
	}
	r.Bars = Bars{
		Value: "msgsPerSec", Low: "msgsPerSecMin", High: "msgsPerSecMax", Floor: "floorMsgsPerSec",
		Title: "Throughput", Unit: "messages/s",
	}
	r.Notes, r.Warnings = e.notes(r), e.refusals()
	r.noise(floors)
}

func (r *result) row(name string, floor spread, rate float64) []any {
	perSecond, ratio := spreadOf(r.perSecond), spreadOf(r.ratio)
	at := func(p float64) any { return pointOf(p, r.latency).Value }
	median := func(v []float64, digits int) any { return rounded(spreadOf(v).median, digits) }
	var cpuRatio, cpu, floorCPU any
	if len(r.cpu) > 0 {
		own, least := spreadOf(r.cpu).median, spreadOf(r.floorCPU).median
		cpuRatio, cpu, floorCPU = rounded(least/own, 4), rounded(own, 1), rounded(least, 1)
	}
	return append([]any{
		name, int64(spreadOf(r.messages).median), int64(r.Size), int64(r.Producers), int64(r.Batch),
		r.Flush.String(), r.WritePath.String(), r.warmedUp(),
		rounded(perSecond.median, 0), median(r.mbPerSecond, 2), median(r.dispatched, 0),
		at(50), at(99), at(99.9), at(99.99), at(100),
		median(r.allocs, 3), rounded(floor.median, 0), rounded(perSecond.median/floor.median, 6),
		cpuRatio, cpu, floorCPU, rounded(ratio.low, 6), rounded(ratio.high, 6), rounded(perSecond.low, 0), rounded(perSecond.high, 0),
		rounded(floor.relative(), 3), median(r.perSync, 0), median(r.faults, 0), rate, int64(len(r.perSecond)),
	}, r.waits.values()...)
}

// warmedUp names what the store did, which is less than was asked for where the
// system refused or the write path needs none.
func (r *result) warmedUp() string {
	o := store.WarmupOptions{Mode: r.warmup.Mode, Window: r.warmup.Window}
	if o.Mode != warmup.Off {
		o.Lock, o.Advise = r.Warmup.Lock, r.Warmup.Advise
	}
	return warmupName(o)
}

// refusals are what the system would not do for the warm-up, each once.
func (e *loads) refusals() []string {
	var all []string
	for i := range e.results {
		for _, refused := range e.results[i].warmup.Done.Refused {
			if text := "warm-up refused: " + refused.Error(); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

// notes say how the figures came about.
func (e *loads) notes(r *Report) []string {
	notes := []string{
		fmt.Sprintf("Each figure is the median of %s; the cases took turns. MAX is the longest of all rounds.", plural(r.Rounds, "round")),
		"SIZE is the body; MB/S, and the floor, count whole records.",
	}
	if e.durable || e.matrix.Flush[0] == store.FlushSync {
		notes = append(notes, "FLOOR/S is a loop of bare write and fdatasync, with as many bytes a sync as the store reached.")
	} else {
		notes = append(notes, "FLOOR/S is one goroutine that copies records of the same length into a warmed mapping.")
	}
	notes = append(notes, "WAITED FOR is the stage of the store at which the appends spent most time.")
	if !e.durable && e.config.Rate == 0 {
		notes = append(notes, "CPU RATIO is the same in processor time of the threads that append, which other programs on the machine disturb less.")
	}
	switch {
	case e.config.Rate > 0:
		notes = append(notes, "Latencies count from the moment an append was due. The distribution \"no append\" is the same loop without a store.")
		last := r.Distributions[len(r.Distributions)-1]
		for _, p := range last.Points {
			if p.Percentile == 99.9 {
				notes = append(notes, fmt.Sprintf("Without a store, the loop's own p99.9 was %.2f µs.", p.Value))
			}
		}
	case e.durable:
		notes = append(notes, "The clock of MSGS/S runs until everything is on disk, in asynchronous mode too.")
	default:
		notes = append(notes, "Throughput and latency come from separate passes: taking the time of each append would slow it down.")
	}
	return notes
}
