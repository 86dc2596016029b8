// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Defaults of Limit.
const (
	// DefaultFetchMessages and DefaultFetchBytes are what RocketMQ sends in one
	// answer.
	DefaultFetchMessages = 32
	DefaultFetchBytes    = 256 << 10
	// DefaultFetchScan takes about 0.1 ms. RocketMQ looks at 800 entries.
	DefaultFetchScan = 16384
)

// Limit bounds a Batch. A zero field means its default.
type Limit struct {
	// Messages is how many at most.
	Messages int
	// Bytes is how many bytes of records at most. The first message comes
	// whatever its size.
	Bytes int
	// Scan is how many entries of the queue a fetch by tag looks at, those
	// included that it passes over; see FetchTagged. Other fetches ignore it.
	Scan int
}

func (l Limit) withDefaults() Limit {
	if l.Messages <= 0 {
		l.Messages = DefaultFetchMessages
	}
	if l.Bytes <= 0 {
		l.Bytes = DefaultFetchBytes
	}
	if l.Scan <= 0 {
		l.Scan = DefaultFetchScan
	}
	return l
}

// Fetch returns messages of a queue from offset from on, as views of the log's
// own pages: the caller must Release the Batch. At the queue's maximum the Batch
// is empty. Messages that expired while their queue entries are still there are
// passed over: Batch.Next says where to go on.
//
// The error is a consumequeue.OffsetError (ErrOffsetOutOfRange) outside the
// queue's bounds, ErrNoQueue, ErrPermission, ErrClosed, or the cause of ctx. It
// never waits; see Follow.
func (s *Store) Fetch(ctx context.Context, topic string, queue int32, from message.QueueOffset, limit Limit) (*Batch, error) {
	return s.FetchTagged(ctx, topic, queue, from, message.TagFilter{}, limit)
}

// Follow is Fetch that waits: it returns once there is at least one message at
// or behind from, or with the cause of ctx, or ErrClosed. A queue that does not
// exist yet is waited for.
func (s *Store) Follow(ctx context.Context, topic string, queue int32, from message.QueueOffset, limit Limit) (*Batch, error) {
	return s.FollowTagged(ctx, topic, queue, from, message.TagFilter{}, limit)
}

func (s *Store) fetch(q *consumequeue.Queue, from message.QueueOffset, tags message.TagFilter, limit Limit) (*Batch, error) {
	b, err := s.batch(q, from, tags, limit)
	if err != nil {
		return nil, err
	}
	s.counters.fetches.Add(1)
	s.counters.fetchedMessages.Add(int64(b.Len()))
	s.counters.fetchedBytes.Add(int64(b.bytes))
	return b, nil
}

// batch is fetch for the store itself: it is not counted.
func (s *Store) batch(q *consumequeue.Queue, from message.QueueOffset, tags message.TagFilter, limit Limit) (*Batch, error) {
	b := newBatch(s, q, from, limit)
	b.sieve = newSieve(q, tags, limit)
	for !b.full {
		entries, err := q.Read(b.Next, b.sieve.ask(limit.Messages-b.Len()))
		if err == nil && entries.Len() > 0 {
			err = mappedfile.Guard(func() error { return b.collect(entries, limit) })
		}
		n := entries.Len()
		entries.Release()
		if err != nil {
			b.Release()
			if s.closing.Load() {
				return nil, ErrClosed
			}
			return nil, fmt.Errorf("fetch from topic %q, queue %d: %w", q.Topic(), q.ID(), err)
		}
		if n == 0 || b.Len() == limit.Messages {
			break
		}
	}
	return b, nil
}

// collect takes the records of entries into the batch, up to the limit.
func (b *Batch) collect(entries consumequeue.Entries, limit Limit) error {
	for i := range entries.Len() {
		if b.Len() == limit.Messages || b.sieve.spent() {
			b.full = true
			return nil
		}
		e := entries.At(i)
		if !e.IsBlank() && !b.plausible(e) {
			b.search(errEntry)
			continue
		}
		if e.IsBlank() || !b.sieve.mayMatch(e) {
			b.pass(0)
			continue
		}
		if b.Len() > 0 && b.bytes+int(e.Size) > limit.Bytes {
			b.full = true
			return nil
		}
		rec, err := b.view(e)
		switch {
		case errors.Is(err, commitlog.ErrExpired):
			b.pass(0)
			continue
		case errors.Is(err, ErrWrongRecord):
			b.search(err)
			continue
		case err != nil:
			return err
		}
		b.take(record{data: rec, at: b.Next, offset: e.Offset})
	}
	return nil
}

