// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// load is what is done to a store in one pass.
type load struct {
	Case
	messages int           // at most
	duration time.Duration // at most; 0 is no bound
	// timed takes the time of every append. A clock is read twice for it, which
	// is a good part of a fast append: then throughput is measured in a pass of
	// its own.
	timed bool
	// rate is messages a second, at which they are due; 0 is full speed.
	rate float64
	// durable has the clock run until everything is flushed.
	durable bool
}

// pass is what a load came to.
type pass struct {
	messages   int64
	bytes      int64         // of records
	elapsed    time.Duration // until the last append returned, or all was durable
	dispatched time.Duration // until all of it was in the queues
	flushes    int64
	mallocs    uint64
	faults     int64 // page faults of the process, less those of warming up
	rolls      int64
	cpu        time.Duration // of the producers' threads; 0 if it was not measured
	longest    time.Duration // append that went on to a new file, if timed
	warmup     store.WarmupStats
	waited     waited
	latency    *hdrhistogram.Histogram // nanoseconds an append, or a batch; nil if not timed
}

func (p *pass) perSecond() float64 { return float64(p.messages) / p.elapsed.Seconds() }

// recordSize is the mean length of a record in bytes.
func (p *pass) recordSize() int { return int(p.bytes / p.messages) }

// topic has a queue for each producer.
const topic = "bench"

// warmBatches is what each producer appends before the clock starts: it makes
// the files and queues and grows the buffers.
const warmBatches = 64

