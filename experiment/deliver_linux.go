// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
)

// Deliver measures what it costs to send a log's file to consumers over loopback,
// each way, beside what textbooks say. Its floor is a loop of sendfile.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig where
// the configuration is at fault.
func Deliver(ctx context.Context, c DeliverConfig) (r *Report, err error) {
	s, err := c.Schedule.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	r = s.report("deliver")
	dir, err := os.MkdirTemp(s.Dir, "stele-bench-")
	if err != nil {
		return nil, err
	}
	e := &delivers{config: c, cases: c.cases(), fixtures: fixtures{dir: dir, size: c.Size, made: map[int64]*fixture{}}}
	defer func() { err = errors.Join(err, e.fixtures.close()) }()
	e.consumers, err = connect(ctx, c, slices.Max(c.Consumers))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.consumers.close()) }()
	e.results = make([]deliverResult, len(e.cases))
	labels := make([]string, len(e.cases))
	for i, d := range e.cases {
		labels[i] = c.label(d)
	}
	if err := s.run(ctx, labels, e.step); err != nil {
		return nil, err
	}
	r.Took = time.Since(r.Time)
	r.Environment.Congestion = e.consumers.congestion
	r.Environment.lookAtInterface("lo")
	e.fill(r, labels)
	return r, nil
}

// delivers is the experiment of Deliver.
type delivers struct {
	config    DeliverConfig
	cases     []delivered
	fixtures  fixtures
	consumers *consumers
	results   []deliverResult
	stayed    bool // pages would not leave memory
	goCopies  string
}

// deliverResult is what the rounds of one case came to, each by round.
type deliverResult struct {
	perSec, user, sys, cpu, calls, switches, read []float64
	path                                          string
}

// usage is what the process has used so far.
type usage struct {
	user, sys      time.Duration
	switches       int64
	readCalls      int64 // system calls that read
	fromDisk       int64 // bytes
	sends          int64 // system calls of the store's sender
	viaStore, copy int64 // bytes by sendfile, and by others
}

func (e *delivers) used(f *fixture) usage {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail
	io := ioCounts("/proc/self/io")
	st := f.store.Stats().Delivery
	sent := st.Of(delivery.Sendfile).Bytes
	return usage{
		user: time.Duration(u.Utime.Nano()), sys: time.Duration(u.Stime.Nano()), switches: u.Nvcsw,
		readCalls: io["syscr"], fromDisk: io["read_bytes"],
		sends: st.Calls(), viaStore: sent, copy: st.Bytes() - sent,
	}
}

// ioCounts is what Linux counts of a process or a thread; empty where it does not
// tell.
func ioCounts(path string) map[string]int64 {
	all := map[string]int64{}
	text, err := os.ReadFile(path)
	if err != nil {
		return all
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		all[name], _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	}
	return all
}

