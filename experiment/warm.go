// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// WarmupConfig is what Warmup measures. The zero value is usable.
type WarmupConfig struct {
	Schedule Schedule
	// Warmups are the cases; empty means off, touch, populate and a window, each
	// but the first with and without a lock, and populate with each advice.
	Warmups []store.WarmupOptions
	// FileSize is the length of the log's files in bytes; 0 means 16 MiB.
	FileSize int64
	// Files is how many files the appends go through; 0 means ten.
	Files int
	// Size is the length of a body in bytes; 0 means 1024.
	Size int
}

// The defaults of WarmupConfig.
const (
	warmFileSize = 16 << 20
	warmFiles    = 10
	warmSize     = 1024
)

func defaultWarmups() []store.WarmupOptions {
	all := []store.WarmupOptions{{Mode: warmup.Off}}
	for _, mode := range []warmup.Mode{warmup.Touch, warmup.Populate, warmup.Default} {
		all = append(all, store.WarmupOptions{Mode: mode}, store.WarmupOptions{Mode: mode, Lock: true})
	}
	for _, advice := range []warmup.Advice{warmup.WillNeed, warmup.Sequential, warmup.Random} {
		all = append(all, store.WarmupOptions{Mode: warmup.Populate, Advise: advice})
	}
	return all
}

// Warmup measures what it costs to warm a file up, and what appends have of it:
// their throughput and latencies at full speed through several files, with the
// longest of those that went on to the next file. Its floor is that of Append.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig
// where the configuration is at fault.
func Warmup(ctx context.Context, c WarmupConfig) (*Report, error) {
	s, err := c.Schedule.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	e := &warmups{config: c, results: make([]warmed, len(c.Warmups))}
	labels := make([]string, len(c.Warmups))
	for i, w := range c.Warmups {
		labels[i] = warmupName(w)
	}
	r := s.report("warmup")
	if err := s.run(ctx, labels, e.step); err != nil {
		return nil, err
	}
	r.Took = time.Since(r.Time)
	e.fill(r, labels)
	return r, nil
}

func (c *WarmupConfig) setDefaults() error {
	fill(&c.Warmups, defaultWarmups())
	for _, set := range []struct {
		to  *int
		def int
	}{{&c.Files, warmFiles}, {&c.Size, warmSize}} {
		if *set.to == 0 {
			*set.to = set.def
		}
	}
	if c.FileSize == 0 {
		c.FileSize = warmFileSize
	}
	switch {
	case c.Files < 1 || c.Files > 1000:
		return fmt.Errorf("%w: %d files, must be 1 to 1000", ErrConfig, c.Files)
	case c.Size < 0 || c.Size > store.DefaultMaxBodyLen:
		return fmt.Errorf("%w: size %d, must be 0 to %d", ErrConfig, c.Size, store.DefaultMaxBodyLen)
	case c.FileSize < 16*int64(c.Size+recordOverhead) || c.FileSize > store.MaxFileSize:
		return fmt.Errorf("%w: file size %d, must hold 16 messages and be %d at most", ErrConfig, c.FileSize, store.MaxFileSize)
	}
	return nil
}

// warmups is the experiment of Warmup.
type warmups struct {
	config  WarmupConfig
	results []warmed
}

// warmed is what the rounds of one case came to.
type warmed struct {
	result
	prepare        warmup.Result // of the last round
	prepareMs      []float64
	prepareFaults  []float64
	rolls, longest []float64
}

// step measures a case once: the making of one file, then appends.
func (e *warmups) step(ctx context.Context, dir string, i int, keep bool) error {
	c := e.config
	k := Case{Size: c.Size, Producers: 1, Batch: 1, Warmup: c.Warmups[i]}
	l := load{Case: k, messages: c.Files * int(c.FileSize/int64(c.Size+recordOverhead/2))}
	prepare, err := prepareFile(ctx, filepath.Join(dir, "file"), c.FileSize, k.Warmup)
	if err != nil {
		return err
	}
	m := loads{config: AppendConfig{FileSize: c.FileSize}}
	p, err := m.pass(ctx, dir, store.Options{FileSize: c.FileSize}, l)
	if err != nil {
		return err
	}
	l.timed = true
	timed, err := m.pass(ctx, dir, store.Options{FileSize: c.FileSize}, l)
	if err != nil {
		return err
	}
	f, err := copyFloor(ctx, dir, p.recordSize(), min(p.bytes, c.FileSize))
	if err != nil || !keep {
		return err
	}
	res := &e.results[i]
	res.Case = k
	res.add(p, timed, f)
	res.prepare = prepare
	res.prepareMs = append(res.prepareMs, milliseconds(prepare.Took))
	res.prepareFaults = append(res.prepareFaults, float64(prepare.MinorFaults+prepare.MajorFaults))
	res.rolls = append(res.rolls, float64(timed.rolls))
	res.longest = append(res.longest, float64(timed.longest)/1e3)
	return nil
}

