// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/internal/watermark"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Queue is one queue of a topic: a run of entries from Min up to Max.
//
// Put and Fill belong to one goroutine, the writer. Recover and Trim run before
// there is a writer or a reader. All other methods are safe for concurrent use,
// beside the writer too.
type Queue struct {
	topic string
	id    int32
	set   *Set
	files *mappedfile.Queue

	min   atomic.Int64   // first entry that counts
	max   watermark.Mark // behind the last one; bytes are written before it moves
	state atomic.Int32   // open, closed or removed

	dirty   atomic.Bool  // on the set's list of queues to flush
	flushed atomic.Int64 // byte position below which all is durable

	tail  tail // the writer's
	empty bool // no message was ever put; the writer's
	lost  bool // has files whose end is unknown before Recover; the writer's

	// mu keeps the front and the back of the run from being cut at once, and
	// guards what follows.
	mu      sync.Mutex
	floor   message.Offset // no entry from min on lies below it
	found   ending         // what Recover saw
	unnamed bool           // the files that OpenSet found may have names that are not durable
}

// The states of a Queue.
const (
	stateOpen int32 = iota
	stateClosed
	stateRemoved
)

// Topic is the queue's topic.
func (q *Queue) Topic() string { return q.topic }

// ID is the queue's number in its topic.
func (q *Queue) ID() int32 { return q.id }

// Min is the offset of the first entry. It is Max when there is none.
func (q *Queue) Min() message.QueueOffset { return message.QueueOffset(q.min.Load()) }

// Max is the offset behind the last entry: that of the next one to be put.
func (q *Queue) Max() message.QueueOffset { return message.QueueOffset(q.max.Load()) }

// Wait returns nil once Max is above past. Otherwise it returns
// mappedfile.ErrClosed once the set is closed, ErrRemoved once the queue is
// removed, what Fail was given, or the cause of ctx.
func (q *Queue) Wait(ctx context.Context, past message.QueueOffset) error {
	return q.max.Wait(ctx, max(int64(past), int64(past)+1), 0)
}

// Fail ends every Wait, present and future, for an entry that is not there.
func (q *Queue) Fail(err error) { q.max.Fail(err) }

// Entries is a borrowed run of entries of one queue. They are the file's own
// pages: valid until Release, also when the file is removed meanwhile. Copy the
// value only to hand it on; one of the copies is released, once. The zero value
// is empty.
type Entries struct {
	first message.QueueOffset
	view  mappedfile.View
}

// First is the offset of the first entry.
func (e Entries) First() message.QueueOffset { return e.first }

// Len is the number of entries.
func (e Entries) Len() int { return len(e.view.Bytes()) / EntrySize }

// At returns entry i, counted from 0: the one at First()+i. It panics when i is
// outside [0, Len()), like an index of a slice. The caller guards it
// (mappedfile.Guard): it reads the mapping.
func (e Entries) At(i int) Entry { return DecodeEntry(e.view.Bytes()[i*EntrySize:]) }

// Release gives the entries back. Releasing twice does nothing.
func (e *Entries) Release() { e.view.Release() }

// Read returns the entries from `from` on: at most n, and only those below Max
// that lie in the same file, so a short answer does not mean the end. Blank
// entries are among them as they are; the caller skips what is not Valid. At
// Max the answer is empty; below Min and above Max it is an *OffsetError. The
// caller must Release what it gets.
func (q *Queue) Read(from message.QueueOffset, n int) (Entries, error) {
	lo, hi := q.min.Load(), q.max.Load()
	at := int64(from)
	if at < lo || at > hi {
		return Entries{}, q.outside(from)
	}
	if at == hi || n <= 0 {
		return Entries{first: from}, nil
	}
	return q.view(at, min(hi-at, int64(n))+at)
}

