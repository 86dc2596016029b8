// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	// Tags takes the entries of messages with these tags: by the hash in the
	// entry, where it holds one, then by the message. What can't be read is
	// taken, unless its hash is another one. Blank entries are passed over when
	// a tag is asked for.
	Tags message.TagFilter
	// Since begins with the first message stored at or after this time, in
	// milliseconds since the Unix epoch, if that lies behind From; 0 means no
	// bound. Store times are taken to grow along the queue.
	Since int64
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
	var records *reader
	set, err := consumequeue.OpenSet(consumequeue.Options{
		Dir: d.queues(), ReadOnly: true, Tolerant: true,
		StoreTime: func(off message.Offset, size int32) (int64, error) { return records.stored(off, size) },
	})
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
	records = newReader(log)
	defer records.close()
	w := &queueWalk{ctx: ctx, queue: q, records: records, tags: r.Tags, left: r.Limit, yield: yield}
	from := max(r.From, q.Min())
	if from > q.Max() {
		return &consumequeue.OffsetError{Topic: topic, Queue: id, From: from, Min: q.Min(), Max: q.Max()}
	}
	if r.Since > 0 {
		at, err := q.OffsetByTime(r.Since, consumequeue.Lower)
		if err != nil {
			return unreadable(err)
		}
		from = max(from, at)
	}
	return w.run(from)
}

// queueWalk is one iteration over the entries of a queue.
type queueWalk struct {
	ctx     context.Context
	queue   *consumequeue.Queue
	records *reader
	msg     message.Message
	tags    message.TagFilter
	left    int64 // entries that are still wanted, if there is a limit
	yield   func(Entry, error) bool
}

// queueStep is how many entries are borrowed at once.
const queueStep = 1024

func (w *queueWalk) run(from message.QueueOffset) error {
	for from < w.queue.Max() {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		es, err := w.queue.Read(from, queueStep)
		if errors.Is(err, consumequeue.ErrOffsetOutOfRange) && from < w.queue.Min() {
			from = w.queue.Min() // the owner removed the file meanwhile
			continue
		}
		if err != nil {
			return err
		}
		for i := range es.Len() {
			if err = w.entry(es, i); err != nil {
				break
			}
		}
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
	if !w.mayMatch(e) {
		return nil
	}
	if !e.IsBlank() {
		e.Message, e.Err = w.message(e)
	}
	if e.Message != nil && e.Err == nil && !w.tags.Match(e.Message) {
		return nil
	}
	if !w.yield(e, nil) {
		return errStop
	}
	if w.left--; w.left == 0 {
		return errStop
	}
	return nil
}

// mayMatch reports whether the entry can be one with a wanted tag.
func (w *queueWalk) mayMatch(e Entry) bool {
	if w.tags.All() || !e.Valid() && !e.IsBlank() {
		return true
	}
	// The delay topic's entries hold a time instead of a hash.
	return !e.IsBlank() && (w.queue.Topic() == consumequeue.DelayTopic || w.tags.MayMatch(e.TagsCode))
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
