// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// errEntry says that a queue entry names no record of its queue.
var errEntry = errors.New("entry names no record of its queue")

const (
	// mendEntries is how many entries before and behind a damaged one are
	// looked at for one that is sound.
	mendEntries = 4096
	// mendBytes is how much of the log is searched for its record.
	mendBytes = 64 << 20
)

// mend finds the record of a queue offset whose entry is damaged: it lies in the
// log between those of the sound entries around it. Nothing is written; the
// entry stays as it is until the queues are rebuilt. The error is a
// *consumequeue.EntryError.
func (b *Batch) mend(q *consumequeue.Queue, at message.QueueOffset, cause error) (record, error) {
	s := b.store
	damage := q.Damaged(at, cause)
	s.damagedEntry(damage)
	from, to := s.around(q, at)
	if to-from > mendBytes {
		damage.Cause = fmt.Errorf("%w; its record may be anywhere in [%d, %d) of the log, delete the queues to have them rebuilt", cause, from, to)
		return record{}, damage
	}
	sc := s.log.Scan(from, to, commitlog.ScanOptions{Check: message.CheckAll, Resync: commitlog.ResyncAlways})
	defer sc.Close()
	for sc.Next() {
		it := sc.Item()
		if it.Kind != commitlog.ItemRecord {
			continue
		}
		m := it.Message
		if m.Topic != q.Topic() || m.QueueID != q.ID() || m.QueueOffset != at || m.QueueStep() == 0 {
			continue
		}
		data, err := b.view(consumequeue.Entry{Offset: it.Offset, Size: m.Size})
		if err != nil {
			return record{}, err
		}
		return record{data: data, at: at, offset: it.Offset}, nil
	}
	return record{}, damage
}

// around returns the part of the log that holds the record of a queue offset.
func (s *Store) around(q *consumequeue.Queue, at message.QueueOffset) (from, to message.Offset) {
	from, to = s.log.Min(), min(s.Dispatched(), s.log.Committed())
	for i := at - 1; i >= max(q.Min(), at-mendEntries); i-- {
		if e, ok := s.soundEntry(q, i); ok {
			from = e.End()
			break
		}
	}
	for i := at + 1; i < min(q.Max(), at+mendEntries); i++ {
		if e, ok := s.soundEntry(q, i); ok {
			to = e.Offset
			break
		}
	}
	return from, max(from, to)
}

// soundEntry returns an entry if its record says that it is the one.
func (s *Store) soundEntry(q *consumequeue.Queue, at message.QueueOffset) (consumequeue.Entry, bool) {
	e, err := q.EntryAt(at)
	if err != nil || !e.Valid() || e.Size < message.MinRecordSize {
		return e, false
	}
	m, err := s.recordAt(e.Offset)
	return e, err == nil && m.Size == e.Size && m.Topic == q.Topic() && m.QueueID == q.ID() && m.QueueOffset == at
}

func (s *Store) damagedEntry(e *consumequeue.EntryError) {
	s.o.Logger.Warn("damage in a queue", "error", e)
	if f := s.o.Events.DamagedEntry; f != nil {
		f(e)
	}
}