// EntryAt returns the entry at one offset, which may be blank. The error is an
// *OffsetError for an offset outside [Min, Max).
func (q *Queue) EntryAt(at message.QueueOffset) (Entry, error) {
	es, err := q.Read(at, 1)
	if err != nil {
		return Entry{}, err
	}
	defer es.Release()
	if es.Len() == 0 {
		return Entry{}, q.outside(at)
	}
	var e Entry
	err = mappedfile.Guard(func() error {
		e = es.At(0)
		return nil
	})
	return e, q.wrap(err)
}

// view borrows the entries [from, to), or those that lie in the first one's
// file. from is below to, and to not above Max.
func (q *Queue) view(from, to int64) (Entries, error) {
	pos := from * EntrySize
	f := q.files.Find(pos)
	if f == nil {
		return Entries{}, q.gone(message.QueueOffset(from))
	}
	v, err := f.View(pos-f.Base(), min(to*EntrySize, f.End())-pos)
	if err != nil {
		if errors.Is(err, mappedfile.ErrExpired) {
			q.vanished(f)
			return Entries{}, q.gone(message.QueueOffset(from))
		}
		return Entries{}, err
	}
	return Entries{first: message.QueueOffset(from), view: v}, nil
}

// vanished raises Min above a file that the owner removed beside this set, which
// only reads.
func (q *Queue) vanished(f *mappedfile.File) {
	for end := f.End() / EntrySize; q.set.o.ReadOnly; {
		lo := q.min.Load()
		if end <= lo || q.min.CompareAndSwap(lo, end) {
			return
		}
	}
}

// gone says why there is no file for an entry below Max.
func (q *Queue) gone(at message.QueueOffset) error {
	switch q.state.Load() {
	case stateClosed:
		return q.wrap(mappedfile.ErrClosed)
	case stateRemoved:
		return q.wrap(ErrRemoved)
	default:
		// Files go from the front only, and Min is raised before.
		return q.outside(at)
	}
}

func (q *Queue) outside(at message.QueueOffset) error {
	lo := q.Min()
	return &OffsetError{Topic: q.topic, Queue: q.id, From: at, Min: lo, Max: max(lo, q.Max())}
}

// wrap names the queue in an error.
func (q *Queue) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("queue %s/%d: %w", q.topic, q.id, err)
}

// Damaged is an EntryError for an entry of q.
func (q *Queue) Damaged(at message.QueueOffset, cause error) *EntryError {
	e := &EntryError{Topic: q.topic, Queue: q.id, At: at, Cause: cause}
	if f := q.files.Find(int64(at) * EntrySize); f != nil {
		e.Path = f.Path()
	}
	return e
}

// Last returns the last entry that is Valid, and its offset. It may lie below
// Min, when all that the queue names has expired. ok is false when the queue
// holds none.
func (q *Queue) Last() (e Entry, at message.QueueOffset, ok bool, err error) {
	var i int64
	err = mappedfile.Guard(func() error {
		e, i, err = q.lastValid(0, q.max.Load())
		return err
	})
	if err != nil {
		return Entry{}, 0, false, q.wrap(err)
	}
	return e, message.QueueOffset(i), i >= 0, nil
}

// lastValid returns the last valid entry in [lo, hi) that lies in a file, with
// its offset, or -1 when there is none.
func (q *Queue) lastValid(lo, hi int64) (Entry, int64, error) {
	for hi > lo {
		f := q.files.Find((hi - 1) * EntrySize)
		if f == nil {
			break
		}
		from := max(lo, f.Base()/EntrySize)
		es, err := q.view(from, hi)
		if errors.Is(err, ErrOffsetOutOfRange) {
			break // the file went meanwhile
		}
		if err != nil {
			return Entry{}, 0, err
		}
		if e, i, ok := es.lastValid(); ok {
			return e, from + i, nil
		}
		hi = from
	}
	return Entry{}, -1, nil
}

// lastValid returns the last valid entry, and releases them all.
func (e Entries) lastValid() (Entry, int64, bool) {
	defer e.Release()
	for i := e.Len() - 1; i >= 0; i-- {
		if u := e.At(i); u.Valid() {
			return u, int64(i), true
		}
	}
	return Entry{}, 0, false
}
