// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/persistentqueue"
)

var vmPeer = peer{
	name: "vm-queue", module: "github.com/VictoriaMetrics/VictoriaMetrics",
	modes: map[mode]guarantee{
		async: {Text: "FastQueue with one block in memory: in a buffer of 64 KiB in the process, which is flushed once a second. SIGKILL takes up to a second. Never synced"},
	},
	without: map[kind]string{
		picks:   "a queue: no access by number",
		reopens: "counts bytes with padding, not messages",
	},
	open: func(dir string, _ mode) (engine, error) {
		logger.SetOutputForTests(quiet{})
		if !flag.Parsed() { // It has flags of its own and won't go without them.
			if err := flag.CommandLine.Parse(nil); err != nil {
				return nil, err
			}
		}
		return &vm{q: persistentqueue.MustOpenFastQueue(filepath.Join(dir, "queue"), "bench", 1, 0, false)}, nil
	},
}

// quiet swallows what a peer logs.
type quiet struct{}

func (quiet) Write(p []byte) (int, error) { return len(p), nil }

type vm struct {
	q    *persistentqueue.FastQueue
	once sync.Once
}

func (e *vm) appender(int) (appender, error) { return e, nil }
func (e *vm) count() (int64, error)          { return 0, fmt.Errorf("%s", vmPeer.without[reopens]) }

func (e *vm) close() error {
	e.once.Do(e.q.MustClose)
	return nil
}

func (e *vm) append(body []byte) error {
	if !e.q.TryWriteBlock(body) {
		return fmt.Errorf("the queue took no message")
	}
	return nil
}

func (e *vm) appendBatch(bodies [][]byte) error {
	for _, body := range bodies {
		if err := e.append(body); err != nil {
			return err
		}
	}
	return nil
}

func (e *vm) settle() error { return nil }

// scan consumes: what was read is gone.
func (e *vm) scan(visit func([]byte) bool) error {
	var buf []byte
	for e.q.GetPendingBytes() > 0 || e.q.GetInmemoryQueueLen() > 0 {
		body, ok := e.q.MustReadBlock(buf[:0])
		if !ok {
			return errors.New("the queue is closed")
		}
		if !visit(body) {
			return nil
		}
		buf = body
	}
	return nil
}
