// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// floorPeer is no engine, and no peer: it does with the machine what Stele's format
// asks for and nothing else. What it reaches is what the goals can be held against.
//
// An append looks at the clock, copies a record of Stele's length into a mapped file
// that a goroutine populates ahead of it, with the CRC-32 of the body and of the
// record, and writes an entry of 20 bytes; another goroutine syncs the file twice a
// second. Nothing is encoded; there are no topics, no guards, and no recovery. A read
// follows an entry and computes the CRC-32 of the record.
var floorPeer = peer{
	name: "floor", module: "github.com/stelelog/stele", floor: true,
	modes: map[mode]guarantee{
		async: {Kill: true, Text: "no engine: a loop that looks at the clock and copies records of Stele's length into a mapping that is populated ahead, with two checksums and an entry of 20 bytes for each, synced every 0.5 s; reads compute a CRC of each record"},
	},
	without: map[kind]string{reopens: "it recovers nothing"},
	open:    func(dir string, _ mode) (engine, error) { return openFloor(dir) },
}

const (
	floorFile   = 1 << 30
	floorIndex  = 640 << 20 // bytes of entries
	floorAhead  = 4 << 20   // that are populated, as Stele does by default
	floorHeader = 91        // of a record: all before the body
)

type floor struct {
	dir  string
	tail int // bytes of a record behind the body

	mu    sync.Mutex
	files []*floorMapping
	index *floorMapping
	n     int64  // entries
	end   int64  // of the log; moves under mu
	rec   []byte // what is copied
	sum   uint32 // of all reads, so that none is left out
	// What the goroutines go by.
	at     atomic.Int64
	moved  chan struct{} // the end came to another window
	quit   chan struct{}
	others sync.WaitGroup
	failed atomic.Pointer[error]
}

type floorMapping struct {
	file *os.File
	data []byte
}

func mapFloor(path string, size int64) (*floorMapping, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return nil, errors.Join(fmt.Errorf("fallocate %s: %w", path, err), f.Close())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mmap %s: %w", path, err), f.Close())
	}
	return &floorMapping{file: f, data: data}, nil
}

func (m *floorMapping) close() error { return errors.Join(unix.Munmap(m.data), m.file.Close()) }

func openFloor(dir string) (*floor, error) {
	size, err := message.Encoder{PropertyCRC: true}.EncodedLen(&message.Message{Topic: topic})
	if err != nil {
		return nil, err
	}
	e := &floor{dir: dir, tail: size - floorHeader, rec: make([]byte, floorHeader, 1<<20), moved: make(chan struct{}, 1), quit: make(chan struct{})}
	if e.index, err = mapFloor(filepath.Join(dir, "index"), floorIndex); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		if _, err := os.Stat(e.path(n)); n > 0 && errors.Is(err, os.ErrNotExist) {
			break
		}
		if err := e.grow(); err != nil {
			return nil, err
		}
	}
	for {
		x := consumequeue.DecodeEntry(e.index.data[e.n*consumequeue.EntrySize:])
		if x.Size == 0 {
			break
		}
		e.n++
		e.end = int64(x.End())
	}
	e.at.Store(e.end)
	e.others.Go(e.populate)
	e.others.Go(e.sync)
	return e, nil
}

func (e *floor) path(n int) string { return filepath.Join(e.dir, fmt.Sprintf("log.%03d", n)) }

func (e *floor) grow() error {
	m, err := mapFloor(e.path(len(e.files)), floorFile)
	if err == nil {
		e.files = append(e.files, m)
	}
	return err
}

// file returns a file of the log for another goroutine, or nil.
func (e *floor) file(n int64) *floorMapping {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n >= int64(len(e.files)) {
		return nil
	}
	return e.files[n]
}

