// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// prototypePeer is the whole path of an append with nothing around it: it encodes
// the record, looks at the clock, takes a lock and the next offset of the queue,
// computes both checksums and copies the record into a file that was populated
// before; another goroutine decodes it and writes its queue entry. It has Stele's
// codecs and none of Stele's guards, limits, waits, counters, topics and recovery.
// What it reaches is what a program of this shape can reach on the machine.
var prototypePeer = peer{
	name: "prototype", module: "github.com/stelelog/stele", floor: true,
	modes: map[mode]guarantee{
		async: {Kill: true, Text: "no engine: encodes records as Stele does, with a lock, a clock, a table of queue offsets and two checksums, into a file that was populated before; another goroutine decodes them and writes the entries; synced every 0.5 s"},
	},
	only: []kind{appends},
	open: func(dir string, _ mode) (engine, error) { return openPrototype(dir) },
}

// prototype is a floor whose records and entries are made in earnest.
type prototype struct {
	*floor
	next map[string]message.QueueOffset // of each queue; guarded by mu, as what follows

	idle    bool       // the dispatcher has all, and waits
	more    *sync.Cond // tells it that there is more
	rest    *sync.Cond // tells others that it has all
	closing bool
	worker  sync.WaitGroup
}

func openPrototype(dir string) (engine, error) {
	e, err := openFloor(dir)
	if err != nil {
		return nil, err
	}
	p := &prototype{floor: e, next: map[string]message.QueueOffset{topic: message.QueueOffset(e.n)}}
	p.more, p.rest = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	if err := unix.Madvise(p.files[0].data, unix.MADV_POPULATE_WRITE); err != nil {
		return nil, errors.Join(fmt.Errorf("populate %s: %w", p.path(0), err), e.close())
	}
	p.worker.Go(p.dispatch)
	return p, nil
}

func (p *prototype) appender(int) (appender, error) { return &prototypeAppender{p: p}, nil }

func (p *prototype) close() error {
	p.mu.Lock()
	p.closing = true
	p.more.Signal()
	p.mu.Unlock()
	p.worker.Wait()
	return p.floor.close()
}

// pick decodes a message. The bytes are the file's.
func (p *prototype) pick(i int64) ([]byte, error) {
	if i >= p.n {
		return nil, fmt.Errorf("message %d of %d", i, p.n)
	}
	x := consumequeue.DecodeEntry(p.index.data[i*consumequeue.EntrySize:])
	var m message.Message
	err := (&message.Decoder{}).Decode(p.files[int64(x.Offset)/floorFile].data[int64(x.Offset)%floorFile:], &m)
	return m.Body, err
}

func (p *prototype) scan(visit func([]byte) bool) error {
	for i := range p.n {
		body, err := p.pick(i)
		if err != nil || !visit(body) {
			return err
		}
	}
	return nil
}

// prototypeAppender belongs to one producer.
type prototypeAppender struct {
	p    *prototype
	buf  []byte
	ends []int
}

func (a *prototypeAppender) append(body []byte) error {
	a.buf, a.ends = a.buf[:0], a.ends[:0]
	if err := a.encode(body); err != nil {
		return err
	}
	return a.p.put(a.buf, a.ends)
}

func (a *prototypeAppender) appendBatch(bodies [][]byte) error {
	a.buf, a.ends = a.buf[:0], a.ends[:0]
	for _, body := range bodies {
		if err := a.encode(body); err != nil {
			return err
		}
	}
	return a.p.put(a.buf, a.ends)
}

func (a *prototypeAppender) encode(body []byte) (err error) {
	a.buf, err = message.Encoder{PropertyCRC: true}.Append(a.buf, &message.Message{Topic: topic, Body: body})
	a.ends = append(a.ends, len(a.buf))
	return err
}

// settle returns when everything is in the queue.
func (a *prototypeAppender) settle() error {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.idle {
		p.rest.Wait()
	}
	return p.err()
}

// put appends records, which end at ends, with one look at the clock.
func (p *prototype) put(records []byte, ends []int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.room(int64(len(records))); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	queue := p.next[topic]
	for from, i := 0, 0; i < len(ends); from, i = ends[i], i+1 {
		r := message.Record(records[from:ends[i]])
		r.Patch(message.Offset(p.end)+message.Offset(from), queue, now)
		r.Seal()
		queue++
	}
	p.next[topic] = queue
	copy(p.files[p.end/floorFile].data[p.end%floorFile:], records)
	before := p.end / floorAhead
	p.end += int64(len(records))
	p.at.Store(p.end)
	if p.end/floorAhead != before {
		select {
		case p.moved <- struct{}{}:
		default: // it is about to look
		}
	}
	if p.idle {
		p.idle = false
		p.more.Signal()
	}
	return nil
}

// room goes on to the next file if n bytes and a filler don't fit into this one.
func (p *prototype) room(n int64) error {
	if at := p.end % floorFile; at > 0 && at+n+message.FillerSize > floorFile {
		message.PutFiller(p.files[p.end/floorFile].data[at:], int(floorFile-at))
		p.end += floorFile - at
	}
	if p.end/floorFile < int64(len(p.files)) {
		return p.err()
	}
	return errors.Join(p.grow(), p.err())
}

// dispatch writes the entry of each record.
func (p *prototype) dispatch() {
	var dec message.Decoder
	var m message.Message
	data, base := []byte(nil), int64(-1)
	pos := p.at.Load()
	for {
		end := p.wait(pos)
		if end <= pos {
			return
		}
		for pos < end {
			if at := pos / floorFile * floorFile; at != base {
				data, base = p.file(pos/floorFile).data, at
			}
			size, kind, err := message.Peek(data[pos-base:])
			if err == nil && kind == message.KindMessage {
				err = dec.Decode(data[pos-base:], &m)
			}
			if at := int64(m.QueueOffset) * consumequeue.EntrySize; err == nil && at >= floorIndex {
				err = fmt.Errorf("%s is full", p.index.file.Name())
			}
			if err != nil {
				p.fail(fmt.Errorf("dispatch at %d: %w", pos, err))
				p.wait(-1)
				return
			}
			pos += int64(size)
			if kind == message.KindMessage {
				consumequeue.EntryOf(&m, nil).Encode(p.index.data[int64(m.QueueOffset)*consumequeue.EntrySize:])
				p.n = int64(m.QueueOffset) + 1
			}
		}
	}
}

// wait returns the end of the log once it is not pos, or the bench is over; with -1
// only then.
func (p *prototype) wait(pos int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for (p.end == pos || pos < 0) && !p.closing {
		p.idle = true
		p.rest.Broadcast()
		p.more.Wait()
	}
	return p.end
}
