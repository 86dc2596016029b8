// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"iter"
	"slices"
	"sync"

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
	records []record
	memory  *[]record // where records lies, unless it has outgrown that
	bytes   int
	full    bool
	sieve   sieve
	views   []mappedfile.View
	oneView [1]mappedfile.View // views' first element: most batches lie in one file
	decoded []message.Message
}

// record is one message of a batch, encoded.
type record struct {
	data   []byte
	at     message.QueueOffset
	offset message.Offset
	err    error // why there is no data
}

// spareRecords are *[]record, empty ones, which the next batch takes over. To
// allocate them anew for each costs a consumer a tenth of its processor time.
var spareRecords sync.Pool

func newBatch(s *Store, q *consumequeue.Queue, from message.QueueOffset, limit Limit) *Batch {
	b := &Batch{
		Topic: q.Topic(), QueueID: q.ID(), From: from, Next: from, Min: q.Min(), Max: q.Max(), store: s, queue: q,
	}
	b.views = b.oneView[:0]
	if b.memory, _ = spareRecords.Get().(*[]record); b.memory == nil {
		b.memory = new([]record)
	}
	b.records = *b.memory
	if n := min(int64(limit.Messages), int64(b.Max-from)); n > 0 {
		b.records = slices.Grow(b.records, int(n))
	}
	return b
}

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.records) }

// Bytes is the length of the records together.
func (b *Batch) Bytes() int { return b.bytes }

// All decodes the messages one by one, in order. Body and properties of each
// are views: valid until Release, not to be written; message.Message.Clone
// makes a copy that lasts. A message that is damaged comes as a
// *commitlog.CorruptError, one whose entry in the queue is damaged and whose
// record can't be found as a *consumequeue.EntryError, one whose page the disk can't deliver as a
// *mappedfile.FaultError, and the iteration goes on behind it. Each byte was
// read once when a message is yielded; who fears that its file is cut after that
// works on it in a mappedfile.Guard.
func (b *Batch) All() iter.Seq2[*message.Message, error] {
	return func(yield func(*message.Message, error) bool) {
		if b.decoded == nil && len(b.records) > 0 {
			b.decoded = make([]message.Message, len(b.records))
		}
		dec := message.Decoder{Check: message.CheckIntact}
		for i := range b.records {
			m := &b.decoded[i]
			// A topic that is there already is compared and kept, not made anew.
			m.Topic = b.Topic
			err := mappedfile.Guard(func() error { return b.decode(&dec, i, m) })
			if err != nil {
				m = nil
			}
			if !yield(m, err) {
				return
			}
		}
	}
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

// Release gives the views back. It may be called more than once; b must not be
// read after it.
func (b *Batch) Release() {
	for i := range b.views {
		b.views[i].Release()
	}
	if b.memory != nil {
		clear(b.records)
		*b.memory = b.records[:0]
		spareRecords.Put(b.memory)
	}
	b.views, b.records, b.decoded, b.memory = nil, nil, nil, nil
}
