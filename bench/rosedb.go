// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/rosedblabs/wal"
)

var rosedbPeer = peer{
	name: "rosedb-wal", module: "github.com/rosedblabs/wal",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "Sync off, segments of 1 GiB: written by write(2). No index: to read by number the embedder keeps positions"},
		durable: {Kill: true, Power: true, Text: "Sync on: fsync for each write, one at a time"},
	},
	open: func(dir string, m mode) (engine, error) {
		o := wal.DefaultOptions
		o.DirPath, o.Sync = dir, m == durable
		w, err := wal.Open(o)
		if err != nil {
			return nil, err
		}
		return &rosedb{w: w}, nil
	},
}

type rosedb struct {
	w  *wal.WAL
	mu sync.Mutex // over pending writes, which are those of everybody, and positions
	// positions are what an embedder has to keep to find a message again.
	positions []wal.ChunkPosition
}

func (e *rosedb) appender(int) (appender, error) { return rosedbAppender{e}, nil }
func (e *rosedb) close() error                   { return e.w.Close() }

type rosedbAppender struct{ e *rosedb }

func (a rosedbAppender) append(body []byte) error {
	_, err := a.e.w.Write(body)
	return err
}

func (a rosedbAppender) appendBatch(bodies [][]byte) error {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	for _, body := range bodies {
		a.e.w.PendingWrites(body)
	}
	_, err := a.e.w.WriteAll()
	return err
}

func (a rosedbAppender) settle() error { return nil }

func (e *rosedb) scan(visit func([]byte) bool) error {
	return e.each(func(body []byte, _ *wal.ChunkPosition) bool { return visit(body) })
}

func (e *rosedb) each(visit func([]byte, *wal.ChunkPosition) bool) error {
	for r := e.w.NewReader(); ; {
		body, at, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || !visit(body, at) {
			return err
		}
	}
}

func (e *rosedb) pick(i int64) ([]byte, error) {
	if e.positions == nil {
		if _, err := e.count(); err != nil {
			return nil, err
		}
	}
	at := e.positions[i]
	return e.w.Read(&at)
}

// count reads all of it: there is no other way to find the positions.
func (e *rosedb) count() (int64, error) {
	e.positions = slices.Grow(e.positions[:0], 1<<20)
	err := e.each(func(_ []byte, at *wal.ChunkPosition) bool {
		e.positions = append(e.positions, *at)
		return true
	})
	return int64(len(e.positions)), err
}
