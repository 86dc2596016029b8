// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"time"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// QueueCount says how much a queue holds, and of which time.
type QueueCount struct {
	QueueInfo
	// Count is Max - Min. A place whose message was lost in a crash, or expired
	// while its entry is still there, is counted and not fetched.
	Count int64
	// First and Last are the store times of the first and last message that can
	// be read; zero when the queue holds none.
	First, Last time.Time
}

// countTries is how many entries Count looks at, at either end, for one whose
// message can be read.
const countTries = 1024

// Count returns what a queue holds. It reads the first and the last message only,
// as a rule. The error is ErrNoQueue, ErrPermission, ErrClosed, or that of a disk
// that fails.
func (s *Store) Count(topic string, queue int32) (QueueCount, error) {
	q, err := s.readable(topic, queue)
	if err != nil {
		return QueueCount{}, err
	}
	c := QueueCount{QueueInfo: QueueInfo{Topic: q.Topic(), QueueID: q.ID(), Min: q.Min(), Max: q.Max()}}
	c.Count = max(0, int64(c.Max-c.Min))
	for at := c.Min; at < min(c.Max, c.Min+countTries) && c.First.IsZero() && err == nil; at++ {
		c.First, err = s.storedAt(q, at)
	}
	for at := c.Max - 1; at >= max(c.Min, c.Max-countTries) && c.Last.IsZero() && err == nil; at-- {
		c.Last, err = s.storedAt(q, at)
	}
	if s.closing.Load() {
		return QueueCount{}, ErrClosed
	}
	return c, err
}

// storedAt returns the store time of the message at a place in a queue, or zero
// when there is none that can be read.
func (s *Store) storedAt(q *consumequeue.Queue, at message.QueueOffset) (time.Time, error) {
	e, err := q.EntryAt(at)
	if errors.Is(err, ErrOffsetOutOfRange) {
		return time.Time{}, nil // it expired meanwhile
	}
	if err != nil || !e.Valid() || e.Size < message.MinRecordSize {
		return time.Time{}, err
	}
	ms, err := s.storeTime(e.Offset, e.Size)
	if err == nil {
		return time.UnixMilli(ms), nil
	}
	if errors.Is(err, mappedfile.ErrFault) {
		return time.Time{}, err
	}
	return time.Time{}, nil // expired, or damaged
}
