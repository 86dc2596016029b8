// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"
)

var bboltPeer = peer{
	name: "bbolt", module: "go.etcd.io/bbolt",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "NoSync, NoFreelistSync, a map of free pages, full pages; an Update for each append: written by pwrite(2). A power cut may leave a file that can't be opened"},
		durable: {Kill: true, Power: true, Text: "Update: two fdatasync, one append at a time"},
	},
	open: func(dir string, m mode) (engine, error) {
		o := *bbolt.DefaultOptions
		if m == async {
			o.NoSync, o.NoFreelistSync, o.FreelistType = true, true, bbolt.FreelistMapType
		}
		db, err := bbolt.Open(filepath.Join(dir, "bench.db"), 0o644, &o)
		if err != nil {
			return nil, err
		}
		e := &bolt{db: db}
		return e, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bucket)
			return err
		})
	},
}

var bucket = []byte("log")

type bolt struct {
	db  *bbolt.DB
	buf []byte
}

func (e *bolt) appender(int) (appender, error) { return &boltAppender{e: e}, nil }
func (e *bolt) close() error                   { return e.db.Close() }

type boltAppender struct {
	e    *bolt
	one  [1][]byte
	keys []byte
}

func (a *boltAppender) append(body []byte) error {
	a.one[0] = body
	return a.appendBatch(a.one[:])
}

func (a *boltAppender) appendBatch(bodies [][]byte) error {
	return a.e.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		b.FillPercent = 1
		a.keys = a.keys[:0]
		for _, body := range bodies {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			a.keys = binary.BigEndian.AppendUint64(a.keys, n-1)
			if err := b.Put(a.keys[len(a.keys)-8:], body); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *boltAppender) settle() error { return nil }

func (e *bolt) scan(visit func([]byte) bool) error {
	return e.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		k, v := c.First()
		for k != nil && visit(v) {
			k, v = c.Next()
		}
		return nil
	})
}

// pick is a View of its own, as an embedder's read is, and copies, since the
// value is gone with it.
func (e *bolt) pick(i int64) ([]byte, error) {
	err := e.db.View(func(tx *bbolt.Tx) error {
		var key [8]byte
		binary.BigEndian.PutUint64(key[:], uint64(i))
		v := tx.Bucket(bucket).Get(key[:])
		if v == nil {
			return fmt.Errorf("no message %d", i)
		}
		e.buf = append(e.buf[:0], v...)
		return nil
	})
	return e.buf, err
}

func (e *bolt) count() (n int64, err error) {
	err = e.db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Bucket(bucket).Cursor().Last(); k != nil {
			n = int64(binary.BigEndian.Uint64(k)) + 1
		}
		return nil
	})
	return n, err
}