// prepareFile warms up a new file, or the window at its beginning, and says what
// it cost.
func prepareFile(ctx context.Context, path string, size int64, o store.WarmupOptions) (r warmup.Result, err error) {
	f, err := mappedfile.OS().Create(path, size, mappedfile.Mapping{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	if err := f.Reserve(0, size); err != nil {
		return r, err
	}
	plan := warmup.Plan{Mode: o.Mode, Lock: o.Lock, Advise: o.Advise}
	if o.Mode == warmup.Default {
		plan.Mode, o.Window = warmup.Populate, store.DefaultWarmupWindow
	}
	data := f.Bytes()
	switch {
	case o.Mode == warmup.Off:
		return r, nil
	case o.Window > 0:
		data = data[:min(o.Window, size)]
	}
	err = mappedfile.Guard(func() (err error) {
		r, err = plan.Run(ctx, data)
		return err
	})
	return r, err
}

var warmupColumns = []Column{
	{Name: "experiment"},
	{Name: "warmup", Title: "WARMUP"},
	{Name: "fileSize", Title: "FILE"},
	{Name: "preparedBytes", Title: "PREPARED"},
	{Name: "prepareMs", Title: "PREPARE ms", Decimals: 2},
	{Name: "prepareFaults", Title: "FAULTS"},
	{Name: "residentBytes", Title: "RESIDENT"},
	{Name: "lockedBytes", Title: "LOCKED"},
	{Name: "messages", Title: "MESSAGES"},
	{Name: "size", Title: "SIZE"},
	{Name: "appendFaults", Title: "APPEND FAULTS"},
	{Name: "msgsPerSec", Title: "MSGS/S"},
	{Name: "p50us", Title: "P50 µs", Decimals: 2},
	{Name: "p99us", Title: "P99 µs", Decimals: 2},
	{Name: "p999us", Title: "P99.9 µs", Decimals: 1},
	{Name: "p9999us", Title: "P99.99 µs", Decimals: 1},
	{Name: "maxus", Title: "MAX µs"},
	{Name: "rolls", Title: "ROLLS"},
	{Name: "longestRollUs", Title: "LONGEST ROLL µs"},
	{Name: "floorMsgsPerSec", Title: "FLOOR/S"},
	{Name: "ratioToFloor", Title: "RATIO", Decimals: 3},
	{Name: "msgsPerSecMin"},
	{Name: "msgsPerSecMax"},
	{Name: "longestRollUsMedian"},
	{Name: "rounds"},
}

// fill turns the results into the report's rows and distributions.
func (e *warmups) fill(r *Report, labels []string) {
	r.Columns, r.Labels = slices.Concat(warmupColumns, waitColumns()), labels
	var floors []spread
	var base loads
	for i := range e.results {
		res := &e.results[i]
		floor := spreadOf(res.floor)
		floors = append(floors, floor)
		r.Rows = append(r.Rows, res.row(e.config.FileSize, floor))
		r.Distributions = append(r.Distributions, distribution(labels[i], i, res.latency))
		res.warmup.Done.Refused = append(res.warmup.Done.Refused, res.prepare.Refused...)
		base.results = append(base.results, res.result)
	}
	r.Bars = Bars{
		Value: "msgsPerSec", Low: "msgsPerSecMin", High: "msgsPerSecMax", Floor: "floorMsgsPerSec",
		Title: "Throughput", Unit: "messages/s",
	}
	r.Notes = []string{
		fmt.Sprintf("Each figure is the median of %s; the cases took turns. MAX and LONGEST ROLL are the longest of all rounds.", plural(r.Rounds, "round")),
		"PREPARE to LOCKED are of one new file, or of one window at its beginning. APPEND FAULTS are those of the whole process, less those of warming up.",
		"The appends went at full speed, through several files; LONGEST ROLL is the longest append that went on to a new one.",
		"WAITED FOR is the stage of the store at which the appends spent most time.",
		"FLOOR/S is one goroutine that copies records of the same length into a warmed mapping.",
		"Throughput and latency come from separate passes: taking the time of each append would slow it down.",
	}
	r.Warnings = base.refusals()
	r.noise(floors)
}

func (w *warmed) row(fileSize int64, floor spread) []any {
	perSecond := spreadOf(w.perSecond)
	at := func(p float64) any { return pointOf(p, w.latency).Value }
	median := func(v []float64, digits int) any { return rounded(spreadOf(v).median, digits) }
	return append([]any{
		"warmup", warmupName(w.Warmup), fileSize, w.prepare.Bytes, median(w.prepareMs, 3), median(w.prepareFaults, 0),
		w.prepare.Resident, w.prepare.Locked,
		int64(spreadOf(w.messages).median), int64(w.Size), median(w.faults, 0),
		rounded(perSecond.median, 0), at(50), at(99), at(99.9), at(99.99), at(100),
		int64(spreadOf(w.rolls).median), rounded(spreadOf(w.longest).high, 1),
		rounded(floor.median, 0), rounded(perSecond.median/floor.median, 6),
		rounded(perSecond.low, 0), rounded(perSecond.high, 0), median(w.longest, 1), int64(len(w.perSecond)),
	}, w.waits.values()...)
}
