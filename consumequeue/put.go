// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"
	"math"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// PutResult says what Put did.
type PutResult int

const (
	// Appended: the entry is the queue's last now.
	Appended PutResult = iota
	// Duplicate: the queue is past that offset already; nothing was written.
	Duplicate
	// Gap: entries before it are missing; nothing was written.
	Gap
)

// String names the result.
func (r PutResult) String() string {
	switch r {
	case Appended:
		return "appended"
	case Duplicate:
		return "duplicate"
	case Gap:
		return "gap"
	}
	return fmt.Sprintf("PutResult(%d)", int(r))
}

// tail is the file that the writer is in. It holds no reference: the last file
// of a run is removed by nobody but the writer.
type tail struct {
	file *mappedfile.File // nil before the first put
	data []byte           // its mapping
	base int64
}

// Put appends the entry of the message at queue offset at. Only the writer may
// call it.
//
// Only at == Max is written. Below, the entry is there already (the log is
// being dispatched again): Duplicate. Above, entries are missing: Gap, and the
// caller decides; RocketMQ would write the entry in the wrong place. A queue
// that never held a message begins at any offset: the file is the one that
// holds it in a queue that began at 0, and what precedes it there is filled
// with blank entries.
//
// After an error, mappedfile.ErrDiskFull being the likely one, the queue is as
// it was, and the same Put may be tried again. The entry is not durable before
// Set.Flush. The caller guards a run of puts (mappedfile.Guard): the file may
// have been cut.
func (q *Queue) Put(at message.QueueOffset, e Entry) (PutResult, error) {
	if !e.Valid() {
		return 0, fmt.Errorf("queue %s/%d, offset %d: %w: %+v", q.topic, q.id, at, ErrInvalidEntry, e)
	}
	in := int64(at)*EntrySize - q.tail.base
	if int64(at) != q.max.Load() || uint64(in) >= uint64(len(q.tail.data)) {
		if r, err := q.place(int64(at)); err != nil || r != Appended {
			return r, err
		}
		in = int64(at)*EntrySize - q.tail.base
	}
	if err := q.tail.file.Reserve(in + EntrySize); err != nil {
		return 0, q.wrap(err)
	}
	e.Encode(q.tail.data[in:])
	q.advance(int64(at) + 1)
	return Appended, nil
}

// Fill appends blank entries up to queue offset to, for messages that the log
// no longer has; readers skip them. It does nothing when Max is there already,
// and writes nothing in a queue that never held a message: there it only moves
// Min and Max, and the next Put says where the queue begins. Only the writer
// may call it. After an error Max says how far it came.
func (q *Queue) Fill(to message.QueueOffset) error {
	if err := q.check(int64(to)); err != nil {
		return err
	}
	if q.empty && int64(to) > q.max.Load() {
		q.min.Store(int64(to))
		q.max.Advance(int64(to))
	}
	for next := q.max.Load(); next < int64(to); next = q.max.Load() {
		if err := q.enter(next, int64(to)); err != nil {
			return q.wrap(err)
		}
		from := next*EntrySize - q.tail.base
		end := min(int64(to)*EntrySize-q.tail.base, int64(len(q.tail.data)))
		units(q.tail.data[from:end]).blankAll()
		q.advance((q.tail.base + end) / EntrySize)
	}
	return nil
}

// advance publishes what was written up to next, and has it flushed some time.
// Max moves first: a Flush that takes the queue off its list in between sees
// the new Max.
func (q *Queue) advance(next int64) {
	q.max.Advance(next)
	if !q.dirty.Load() {
		q.set.markDirty(q)
	}
}

// place makes the tail hold the entry at offset at, or says why the entry is
// not to be written.
func (q *Queue) place(at int64) (PutResult, error) {
	if err := q.check(at); err != nil {
		return 0, err
	}
	next := q.max.Load()
	switch {
	case q.empty:
		return Appended, q.wrap(q.begin(at))
	case at < next:
		return Duplicate, nil
	case at > next:
		return Gap, nil
	}
	return Appended, q.wrap(q.enter(at, at+1))
}

// check tells whether the queue may be written at all, up to offset at.
func (q *Queue) check(at int64) error {
	switch {
	case q.set.o.ReadOnly:
		return q.wrap(mappedfile.ErrReadOnly)
	case q.state.Load() != stateOpen:
		return q.gone(message.QueueOffset(at))
	case q.lost:
		return q.wrap(ErrNotRecovered)
	case at < 0 || at > (math.MaxInt64-2*q.set.fileSize)/EntrySize:
		// The end of the file must be a position that can be expressed.
		return q.outside(message.QueueOffset(at))
	}
	return nil
}

// enter makes the file that holds the entry at offset at the tail, and reserves
// the entries [at, to) there, or those that fit in. A file that was made for
// them and can't be used is removed again: RocketMQ takes the first unit of an
// all-zero last file for an entry.
func (q *Queue) enter(at, to int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	pos := at * EntrySize
	f := q.files.Find(pos)
	made := f == nil
	if made {
		// Of two names that are not durable a power cut could take the first,
		// and leave a run with a hole.
		err := q.syncNames()
		if err != nil {
			return err
		}
		if f, err = q.files.Add(q.files.NextBase(pos)); err != nil {
			return err
		}
	}
	data, err := f.Bytes()
	if err == nil {
		err = f.Reserve(min(to*EntrySize, f.End()) - f.Base())
	}
	if err != nil {
		if made {
			_, undo := q.files.RemoveFrom(f.Base())
			err = errors.Join(err, undo)
		}
		return err
	}
	q.tail = tail{file: f, data: data, base: f.Base()}
	return nil
}

// begin makes the queue, which holds no message, begin at offset at. A file
// that is there already is written over, when it is the right one: in a rebuild
// from the log it is. What else it holds is for Trim, or for the entries that
// follow.
func (q *Queue) begin(at int64) error {
	base := at * EntrySize / q.set.fileSize * q.set.fileSize
	if f := q.files.First(); f != nil && f.Base() != base {
		if _, err := q.files.RemoveFrom(0); err != nil {
			return err
		}
	}
	if err := q.enter(at, at+1); err != nil {
		return err
	}
	units(q.tail.data[:at*EntrySize-q.tail.base]).blankAll()
	q.flushed.Store(q.tail.base)
	q.min.Store(at)
	q.max.Reset(at)
	q.empty = false
	return nil
}
