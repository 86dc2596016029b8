// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"sync"

	"github.com/tidwall/wal"
)

var tidwallPeer = peer{
	name: "tidwall-wal", module: "github.com/tidwall/wal",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "NoSync, segments of 20 MB: written by write(2), synced when a segment is full. Indexes are the embedder's, who holds a mutex"},
		durable: {Kill: true, Power: true, Text: "as it is: fsync for each Write, one at a time"},
	},
	open: func(dir string, m mode) (engine, error) {
		o := *wal.DefaultOptions
		o.NoSync, o.NoCopy = m == async, true
		l, err := wal.Open(filepath.Join(dir, "log"), &o)
		if err != nil {
			return nil, err
		}
		e := &tidwall{l: l}
		e.next, err = l.LastIndex()
		return e, err
	},
}

type tidwall struct {
	mu   sync.Mutex // an index must follow the one before
	l    *wal.Log
	next uint64
}

func (e *tidwall) close() error { return e.l.Close() }

func (e *tidwall) appender(int) (appender, error) { return &tidwallAppender{e: e}, nil }

type tidwallAppender struct {
	e     *tidwall
	batch wal.Batch
}

func (a *tidwallAppender) append(body []byte) error {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	err := a.e.l.Write(a.e.next+1, body)
	if err == nil {
		a.e.next++
	}
	return err
}

func (a *tidwallAppender) appendBatch(bodies [][]byte) error {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	for i, body := range bodies {
		a.batch.Write(a.e.next+uint64(i)+1, body)
	}
	err := a.e.l.WriteBatch(&a.batch)
	if err == nil {
		a.e.next += uint64(len(bodies))
	}
	return err
}

func (a *tidwallAppender) settle() error { return nil }

func (e *tidwall) scan(visit func([]byte) bool) error {
	for i := range int64(e.next) {
		body, err := e.pick(i)
		if err != nil || !visit(body) {
			return err
		}
	}
	return nil
}

func (e *tidwall) pick(i int64) ([]byte, error) { return e.l.Read(uint64(i) + 1) }

func (e *tidwall) count() (int64, error) {
	last, err := e.l.LastIndex()
	return int64(last), err
}
