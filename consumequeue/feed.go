// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/message"
)

// Why a record is put in no queue.
var (
	errTaken = errors.New("queue offset taken")
	errFar   = errors.New("queue offset impossible")
)

// Feeder puts the records of a log into their queues, in the order of the log. It
// belongs to the Set's writer.
type Feeder struct {
	Set *Set
	// Levels are the delays of messages that wait in DelayTopic; nil are
	// RocketMQ's own.
	Levels message.DelayLevels
	// Skip is told which record is put in no queue, and why.
	Skip func(off message.Offset, why error)

	// The last queue, since records come in runs.
	topic string
	id    int32
	queue *Queue
}

// Put puts the entry of a record into its queue, and returns how many entries the
// queue gained, blank ones included; after an error too. A record whose entry is
// there already changes nothing.
//
// strict makes a gap before it an ErrGap; otherwise the gap is filled with blank
// entries, which readers skip. After any error the same record can be put again.
// Nothing of m is kept. The caller guards it (mappedfile.Guard).
func (f *Feeder) Put(m *message.Message, strict bool) (added int64, err error) {
	if m.QueueStep() == 0 {
		return 0, nil // a half or rolled back transaction has no place in a queue
	}
	if m.SysFlag&message.InnerBatch != 0 {
		f.Skip(m.PhysicalOffset, ErrInnerBatch)
		return 0, nil
	}
	q, err := f.queueOf(m)
	if errors.Is(err, ErrBadName) {
		f.Skip(m.PhysicalOffset, err)
		return 0, nil
	}
	if err != nil {
		return 0, err // a disk that fails, and not the record
	}
	before := q.Max()
	if strict && before == 0 && m.QueueOffset > 0 {
		// It may be that the queue begins here; then dispatching all of the
		// log shows it.
		return 0, fmt.Errorf("topic %q, queue %d: %w: it is empty before offset %d", m.Topic, m.QueueID, ErrGap, m.QueueOffset)
	}
	// Also after an error: what was filled until then is not filled again.
	defer func() { added = int64(q.Max() - before) }()
	e := EntryOf(m, f.Levels)
	res, err := q.Put(m.QueueOffset, e)
	switch {
	case errors.Is(err, ErrOffsetOutOfRange):
		f.Skip(m.PhysicalOffset, err) // an absurd queue offset in a record of somebody else's
		return 0, nil
	case err != nil:
		return 0, err
	case res == Duplicate:
		f.duplicate(q, m)
	case res == Gap && strict:
		return 0, fmt.Errorf("topic %q, queue %d: %w: offset %d follows %d", m.Topic, m.QueueID, ErrGap, m.QueueOffset, before-1)
	case res == Gap:
		return 0, f.fill(q, m, e)
	}
	return 0, nil
}

// duplicate reports a record whose place in the queue another one has. The
// queue keeps the first: consumers have seen it.
func (f *Feeder) duplicate(q *Queue, m *message.Message) {
	e, err := q.EntryAt(m.QueueOffset)
	if err == nil && e.Offset != m.PhysicalOffset {
		f.Skip(m.PhysicalOffset, fmt.Errorf("topic %q, queue %d, offset %d: %w: the record at %d has it",
			m.Topic, m.QueueID, m.QueueOffset, errTaken, e.Offset))
	}
}

// fill puts a record behind a gap, which becomes blank entries: the messages
// that were there can't be read any more. Each of them took some of the log
// behind the queue's last record, so a gap that is too large for that is none:
// the record's own queue offset is damaged, and a queue would be filled with
// blanks up to the end of the disk.
func (f *Feeder) fill(q *Queue, m *message.Message, e Entry) error {
	last, _, ok, err := q.Last()
	if err != nil {
		return err
	}
	room := m.PhysicalOffset
	if ok {
		room -= last.End()
	}
	if gap := int64(m.QueueOffset - q.Max()); gap > int64(room)/message.MinRecordSize {
		f.Skip(m.PhysicalOffset, fmt.Errorf("topic %q, queue %d, offset %d: %w: it follows %d after %d bytes of log",
			m.Topic, m.QueueID, m.QueueOffset, errFar, q.Max()-1, room))
		return nil
	}
	if err := q.Fill(m.QueueOffset); err != nil {
		return err
	}
	_, err = q.Put(m.QueueOffset, e)
	return err
}

// queueOf returns the queue of a message. A topic that can't be the name of a
// directory has none.
func (f *Feeder) queueOf(m *message.Message) (*Queue, error) {
	if f.queue != nil && m.QueueID == f.id && m.Topic == f.topic {
		return f.queue, nil
	}
	q, err := f.Set.GetOrCreate(m.Topic, m.QueueID)
	if err != nil {
		return nil, err
	}
	f.topic, f.id, f.queue = q.Topic(), m.QueueID, q
	return q, nil
}
