// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

var raftWALPeer = peer{
	name: "raft-wal", module: "github.com/hashicorp/raft-wal",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "has none of its own: a file system whose Sync does nothing, so written by pwrite(2). Indexes are the embedder's, who holds a mutex"},
		durable: {Kill: true, Power: true, Text: "as it is: fsync for each StoreLogs, one at a time"},
	},
	open: func(dir string, m mode) (engine, error) {
		filer := segment.NewFiler(dir, fs.New())
		if m == async {
			filer = segment.NewFiler(dir, lazyFS{fs.New()})
		}
		// Its own default, but where it can be closed: a WAL leaves it open, and locked.
		meta := &metadb.BoltMetaDB{}
		w, err := raftwal.Open(dir, raftwal.WithLogger(hclog.NewNullLogger()), raftwal.WithSegmentFiler(filer), raftwal.WithMetaStore(meta))
		if err != nil {
			return nil, errors.Join(err, meta.Close())
		}
		e := &raftWAL{w: w, meta: meta}
		e.next, err = w.LastIndex()
		return e, err
	},
}

// lazyFS syncs nothing that is written to a file.
type lazyFS struct{ *fs.FS }

func (l lazyFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := l.FS.Create(dir, name, size)
	return lazyFile{f}, err
}

func (l lazyFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := l.FS.OpenWriter(dir, name)
	return lazyFile{f}, err
}

type lazyFile struct{ types.WritableFile }

func (lazyFile) Sync() error { return nil }

type raftWAL struct {
	mu   sync.Mutex // an index must follow the one before
	w    *raftwal.WAL
	meta *metadb.BoltMetaDB
	next uint64
	log  raft.Log
}

func (e *raftWAL) close() error { return errors.Join(e.w.Close(), e.meta.Close()) }

func (e *raftWAL) appender(int) (appender, error) { return &raftAppender{e: e}, nil }

type raftAppender struct {
	e    *raftWAL
	one  [1][]byte
	logs []*raft.Log
}

func (a *raftAppender) append(body []byte) error {
	a.one[0] = body
	return a.appendBatch(a.one[:])
}

func (a *raftAppender) appendBatch(bodies [][]byte) error {
	for len(a.logs) < len(bodies) {
		a.logs = append(a.logs, &raft.Log{Term: 1})
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	for i, body := range bodies {
		a.logs[i].Index, a.logs[i].Data = a.e.next+uint64(i)+1, body
	}
	err := a.e.w.StoreLogs(a.logs[:len(bodies)])
	if err == nil {
		a.e.next += uint64(len(bodies))
	}
	return err
}

func (a *raftAppender) settle() error { return nil }

func (e *raftWAL) scan(visit func([]byte) bool) error {
	for i := range int64(e.next) {
		body, err := e.pick(i)
		if err != nil || !visit(body) {
			return err
		}
	}
	return nil
}

func (e *raftWAL) pick(i int64) ([]byte, error) {
	err := e.w.GetLog(uint64(i)+1, &e.log)
	return e.log.Data, err
}

func (e *raftWAL) count() (int64, error) {
	last, err := e.w.LastIndex()
	return int64(last), err
}