// populate keeps the pages ahead of the end present.
func (e *floor) populate() {
	done := e.at.Load()
	for {
		for done < e.at.Load()+floorAhead {
			m := e.file(done / floorFile)
			if m == nil {
				break
			}
			from := done % floorFile / floorAhead * floorAhead
			if err := unix.Madvise(m.data[from:from+floorAhead], unix.MADV_POPULATE_WRITE); err != nil {
				e.fail(err)
				return
			}
			done = done/floorFile*floorFile + from + floorAhead
		}
		select {
		case <-e.quit:
			return
		case <-e.moved:
		}
	}
}

// sync makes what was appended durable, twice a second.
func (e *floor) sync() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	done := e.at.Load()
	for {
		select {
		case <-e.quit:
			return
		case <-tick.C:
		}
		for to := e.at.Load(); done < to; {
			m := e.file(done / floorFile)
			from := done % floorFile / 4096 * 4096
			n := min(floorFile, to-done/floorFile*floorFile)
			if err := unix.Msync(m.data[from:n], unix.MS_SYNC); err != nil {
				e.fail(err)
				return
			}
			done = done/floorFile*floorFile + n
		}
	}
}

func (e *floor) fail(err error) { e.failed.CompareAndSwap(nil, &err) }

func (e *floor) err() error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (e *floor) appender(int) (appender, error) { return e, nil }
func (e *floor) count() (int64, error)          { return e.n, nil }
func (e *floor) settle() error                  { return e.err() }

func (e *floor) append(body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.put(body)
}

func (e *floor) appendBatch(bodies [][]byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, body := range bodies {
		if err := e.put(body); err != nil {
			return err
		}
	}
	return nil
}

func (e *floor) put(body []byte) error {
	n := int64(floorHeader + len(body) + e.tail)
	if e.end%floorFile+n > floorFile {
		e.end = (e.end/floorFile + 1) * floorFile
	}
	if e.end/floorFile >= int64(len(e.files)) {
		if err := errors.Join(e.grow(), e.err()); err != nil {
			return err
		}
	}
	if e.n*consumequeue.EntrySize >= floorIndex {
		return fmt.Errorf("%s is full", e.index.file.Name())
	}
	rec := e.files[e.end/floorFile].data[e.end%floorFile:][:n]
	e.rec = append(e.rec[:floorHeader], body...)[:n]
	binary.BigEndian.PutUint32(e.rec, uint32(n))
	binary.BigEndian.PutUint64(e.rec[8:], uint64(time.Now().UnixMilli()))
	binary.BigEndian.PutUint32(e.rec[16:], crc32.ChecksumIEEE(body))
	binary.BigEndian.PutUint32(e.rec[20:], crc32.ChecksumIEEE(e.rec))
	copy(rec, e.rec)
	consumequeue.Entry{Offset: message.Offset(e.end), Size: int32(n)}.Encode(e.index.data[e.n*consumequeue.EntrySize:])
	e.n++
	before := e.end / floorAhead
	e.end += n
	e.at.Store(e.end)
	if e.end/floorAhead != before {
		select {
		case e.moved <- struct{}{}:
		default: // it is about to look
		}
	}
	return nil
}

// pick follows an entry, and computes the CRC of the record.
func (e *floor) pick(i int64) ([]byte, error) {
	if i >= e.n {
		return nil, fmt.Errorf("message %d of %d", i, e.n)
	}
	x := consumequeue.DecodeEntry(e.index.data[i*consumequeue.EntrySize:])
	rec := e.files[int64(x.Offset)/floorFile].data[int64(x.Offset)%floorFile:][:x.Size]
	e.sum ^= crc32.ChecksumIEEE(rec)
	return rec[floorHeader : len(rec)-e.tail], nil
}

func (e *floor) scan(visit func([]byte) bool) error {
	for i := range e.n {
		body, err := e.pick(i)
		if err != nil || !visit(body) {
			return err
		}
	}
	return nil
}

func (e *floor) close() error {
	close(e.quit)
	e.others.Wait()
	errs := []error{e.err(), e.index.close()}
	for _, m := range e.files {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}
