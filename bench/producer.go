// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// producer appends messages of its own. It belongs to one goroutine at a time.
type producer struct {
	spec
	bodies *bodies
	to     appender
	most   int64 // messages
	n      int64 // that were appended by run
	// latency has nanoseconds of appends; nil where they are not timed.
	latency *hdrhistogram.Histogram
}

type producers []*producer

// warmAppends is what each producer appends before the clock starts: files are
// made and buffers grow.
const warmAppends = 64

func newProducers(e engine, s spec) (producers, error) {
	all := make(producers, s.Producers)
	for i := range all {
		to, err := e.appender(i)
		if err != nil {
			return nil, err
		}
		if a, ok := to.(interface{ vary(queues int, keys bool) }); ok {
			a.vary(s.Queues, s.Keys)
		}
		b, err := newBodies(i, s.Producers, s.Size)
		if err != nil {
			return nil, err
		}
		all[i] = &producer{spec: s, bodies: b, to: to, most: s.Messages / int64(s.Producers)}
		if s.Mode == durable {
			all[i].latency = hdrhistogram.New(1, int64(time.Minute), 3)
		}
	}
	return all, nil
}

func (p *producer) one() error {
	if p.Batch > 1 {
		return p.to.appendBatch(p.bodies.some(p.Batch))
	}
	return p.to.append(p.bodies.one())
}

// warm appends some batches, which do not count, and waits until they are done.
func (p *producer) warm() error {
	for range max(warmAppends, p.Queues) {
		if err := p.one(); err != nil {
			return err
		}
	}
	return p.to.settle()
}

// run appends until the time is over, or all is appended.
func (p *producer) run(start time.Time) error {
	if p.latency != nil {
		return p.runTimed(start)
	}
	const often = 32 // appends between looks at the clock
	for i := 0; p.n < p.most; i++ {
		if i%often == 0 && time.Since(start) >= p.Time {
			return nil
		}
		if err := p.one(); err != nil {
			return err
		}
		p.n += int64(p.Batch)
	}
	return nil
}

// runTimed takes the time of each append. It is for those that wait for a disk,
// where a look at the clock is nothing.
func (p *producer) runTimed(start time.Time) error {
	for from := time.Since(start); p.n < p.most && from < p.Time; {
		if err := p.one(); err != nil {
			return err
		}
		p.n += int64(p.Batch)
		now := time.Since(start)
		_ = p.latency.RecordValue(max(1, int64(now-from))) // only above a minute
		from = now
	}
	return nil
}

// together has all producers do something at once, and returns their errors.
func (ps producers) together(do func(*producer) error) error {
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = do(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sum adds up what was appended, and the latencies.
func (ps producers) sum(r *result) {
	var all *hdrhistogram.Histogram
	for _, p := range ps {
		r.Messages += p.n
		if p.latency == nil {
			continue
		}
		if all == nil {
			all = hdrhistogram.New(1, int64(time.Minute), 3)
		}
		all.Merge(p.latency)
	}
	if all == nil {
		return
	}
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	r.P50, r.P99, r.P999 = us(all.ValueAtQuantile(50)), us(all.ValueAtQuantile(99)), us(all.ValueAtQuantile(99.9))
	r.Max = us(all.Max())
}

func (ps producers) free() error {
	var err error
	for _, p := range ps {
		err = errors.Join(err, p.bodies.free())
	}
	return err
}
