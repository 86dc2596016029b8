// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// config is what is asked for.
type config struct {
	dir         string
	rounds      int
	peers       []peer
	workloads   []workload
	time        time.Duration // of a measurement, at most; a workload's own is cut to it if short
	short       bool          // time holds for all workloads
	bytes       int64         // of messages in a measurement, at most
	readBytes   int64         // that are there to be read
	reopenBytes int64         // that are there to be opened
	profiles    string        // directory for CPU profiles; "" is none
	progress    io.Writer
}

// record is one measurement.
type record struct {
	Workload string `json:"workload"`
	Peer     string `json:"peer"`
	Round    int    `json:"round"` // from 1
	// Acked is how many messages a process had acknowledged when it was killed.
	Acked int64 `json:"acked,omitempty"`
	result
}

// childTime is how long one measurement may take with all that belongs to it.
const childTime = 2 * time.Minute

// measureAll does all that is asked for, in rounds. A measurement that fails is a
// record with an error; the error is that of the surroundings, or of ctx.
func (c config) measureAll(ctx context.Context) (all []record, err error) {
	tmp, err := os.MkdirTemp(c.dir, "stele-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	for round := range c.rounds {
		for _, w := range c.workloads {
			for i := range c.peers {
				// Another one begins in each round: the first meets what the workload
				// before left behind.
				p := c.peers[(i+round)%len(c.peers)]
				if p.refuses(w) != "" {
					continue
				}
				if ctx.Err() != nil {
					return all, context.Cause(ctx)
				}
				r := record{Workload: w.name, Peer: p.name, Round: round + 1}
				if err := c.one(ctx, tmp, p, w, &r); err != nil {
					if ctx.Err() != nil {
						return all, context.Cause(ctx)
					}
					r.Error = err.Error()
				}
				_, _ = fmt.Fprintln(c.progress, r.line())
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// one measures a workload over a peer once.
func (c config) one(ctx context.Context, tmp string, p peer, w workload, r *record) error {
	dir := filepath.Join(tmp, fmt.Sprintf("%s-%s-%d", w.name, p.name, r.Round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer func() {
		_ = os.RemoveAll(dir) // What is left is removed with tmp, or reported then.
		// The next one does not wait for what this one wrote.
		syscall.Sync()
	}()
	s := c.spec(p, w, dir)
	if w.kind == reopens {
		s.Step = 1
		written, err := c.run(ctx, p, s)
		if err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		r.Acked = written.Messages
		s.Step = 2
	}
	got, err := c.run(ctx, p, s)
	r.result = got
	return err
}

func (c config) spec(p peer, w workload, dir string) spec {
	s := spec{
		Peer: p.name, Workload: w.name, Dir: dir, Kind: w.kind, Mode: w.mode,
		Size: w.size, Producers: w.producers, Batch: w.batch, Queues: w.queues, Keys: w.keys, Time: c.time,
	}
	if w.time > 0 && !c.short {
		s.Time = w.time
	}
	most := c.bytes
	switch {
	case w.kind == scans || w.kind == picks:
		most = c.readBytes
	case w.kind == reopens:
		most = c.reopenBytes
	case w.bytes > 0 && !c.short:
		most = w.bytes
	}
	if c.profiles != "" {
		s.Profile = filepath.Join(c.profiles, filepath.Base(dir)+".prof")
	}
	s.Messages = max(int64(w.producers*w.batch), most/int64(w.size))
	return s
}

// run has a process of its own measure s.
func (c config) run(ctx context.Context, p peer, s spec) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	cmd, err := p.process(ctx, s)
	if err != nil {
		return r, err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	failed := cmd.Run()
	var died *exec.ExitError
	if s.Step == 1 && errors.As(failed, &died) {
		if st, ok := died.Sys().(syscall.WaitStatus); ok && st.Signal() == syscall.SIGKILL {
			failed = nil
		}
	}
	if failed != nil {
		return r, fmt.Errorf("%w: %s", failed, tail(said.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("%w in %q: %s", err, tail(out.String()), tail(said.String()))
	}
	return r, nil
}

// process returns how to measure s in a process of its own.
func (p peer) process(ctx context.Context, s spec) (*exec.Cmd, error) {
	arg, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if p.program != nil {
		return p.program(ctx, string(arg))
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, exe, childArg, string(arg)), nil
}

// tail is the end of what a process said.
func tail(s string) string {
	const enough = 2000
	s = strings.TrimSpace(s)
	if len(s) > enough {
		s = "…" + s[len(s)-enough:]
	}
	return s
}

// line is a record in a line, for who waits.
func (r record) line() string {
	head := fmt.Sprintf("%d %-14s %-16s", r.Round, r.Workload, r.Peer)
	switch {
	case r.Error != "":
		return head + " " + r.Error
	case r.Acked > 0:
		return fmt.Sprintf("%s %9.1f ms, %d of %d messages found", head, r.Seconds*1e3, r.Found, r.Acked)
	case r.P99 > 0:
		return fmt.Sprintf("%s %11.0f msgs/s, p50 %.0f us, p99 %.0f us", head, r.perSecond(), r.P50, r.P99)
	}
	return fmt.Sprintf("%s %11.0f msgs/s", head, r.perSecond())
}
