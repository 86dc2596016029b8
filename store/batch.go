// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Batch is what a fetch found: views of the log's own pages. They stay valid,
// whatever expires meanwhile, until Release. A Batch is not safe for concurrent
// use.
type Batch struct {
	Topic   string
	QueueID int32
	// From is the offset that was asked for, Next the one to go on at.
	From, Next message.QueueOffset
	// Min and Max were the queue's bounds: Max - Next is how far behind the
	// batch is.
	Min, Max message.QueueOffset

	store   *Store
	queue   *consumequeue.Queue
	records []record // in room, like what All decodes
	bytes   int
	full    bool
	sieve   sieve
	views   []mappedfile.View
	oneView [1]mappedfile.View // views' first element: most batches lie in one file
	room    atomic.Pointer[room]
}

// room is the memory of a batch that the next one has after Release. The Batch
// itself is not used again: Release may be called twice.
type room struct {
	records []record
	decoded []message.Message // those behind its length are zero
}

// maxRoom is how many messages a room may hold that is kept: 1.3 MiB. One for
// each CPU is kept, until two collections of garbage have found it idle.
const maxRoom = 4096

var rooms sync.Pool // *room

// free empties the room: it must refer to no mapping, since something else may
// be at its address tomorrow, and who reads a message after Release shall find
// nothing and not another message.
func (r *room) free(records []record) {
	clear(records)
	clear(r.decoded)
	r.records, r.decoded = records[:0], r.decoded[:0]
	if cap(r.records) <= maxRoom && cap(r.decoded) <= maxRoom {
		rooms.Put(r)
	}
}

// decodeInto returns memory for n messages that stays where it is until Release.
func (r *room) decodeInto(n int) []message.Message {
	if len(r.decoded) < n {
		r.decoded = slices.Grow(r.decoded[:0], n)[:n]
	}
	return r.decoded
}

// record is one message of a batch, encoded.
type record struct {
	data   []byte
	at     message.QueueOffset
	offset message.Offset
	err    error // why there is no data
}

func newBatch(s *Store, q *consumequeue.Queue, from message.QueueOffset, limit Limit) *Batch {
	b := &Batch{
		Topic: q.Topic(), QueueID: q.ID(), From: from, Next: from, Min: q.Min(), Max: q.Max(), store: s, queue: q,
	}
	b.views = b.oneView[:0]
	// There may be more than Max by the time that they are read.
	r, ok := rooms.Get().(*room)
	if !ok {
		r = new(room)
	}
	b.records = slices.Grow(r.records, int(max(0, min(int64(limit.Messages), int64(b.Max-from)))))
	b.room.Store(r)
	return b
}

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.records) }

// Bytes is the length of the records together.
func (b *Batch) Bytes() int { return b.bytes }

// All decodes the messages, in order. Each is valid until Release, itself as well
// as its Body and Properties, which are views and not to be written;
// message.Message.Clone makes a copy that lasts. The memory of a released one is
// used again. A message that is damaged comes as a
// *commitlog.CorruptError, one whose entry in the queue is damaged and whose
// record can't be found as a *consumequeue.EntryError, one whose page the disk can't deliver as a
// *mappedfile.FaultError, and the iteration goes on behind it. Each byte was
// read once when a message is yielded; who fears that its file is cut after that
// works on it in a mappedfile.Guard.
func (b *Batch) All() iter.Seq2[*message.Message, error] {
	return func(yield func(*message.Message, error) bool) {
		if len(b.records) == 0 {
			return
		}
		decoded := b.room.Load().decodeInto(len(b.records))
		dec := message.Decoder{Check: message.CheckIntact}
		for i := 0; i < len(b.records); {
			n, err := b.decodeRun(&dec, i, decoded)
			for range n {
				if !yield(&decoded[i], nil) {
					return
				}
				i++
			}
			if err != nil {
				if !yield(nil, err) {
					return
				}
				i++
			}
		}
	}
}

// decodeAhead is how many messages All decodes before it yields the first of
// them: they share a mappedfile.Guard, and few are decoded for nothing when the
// loop ends early.
const decodeAhead = 16

// decodeRun decodes a run of messages from record i on. It returns how many were
// decoded; the error is that of the one behind them.
func (b *Batch) decodeRun(dec *message.Decoder, i int, decoded []message.Message) (n int, err error) {
	defer mappedfile.Disarm(mappedfile.Arm(), &err)
	for ; n < decodeAhead && i+n < len(b.records); n++ {
		m := &decoded[i+n]
		// A topic that is there already is compared and kept, not made anew.
		m.Topic = b.Topic
		if err := b.decode(dec, i+n, m); err != nil {
			return n, err
		}
	}
	return n, nil
}

// decode reads record i and makes sure that it is the one that the queue means.
//
// When it is not, that may be the entry's fault: then the record stands
// somewhere else.
func (b *Batch) decode(dec *message.Decoder, i int, m *message.Message) error {
	r := &b.records[i]
	if r.err != nil {
		return r.err
	}
	err := b.decodeAt(dec, r, m)
	if err == nil {
		return nil
	}
	found, mendErr := b.mend(b.queue, r.at, err)
	if mendErr != nil || found.offset == r.offset && len(found.data) == len(r.data) {
		return err
	}
	if mendErr = b.decodeAt(dec, &found, m); mendErr != nil {
		return err
	}
	*r = found
	return nil
}

func (b *Batch) decodeAt(dec *message.Decoder, r *record, m *message.Message) error {
	err := dec.Decode(r.data, m)
	switch {
	case err != nil:
	case commitlog.Torn(m):
		err = commitlog.ErrTorn
	case int(m.Size) != len(r.data):
		err = fmt.Errorf("%w: it has %d bytes, the entry says %d", ErrWrongRecord, m.Size, len(r.data))
	case m.PhysicalOffset != r.offset:
		err = fmt.Errorf("%w: it says %d", commitlog.ErrPosition, m.PhysicalOffset)
	case m.Topic != b.Topic || m.QueueID != b.QueueID || m.QueueOffset != r.at:
		err = fmt.Errorf("%w: topic %q, queue %d, offset %d instead of %d of %q/%d",
			ErrWrongRecord, m.Topic, m.QueueID, m.QueueOffset, r.at, b.Topic, b.QueueID)
	}
	if err == nil {
		return nil
	}
	path := ""
	if f := b.store.log.Files().Find(int64(r.offset)); f != nil {
		path = f.Path()
	}
	return &commitlog.CorruptError{Path: path, Offset: r.offset, Cause: err}
}

// Records returns the encoded records, in order, for who sends them on as they
// are, but for those that can't be found. The bytes are views: valid until Release, not to be written, and not
// checked yet.
func (b *Batch) Records() iter.Seq[message.Record] {
	return func(yield func(message.Record) bool) {
		for i := range b.records {
			if b.records[i].err == nil && !yield(b.records[i].data) {
				return
			}
		}
	}
}

// Release gives the views back, and the memory of the messages. It may be called
// more than once; b, and what came from it, must not be read after it.
func (b *Batch) Release() {
	for i := range b.views {
		b.views[i].Release()
	}
	records := b.records
	b.views, b.records = nil, nil
	if r := b.room.Swap(nil); r != nil {
		r.free(records)
	}
}