// measure opens a store in dir, puts the load on it and closes it.
func measure(ctx context.Context, dir string, o store.Options, l load) (p *pass, err error) {
	o.WritePath, o.Warmup, o.Flush = l.WritePath, l.Warmup, l.Flush
	warm := make(chan struct{}, 1)
	o.Events.Warmed = func(i commitlog.WarmInfo) {
		if i.Done && i.Base == 0 {
			select {
			case warm <- struct{}{}:
			default:
			}
		}
	}
	s, err := store.Open(dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	producers := make([]*producer, l.Producers)
	for i := range producers {
		producers[i] = newProducer(s, l, i)
	}
	if err := l.begin(ctx, s, producers, warm); err != nil {
		return nil, err
	}
	return l.run(ctx, s, producers)
}

// begin brings a new store to where it would be in the middle of its work: files
// and queues are made, buffers have grown, and where whole files are warmed up
// the first one is. A load that waits for the disk has what was written for that
// on disk, too. Another one has not: a sync takes the right to write from every
// page of the file, so that appends meet page faults again; when that happens is
// for the store's flusher to say.
func (l load) begin(ctx context.Context, s *store.Store, producers []*producer, warm <-chan struct{}) error {
	if err := together(producers, func(p *producer) error { return p.warm(ctx) }); err != nil {
		return err
	}
	if w := s.Stats().Warmup; w.Mode != warmup.Off && w.Window == 0 {
		select {
		case <-warm:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.durable || l.Flush == store.FlushSync {
		// With one more, so that there is something to flush.
		if err := producers[0].append(ctx); err != nil {
			return err
		}
		if err := s.Flush(ctx); err != nil {
			return err
		}
	}
	return s.WaitDispatched(ctx, s.Stats().Appended)
}

// run is the part that is measured.
func (l load) run(ctx context.Context, s *store.Store, producers []*producer) (*pass, error) {
	runtime.GC() // nobody pays for the garbage of what came before
	before := s.Stats()
	minor, major := faults()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	start := time.Now()
	err := together(producers, func(p *producer) error { return p.produce(ctx, start) })
	if err == nil && l.durable {
		err = s.Flush(ctx)
	}
	elapsed := time.Since(start)
	if err != nil {
		return nil, err
	}
	runtime.ReadMemStats(&m1)
	minor1, major1 := faults()
	if err := s.WaitDispatched(ctx, s.Stats().Appended); err != nil {
		return nil, err
	}
	dispatched := time.Since(start)
	after := s.Stats()
	p := &pass{
		elapsed: elapsed, dispatched: dispatched,
		messages: after.AppendedMessages - before.AppendedMessages,
		bytes:    after.AppendedBytes - before.AppendedBytes,
		flushes:  after.Flushes - before.Flushes,
		mallocs:  m1.Mallocs - m0.Mallocs,
		rolls:    after.Rolls - before.Rolls,
		warmup:   after.Warmup,
		waited:   waitedSince(before.Waits, after.Waits),
	}
	warmed, was := after.Warmup.Done, before.Warmup.Done
	p.faults = max(0, minor1-minor+major1-major-
		(warmed.MinorFaults-was.MinorFaults)-(warmed.MajorFaults-was.MajorFaults))
	for _, pr := range producers {
		p.cpu += pr.cpu
	}
	if l.timed {
		p.latency = newHistogram()
		for _, pr := range producers {
			p.latency.Merge(pr.latency)
			p.longest = max(p.longest, pr.longest)
		}
	}
	return p, nil
}

// together runs do for all producers at once and returns the first error.
func together(producers []*producer, do func(*producer) error) error {
	errs := make([]error, len(producers))
	var wg sync.WaitGroup
	for i, p := range producers {
		wg.Go(func() { errs[i] = do(p) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// producer is one goroutine that appends to a queue of its own.
type producer struct {
	load
	s       *store.Store
	index   int
	batch   []*message.Message
	batches int // to append
	latency *hdrhistogram.Histogram
	longest time.Duration // of the appends that went on to a new file
	rolled  bool          // the last append did
	cpu     time.Duration // of this goroutine, at full speed
	size    int64         // of a file
}

func newProducer(s *store.Store, l load, index int) *producer {
	p := &producer{load: l, s: s, index: index}
	body := make([]byte, l.Size)
	for i := range body {
		body[i] = byte('a' + i%26)
	}
	for range l.Batch {
		p.batch = append(p.batch, &message.Message{Topic: topic, QueueID: int32(index), Body: body})
	}
	all := max(1, l.messages/l.Batch)
	p.batches = all / l.Producers
	if index < all%l.Producers {
		p.batches++
	}
	if l.timed {
		p.latency = newHistogram()
	}
	if s != nil {
		p.size = s.Stats().FileSize
	}
	return p
}

func (p *producer) append(ctx context.Context) error {
	if len(p.batch) == 1 {
		r, err := p.s.Append(ctx, p.batch[0])
		p.rolled = int64(r.Offset)%p.size == 0
		return err
	}
	r, err := p.s.AppendBatch(ctx, p.batch)
	p.rolled = len(r) > 0 && int64(r[0].Offset)%p.size == 0
	return err
}

func (p *producer) warm(ctx context.Context) error {
	for range min(warmBatches, p.batches) {
		if err := p.append(ctx); err != nil {
			return err
		}
	}
	return nil
}

// produce appends all batches of the producer, and ends early when the duration
// is over.
func (p *producer) produce(ctx context.Context, start time.Time) error {
	if p.timed {
		return p.produceTimed(ctx, start)
	}
	// The goroutine keeps its thread, so that the processor time of that is its
	// own. On a machine that does other things as well it tells more than the
	// time that went by.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadCPU()
	defer func() { p.cpu = threadCPU() - before }()
	const often = 64 // batches between looks at the clock
	for i := range p.batches {
		if p.duration > 0 && i%often == 0 && time.Since(start) >= p.duration {
			return nil
		}
		if err := p.append(ctx); err != nil {
			return err
		}
	}
	return nil
}

// produceTimed takes the time of each append, from the moment that it was due:
// at full speed that is when it begins, at a rate when it should have begun. An
// append that is late because the one before it was slow counts as slow too
// (there is no coordinated omission).
func (p *producer) produceTimed(ctx context.Context, start time.Time) error {
	for i := range p.batches {
		from := time.Since(start)
		if p.rate > 0 {
			from = p.due(i)
		}
		if p.duration > 0 && from >= p.duration {
			return nil
		}
		if p.rate > 0 {
			p.await(ctx, start, from)
		}
		if err := p.append(ctx); err != nil {
			return err
		}
		took := time.Since(start) - from
		// It fails only for a value above longest, which no append lives to see.
		_ = p.latency.RecordValue(max(1, int64(took)))
		if p.rolled {
			p.longest = max(p.longest, took)
		}
	}
	return nil
}

// due is when batch i of this producer is to be appended, from the start. The
// producers take turns.
func (p *producer) due(i int) time.Duration {
	n := float64(i*p.Producers+p.index) * float64(p.Batch)
	return time.Duration(n / p.rate * float64(time.Second))
}

// await spins until a moment has come. A timer is a millisecond off, which would
// be all that is measured; so a core is spent. When the producers leave none to
// the store's own goroutines they give way to them.
func (p *producer) await(ctx context.Context, start time.Time, due time.Duration) {
	crowded := p.Producers >= runtime.GOMAXPROCS(0)
	for time.Since(start) < due && ctx.Err() == nil {
		if crowded {
			runtime.Gosched()
		}
	}
}
