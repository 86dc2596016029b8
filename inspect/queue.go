// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// Entry is one entry of a consume queue, and the message that it names. What
// Message borrows is valid until the next step of the iteration.
type Entry struct {
	At message.QueueOffset
	consumequeue.Entry
	// Message is nil for a blank entry, and where the record can't be read.
	Message *message.Message
	// Err says why there is no Message, or why it can't be the one that is
	// meant: it wraps a *commitlog.CorruptError, commitlog.ErrExpired,
	// commitlog.ErrOutOfRange, ErrEntry or ErrUnreadable.
	Err error
}

// QueueRange says which entries of a queue are wanted.
type QueueRange struct {
	// From is the first one. Below the queue's minimum it means the minimum.
	From message.QueueOffset
	// Limit is how many at most; 0 means all.
	Limit int64
}

// Queue yields the entries of one consume queue in order, as far as the queue
// reached when the iteration began.
//
// A record that can't be read is told by Entry.Err, and the iteration goes on.
// An error that is yielded is the last thing: ErrNoQueue, a
// *consumequeue.OffsetError when From lies behind the end of the queue, a
// *mappedfile.FileError, ErrUnreadable, the error of ctx.
func (d *Dir) Queue(ctx context.Context, topic string, id int32, r QueueRange) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := d.queue(ctx, topic, id, r, yield); err != nil && !errors.Is(err, errStop) {
			yield(Entry{}, err)
		}
	}
}

func (d *Dir) queue(ctx context.Context, topic string, id int32, r QueueRange, yield func(Entry, error) bool) error {
	set, err := consumequeue.OpenSet(consumequeue.Options{Dir: d.queues(), ReadOnly: true, Tolerant: true})
	if err != nil {
		return err
	}
	defer func() { _ = set.Close() }() // read-only: nothing can be lost
	q := set.Get(topic, id)
	if q == nil {
		if err := errors.Join(set.Problems()...); err != nil {
			return fmt.Errorf("%w: queue %d of topic %q in %s: %w", ErrNoQueue, id, topic, d.path, err)
		}
		return fmt.Errorf("%w: queue %d of topic %q in %s", ErrNoQueue, id, topic, d.path)
	}
	if err := recoverQueue(q); err != nil {
		return err
	}
	// The log is listed after the queue: then it has every record that the
	// queue names.
	log, err := d.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	if err := guard(func() error { return q.CorrectMin(log.Min()) }); err != nil {
		return err
	}
	w := &queueWalk{ctx: ctx, queue: q, records: newReader(log), yield: yield}
	defer w.records.close()
	from := max(r.From, q.Min())
	if from > q.Max() {
		return &consumequeue.OffsetError{Topic: topic, Queue: id, From: from, Min: q.Min(), Max: q.Max()}
	}
	n := int64(math.MaxInt64)
	if r.Limit > 0 {
		n = r.Limit
	}
	return w.run(from, n)
}

// queueWalk is one iteration over the entries of a queue.
type queueWalk struct {
	ctx     context.Context
	queue   *consumequeue.Queue
	records *reader
	msg     message.Message
	yield   func(Entry, error) bool
}

// queueStep is how many entries are borrowed at once.
const queueStep = 1024

func (w *queueWalk) run(from message.QueueOffset, n int64) error {
	for n > 0 && from < w.queue.Max() {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		es, err := w.queue.Read(from, int(min(n, queueStep)))
		if err != nil {
			return err
		}
		for i := range es.Len() {
			if err = w.entry(es, i); err != nil {
				break
			}
		}
		n -= int64(es.Len())
		from += message.QueueOffset(es.Len())
		es.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *queueWalk) entry(es consumequeue.Entries, i int) error {
	e := Entry{At: es.First() + message.QueueOffset(i)}
	err := guard(func() error {
		e.Entry = es.At(i)
		return nil
	})
	if err != nil {
		return err
	}
	if !e.IsBlank() {
		e.Message, e.Err = w.message(e)
	}
	if !w.yield(e, nil) {
		return errStop
	}
	return nil
}

// message reads the record of an entry and checks that it is the one meant.
func (w *queueWalk) message(e Entry) (*message.Message, error) {
	if !e.Valid() {
		return nil, fmt.Errorf("%w: offset %d, size %d", ErrEntry, e.Offset, e.Size)
	}
	if err := w.records.read(e.Entry, &w.msg); err != nil {
		return nil, err
	}
	m := &w.msg
	if m.Topic != w.queue.Topic() || m.QueueID != w.queue.ID() {
		return m, fmt.Errorf("%w: the record belongs to queue %d of topic %q", ErrEntry, m.QueueID, m.Topic)
	}
	if m.QueueOffset != e.At {
		return m, fmt.Errorf("%w: the record has queue offset %d", ErrEntry, m.QueueOffset)
	}
	return m, nil
}

// IsDamage reports whether Err says that something is wrong: not that a record
// expired meanwhile.
func (e *Entry) IsDamage() bool { return e.Err != nil && !errors.Is(e.Err, commitlog.ErrExpired) }

// EntryRow is an entry as one JSON object, with these fields in this order:
//
//	queueOffset     number
//	physicalOffset  number   bytes; of the record in the commit log
//	size            number   bytes; of the record
//	tagsCode        number   hash of the tags; a time of delivery in the delay topic
//	blank           boolean  it stands for no message
//	error           string or null   why there is no message, or not the one meant
//	message         object or null   as a Row
type EntryRow struct {
	Entry
	Body Body
}

// MarshalJSON implements json.Marshaler.
func (r EntryRow) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// AppendJSON appends the object to dst, without a line end.
func (r EntryRow) AppendJSON(dst []byte) []byte {
	dst = appendInt(append(dst, `{"queueOffset":`...), r.At)
	dst = appendInt(append(dst, `,"physicalOffset":`...), r.Offset)
	dst = appendInt(append(dst, `,"size":`...), r.Size)
	dst = appendInt(append(dst, `,"tagsCode":`...), r.TagsCode)
	dst = strconv.AppendBool(append(dst, `,"blank":`...), r.IsBlank())
	dst = append(dst, `,"error":`...)
	if r.Err == nil {
		dst = append(dst, "null"...)
	} else {
		dst = appendText(dst, r.Err.Error())
	}
	dst = append(dst, `,"message":`...)
	if r.Message == nil {
		return append(dst, "null}"...)
	}
	return append(Row{Message: r.Message, Body: r.Body}.AppendJSON(dst), '}')
}