// take puts a record into the batch, if it is wanted.
func (b *Batch) take(r record) {
	b.records = append(b.records, r)
	last := &b.records[len(b.records)-1]
	if !b.wanted(last) {
		*last = record{}
		b.records = b.records[:len(b.records)-1]
		b.pass(len(r.data))
		return
	}
	b.bytes += len(last.data)
	b.pass(0)
}

// pass goes on to the next entry. n bytes of a record were read for nothing.
func (b *Batch) pass(n int) {
	b.Next++
	b.sieve.entries--
	b.sieve.bytes -= n
}

// plausible reports whether an entry can be one: its record lies in the log.
func (b *Batch) plausible(e consumequeue.Entry) bool {
	return e.Valid() && e.Size >= message.MinRecordSize && e.End() <= b.store.log.Committed()
}

// search takes the record of b.Next, whose entry is damaged, into the batch, or
// why it can't be found.
func (b *Batch) search(cause error) {
	r, err := b.mend(b.queue, b.Next, cause)
	r.at, r.err = b.Next, err
	b.take(r)
}

// view returns the bytes that an entry points to. The batch holds one reference
// per file, not per record.
func (b *Batch) view(e consumequeue.Entry) ([]byte, error) {
	log := b.store.log
	if end := log.Committed(); e.Offset < 0 || e.End() > end {
		return nil, fmt.Errorf("%w: entry [%d, %d), appended is %d", ErrNotFound, e.Offset, e.End(), end)
	}
	off := int64(e.Offset)
	for i := len(b.views) - 1; i >= 0; i-- {
		if f := b.views[i].File(); off >= f.Base() && off < f.End() {
			return slice(b.views[i], off-f.Base(), e)
		}
	}
	f := log.Files().Find(off)
	if f == nil && b.store.closing.Load() {
		return nil, ErrClosed // not expired: nothing may be passed over
	}
	if f == nil {
		return nil, fmt.Errorf("%w: offset %d, the log begins at %d", commitlog.ErrExpired, off, log.Min())
	}
	v, err := f.View(0, f.Size())
	if err != nil && b.store.closing.Load() {
		return nil, ErrClosed
	}
	if errors.Is(err, mappedfile.ErrExpired) {
		return nil, fmt.Errorf("%w: %w", commitlog.ErrExpired, err)
	}
	if err != nil {
		return nil, err
	}
	b.views = append(b.views, v)
	return slice(v, off-f.Base(), e)
}

func slice(v mappedfile.View, at int64, e consumequeue.Entry) ([]byte, error) {
	end := at + int64(e.Size)
	if end > int64(len(v.Bytes())) {
		return nil, &commitlog.CorruptError{
			Path: v.File().Path(), Offset: e.Offset,
			Cause: fmt.Errorf("%w: an entry of %d bytes crosses the end of the file", ErrWrongRecord, e.Size),
		}
	}
	return v.Bytes()[at:end:end], nil
}

// Get returns the message whose record begins at off, as a copy. Its checksums
// hold. The error is ErrNotFound beyond what is committed, ErrExpired below its
// start, or a commitlog.CorruptError when no intact record begins there.
func (s *Store) Get(off message.Offset) (*message.Message, error) {
	if s.closing.Load() {
		return nil, ErrClosed
	}
	v, err := s.log.ViewRecord(off)
	if err != nil {
		return nil, s.storeError(err)
	}
	defer v.Release()
	var m *message.Message
	err = mappedfile.Guard(func() (err error) {
		m, err = decodeCopy(v, off)
		return err
	})
	return m, err
}

func decodeCopy(v mappedfile.View, off message.Offset) (*message.Message, error) {
	dec := message.Decoder{Check: message.CheckIntact}
	var m message.Message
	err := dec.Decode(v.Bytes(), &m)
	if err == nil && commitlog.Torn(&m) {
		err = commitlog.ErrTorn
	}
	if err != nil {
		return nil, &commitlog.CorruptError{Path: v.File().Path(), Offset: off, Cause: err}
	}
	return m.Clone(), nil
}
