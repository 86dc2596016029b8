// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
)

// childArg begins the arguments of a process that measures: a spec as JSON
// follows, and a result as JSON goes to its output.
const childArg = "measure"

// child measures what arg, a spec as JSON, says.
func child(arg string, out io.Writer) error {
	var s spec
	if err := json.Unmarshal([]byte(arg), &s); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	all, err := choose(peers(), func(p peer) string { return p.name }, s.Peer)
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0].open == nil {
		return fmt.Errorf("%q is not a peer that runs in this program", s.Peer)
	}
	return measure(all[0], s, func(r result) error { return json.NewEncoder(out).Encode(r) })
}

// measure opens a peer, has it do the work and hands the result to done. A reopen
// hands over what was written before the process kills itself.
func measure(p peer, s spec, done func(result) error) (err error) {
	began := time.Now()
	e, err := p.open(s.Dir, s.Mode)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, e.close()) }()
	var r result
	switch s.Kind {
	case appends, dispatch, manyQueue:
		r, err = produce(e, s)
	case scans:
		r, err = read(e, s, scanAll)
	case picks:
		r, err = read(e, s, pickMany)
	case reopens:
		if s.Step == 1 {
			return writeAndDie(e, s, done)
		}
		r.Found, err = e.count()
		r.Messages, r.Seconds = r.Found, time.Since(began).Seconds()
		r.look()
	default:
		err = fmt.Errorf("kind %q", s.Kind)
	}
	if err != nil {
		return err
	}
	if o, ok := e.(interface{ options() string }); ok {
		r.Options = o.options()
	}
	return done(r)
}

// produce appends as much as the time allows.
func produce(e engine, s spec) (r result, err error) {
	ps, err := newProducers(e, s)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ps.free()) }()
	if err := ps.together((*producer).warm); err != nil {
		return r, err
	}
	endProfile, err := profile(s)
	if err != nil {
		return r, err
	}
	watch := watchHeap()
	m0 := mallocs()
	start := time.Now()
	err = ps.together(func(p *producer) error { return p.run(start) })
	r.AppendSeconds = time.Since(start).Seconds()
	if err == nil {
		err = ps.together(func(p *producer) error { return p.to.settle() })
	}
	r.Seconds = time.Since(start).Seconds()
	m1 := mallocs()
	r.HeapPeak = watch.stop()
	if err = errors.Join(err, endProfile()); err != nil {
		return r, err
	}
	ps.sum(&r)
	r.AllocsPerOp = float64(m1-m0) / float64(max(1, r.Messages))
	r.Disk = diskUse(s.Dir)
	r.look()
	return r, nil
}

// read writes what is to be read, and measures how do reads it. All of it is in
// the page cache.
func read(e engine, s spec, how func(engine, spec, *result) error) (r result, err error) {
	if _, err := fill(e, s); err != nil {
		return r, err
	}
	runtime.GC()
	endProfile, err := profile(s)
	if err != nil {
		return r, err
	}
	watch := watchHeap()
	m0 := mallocs()
	start := time.Now()
	err = how(e, s, &r)
	r.Seconds = time.Since(start).Seconds()
	m1 := mallocs()
	r.HeapPeak = watch.stop()
	r.AllocsPerOp = float64(m1-m0) / float64(max(1, r.Messages))
	r.look()
	return r, errors.Join(err, endProfile())
}

// profile begins a CPU profile, if one is asked for, and returns what ends it.
func profile(s spec) (end func() error, err error) {
	if s.Profile == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(s.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

// fill appends s.Messages in batches, and returns how many there are then: less
// where it takes a peer longer than fillTime.
func fill(e engine, s spec) (n int64, err error) {
	s.Producers, s.Time = 1, fillTime
	ps, err := newProducers(e, s)
	if err != nil {
		return 0, err
	}
	p := ps[0]
	if err = p.run(time.Now()); err == nil {
		err = p.to.settle()
	}
	return p.n, errors.Join(err, ps.free())
}

// fillTime is how long it may take to write what is to be read.
const fillTime = 30 * time.Second

func scanAll(e engine, s spec, r *result) error {
	c, ok := e.(scanner)
	if !ok {
		return errors.New("can't be read in order")
	}
	start, wrong, sum := time.Now(), 0, uint64(0)
	err := c.scan(func(body []byte) bool {
		if len(body) != s.Size {
			wrong++
		}
		sum += sight(body)
		r.Messages++
		return r.Messages&1023 != 0 || time.Since(start) < s.Time
	})
	if wrong > 0 {
		return fmt.Errorf("%d messages of %d have another length", wrong, r.Messages)
	}
	r.Sum = sum
	return err
}

// sight looks at each cache line of a message, as who reads it would: some peers
// return a view of a page that nobody has touched yet.
func sight(body []byte) (sum uint64) {
	const line = 64
	for ; len(body) >= line; body = body[line:] {
		sum += binary.LittleEndian.Uint64(body)
	}
	return sum
}

// pickCount is how many messages are read by number at most.
const pickCount = 200_000

func pickMany(e engine, s spec, r *result) error {
	c, ok := e.(picker)
	if !ok {
		return errors.New("can't be read by number")
	}
	n, err := e.count()
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which message is no secret
	for start := time.Now(); r.Messages < pickCount && (r.Messages&15 != 0 || time.Since(start) < s.Time); r.Messages++ {
		i := random.Int64N(n)
		body, err := c.pick(i)
		if err != nil {
			return err
		}
		r.Sum += sight(body)
		if _, number := producerOf(body); number != i {
			return fmt.Errorf("message %d is there instead of %d", number, i)
		}
	}
	return nil
}

// writeAndDie writes, says how much, and is killed by a signal that nothing can
// be done about.
func writeAndDie(e engine, s spec, done func(result) error) error {
	began := time.Now()
	n, err := fill(e, s)
	if err != nil {
		return err
	}
	if err := done(result{Messages: n, Seconds: time.Since(began).Seconds()}); err != nil {
		return err
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// diskUse is how many bytes of blocks the files in dir have.
func diskUse(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error {
		if d == nil {
			return nil
		}
		if info, err := d.Info(); err == nil { // Otherwise it is gone, and takes no room.
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total
}
