// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

var pebblePeer = peer{
	name: "pebble", module: "github.com/cockroachdb/pebble/v2",
	modes: map[mode]guarantee{
		async:   {Text: "pebble.NoSync, memory tables of 64 MiB, the rest by default: its WAL is written by a goroutine, so SIGKILL can take messages that were acknowledged. Keys of 8 bytes, counted by the embedder"},
		durable: {Kill: true, Power: true, Text: "pebble.Sync: its own group commit"},
	},
	open: func(dir string, m mode) (engine, error) {
		db, err := pebble.Open(dir, &pebble.Options{MemTableSize: 64 << 20, L0CompactionThreshold: 4, Logger: silent{}})
		if err != nil {
			return nil, err
		}
		e := &pebbleDB{db: db, write: &pebble.WriteOptions{Sync: m == durable}}
		n, err := e.count()
		e.next.Store(uint64(n))
		return e, err
	},
}

// silent is a logger for Pebble.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf ends the process: Pebble can't go on.
func (silent) Fatalf(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

type pebbleDB struct {
	db    *pebble.DB
	write *pebble.WriteOptions
	next  atomic.Uint64
	last  io.Closer // of the last pick
}

func (e *pebbleDB) appender(int) (appender, error) { return &pebbleAppender{e: e}, nil }

func (e *pebbleDB) close() error {
	if e.last != nil {
		_ = e.last.Close() // It gives a block back to the cache.
	}
	return e.db.Close()
}

type pebbleAppender struct {
	e   *pebbleDB
	key [8]byte
}

func (a *pebbleAppender) append(body []byte) error {
	binary.BigEndian.PutUint64(a.key[:], a.e.next.Add(1)-1)
	return a.e.db.Set(a.key[:], body, a.e.write)
}

func (a *pebbleAppender) appendBatch(bodies [][]byte) error {
	b := a.e.db.NewBatch()
	first := a.e.next.Add(uint64(len(bodies))) - uint64(len(bodies))
	for i, body := range bodies {
		binary.BigEndian.PutUint64(a.key[:], first+uint64(i))
		if err := b.Set(a.key[:], body, nil); err != nil {
			return err
		}
	}
	if err := b.Commit(a.e.write); err != nil {
		return err
	}
	return b.Close()
}

func (a *pebbleAppender) settle() error { return nil }

func (e *pebbleDB) scan(visit func([]byte) bool) error {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		body, err := it.ValueAndErr()
		if err != nil || !visit(body) {
			return closed(it, err)
		}
	}
	return closed(it, it.Error())
}

func closed(c io.Closer, err error) error {
	if e := c.Close(); err == nil {
		err = e
	}
	return err
}

func (e *pebbleDB) pick(i int64) ([]byte, error) {
	if e.last != nil {
		if err := e.last.Close(); err != nil {
			return nil, err
		}
	}
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(i))
	body, last, err := e.db.Get(key[:])
	e.last = last
	return body, err
}

func (e *pebbleDB) count() (int64, error) {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	if it.Last() {
		n = int64(binary.BigEndian.Uint64(it.Key())) + 1
	}
	return n, closed(it, it.Error())
}