// step measures a case once.
func (e *delivers) step(ctx context.Context, _ string, i int, keep bool) error {
	d := e.cases[i]
	f, err := e.fixtures.of(ctx, d)
	if err != nil {
		return err
	}
	ok, err := f.prepare(d.cache)
	if err != nil {
		return err
	}
	e.stayed = e.stayed || !ok
	if d.method == wayIOCopy && e.goCopies == "" {
		if e.goCopies, err = goCopies(f.view.File().Path()); err != nil {
			return err
		}
	}
	all := make([]*sending, d.consumers)
	for i := range all {
		all[i] = &sending{f: f, d: d, conn: e.consumers.conns[i]}
		if d.method == wayIOCopy {
			all[i].path = e.goCopies
		}
	}
	defer func() {
		for _, s := range all {
			s.release()
		}
	}()
	for _, s := range all {
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	runtime.GC() // what went before is not this case's to collect
	before, start := e.used(f), time.Now()
	if err := e.transfer(ctx, all); err != nil {
		return err
	}
	took, after := time.Since(start), e.used(f)
	if keep {
		e.results[i].add(all, before, after, took)
	}
	return nil
}

// transfer runs the sendings side by side, until their readers have all.
func (e *delivers) transfer(ctx context.Context, all []*sending) error {
	// A context that ends closes the connections: the experiment is over then.
	stop := context.AfterFunc(ctx, func() {
		for _, s := range all {
			_ = s.conn.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	var running sync.WaitGroup
	errs := make([]error, len(all))
	for i, s := range all {
		running.Go(func() {
			_, n := s.f.chunks(s.d)
			if errs[i] = announce(s.conn, s.d.reader, n); errs[i] == nil {
				errs[i] = s.run(ctx)
			}
			if errs[i] == nil {
				errs[i] = confirmed(ctx, s.conn)
			}
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

func (r *deliverResult) add(all []*sending, before, after usage, took time.Duration) {
	d := all[0].d
	_, n := all[0].f.chunks(d)
	gb := float64(n) * float64(len(all)) / 1e9
	var calls int64
	for _, s := range all {
		calls += s.calls
		if s.path != "" {
			r.path = s.path
		}
	}
	switch d.method {
	case wayIOCopy:
		calls += after.readCalls - before.readCalls // a sendfile counts as one that reads
		if r.path != "sendfile" {
			calls += after.readCalls - before.readCalls // and as many writes
		}
	case wayRange, wayBatch, wayBatchAlone:
		calls += after.sends - before.sends
		r.path = "copy+write"
		if after.viaStore-before.viaStore > after.copy-before.copy {
			r.path = "sendfile"
		}
	}
	user, sys := (after.user-before.user).Seconds()/gb, (after.sys-before.sys).Seconds()/gb
	r.perSec = append(r.perSec, gb/took.Seconds())
	r.user, r.sys, r.cpu = append(r.user, user), append(r.sys, sys), append(r.cpu, user+sys)
	r.calls = append(r.calls, float64(calls)/gb)
	r.switches = append(r.switches, float64(after.switches-before.switches)/gb)
	r.read = append(r.read, float64(after.fromDisk-before.fromDisk))
}

var kernelPaths = map[string]string{
	wayBare: "sendfile", wayReadWrite: "pread64, write", wayWrite: "write", wayWritev: "sendmsg",
	waySendfile: "sendfile", waySplice: "splice, splice", wayCopy: "write",
	wayFetchCopy: "write",
}

var deliverColumns = []Column{
	{Name: "experiment"},
	{Name: "method", Title: "METHOD"},
	{Name: "size"},
	{Name: "chunk", Title: "CHUNK"},
	{Name: "consumers", Title: "CONSUMERS"},
	{Name: "pattern", Title: "PATTERN"},
	{Name: "cache", Title: "CACHE"},
	{Name: "reader", Title: "READER"},
	{Name: "gbPerSec", Title: "GB/S", Decimals: 2},
	{Name: "cpuUserSecPerGB", Title: "USER s/GB", Decimals: 3},
	{Name: "cpuSysSecPerGB", Title: "SYS s/GB", Decimals: 3},
	{Name: "syscallsPerGB", Title: "CALLS/GB"},
	{Name: "ctxSwitchesPerGB", Title: "SWITCHES/GB"},
	{Name: "theoryCPUCopies", Title: "CPU COPIES"},
	{Name: "theoryDMACopies", Title: "DMA COPIES"},
	{Name: "theoryModeSwitches", Title: "MODE SWITCHES"},
	{Name: "kernelPath", Title: "KERNEL PATH"},
	{Name: "ratioToFloor", Title: "RATIO", Decimals: 2},
	{Name: "cpuRatioToFloor", Title: "CPU RATIO", Decimals: 2},
	{Name: "cpuRatioToCheapest", Title: "TO CHEAPEST", Decimals: 2},
	{Name: "diskReadBytes", Title: "FROM DISK"},
	{Name: "gbPerSecMin"},
	{Name: "gbPerSecMax"},
	{Name: "floorGBPerSec"},
	{Name: "rounds"},
}

// columns are those of the table, in which what is the same in every row has none;
// same says what that is.
func (c *DeliverConfig) columns() (columns []Column, same string) {
	columns = slices.Clone(deliverColumns)
	var all []string
	for name, one := range map[string]struct {
		n    int
		what string
	}{
		"chunk":     {len(c.Chunks), "chunks of " + formatBytes(int64(c.Chunks[0]))},
		"consumers": {len(c.Consumers), plural(c.Consumers[0], "consumer")},
		"pattern":   {len(c.Patterns), c.Patterns[0]},
		"cache":     {len(c.Caches), c.Caches[0]},
		"reader":    {len(c.Readers), "readers that " + c.Readers[0]},
	} {
		if one.n > 1 {
			continue
		}
		all = append(all, one.what)
		i := slices.IndexFunc(columns, func(c Column) bool { return c.Name == name })
		columns[i].Title = ""
	}
	slices.Sort(all)
	if len(all) > 0 {
		same = "In every row: " + strings.Join(all, ", ") + "."
	}
	return columns, same
}

// fill turns the results into the report's rows.
func (e *delivers) fill(r *Report, labels []string) {
	var same string
	r.Columns, same = e.config.columns()
	r.Labels = labels
	gather := r.Environment.ScatterGather && r.Environment.ChecksumOffload
	floors := map[delivered]*deliverResult{}
	var noise []spread
	cheapest := map[delivered]float64{}
	for i, d := range e.cases {
		if d.method == wayBare {
			d.method = ""
			floors[d] = &e.results[i]
			noise = append(noise, spreadOf(e.results[i].perSec))
		}
		key, cpu := e.cases[i].peers(), spreadOf(e.results[i].cpu).median
		if least, ok := cheapest[key]; !ok || cpu < least {
			cheapest[key] = cpu
		}
	}
	for i, d := range e.cases {
		key := d
		key.method = ""
		r.Rows = append(r.Rows, e.results[i].row(d, e.config.Size, theoryOf(d.method, d.runs(), gather), floors[key], cheapest[d.peers()]))
	}
	r.Bars = Bars{Value: "gbPerSec", Low: "gbPerSecMin", High: "gbPerSecMax", Floor: "floorGBPerSec", Title: "Throughput", Unit: "GB/s"}
	r.Notes = []string{
		fmt.Sprintf("Each figure is the median of %s; the cases took turns. All consumers together.", plural(r.Rounds, "round")),
		"CPU is that of the sending process, whose system calls do most of the receiving, too, on loopback. CALLS are those that send, those that found the socket full included; SWITCHES are voluntary.",
		"CPU COPIES, DMA COPIES and MODE SWITCHES are what textbooks count for one chunk. Loopback has no DMA, and has the reader copy.",
		fmt.Sprintf("A scattered chunk is %d records, one after the other of one of %d queues whose messages lie in turn.", scatter, scatterQueues),
		"RATIO and CPU RATIO are to the loop of bare sendfile of the same case, TO CHEAPEST is the CPU to that of the cheapest way; ways that fetch by queue as they go are compared with each other. FROM DISK is what one round read.",
	}
	if same != "" {
		r.Notes = append(r.Notes, same)
	}
	if e.config.Child == nil {
		r.Warnings = append(r.Warnings, "the readers ran in the sending process: their processor time is in the figures")
	}
	if e.stayed {
		r.Warnings = append(r.Warnings, "the file stayed in memory when it was to leave it: what is called cold was warm in part")
	}
	r.noise(noise)
}

func (r *deliverResult) row(d delivered, size int64, t theory, floor *deliverResult, cheapest float64) []any {
	median := func(v []float64, digits int) float64 { return rounded(spreadOf(v).median, digits) }
	path := r.path
	if path == "" {
		path = kernelPaths[d.method]
	}
	perSec := spreadOf(r.perSec)
	var ratio, cpuRatio, floorPerSec any
	if floor != nil {
		f := spreadOf(floor.perSec).median
		floorPerSec, ratio = rounded(f, 3), rounded(perSec.median/f, 3)
		if cpu := spreadOf(floor.cpu).median; cpu > 0 {
			cpuRatio = rounded(spreadOf(r.cpu).median/cpu, 3)
		}
	}
	var toCheapest any
	if cheapest > 0 {
		toCheapest = rounded(spreadOf(r.cpu).median/cheapest, 3)
	}
	return []any{
		"deliver", d.method, size, int64(d.chunk), int64(d.consumers), d.pattern, d.cache, d.reader,
		rounded(perSec.median, 3), median(r.user, 4), median(r.sys, 4), median(r.calls, 0), median(r.switches, 0),
		t.cpu, t.dma, t.switches, path, ratio, cpuRatio, toCheapest, int64(spreadOf(r.read).median),
		rounded(perSec.low, 3), rounded(perSec.high, 3), floorPerSec, int64(len(r.perSec)),
	}
}
