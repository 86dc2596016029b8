// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// OffsetByTime returns the offset in a queue at which the messages of a time
// begin (consumequeue.Lower: the first message stored at t or later) or end
// (consumequeue.Upper: the last one stored at t or before), in the terms of
// consumequeue.Queue.OffsetByTime. It looks at few messages: their store times
// are taken to grow along the queue, as they do unless the clock was set back.
func (s *Store) OffsetByTime(topic string, queue int32, t time.Time, b consumequeue.Boundary) (message.QueueOffset, error) {
	q, err := s.readable(topic, queue)
	if err != nil {
		return 0, err
	}
	return q.OffsetByTime(t.UnixMilli(), b)
}
