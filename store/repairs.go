// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// QueueFill is what Open wrote into one queue: the entries [From, To), which were
// not in it, or not to be believed.
type QueueFill struct {
	Topic    string
	Queue    int32
	From, To message.QueueOffset
}

// maxima remembers how long the queues are before the log is dispatched again.
func (s *Store) maxima() map[*consumequeue.Queue]message.QueueOffset {
	queues := s.queues.Queues()
	was := make(map[*consumequeue.Queue]message.QueueOffset, len(queues))
	for _, q := range queues {
		was[q] = q.Max()
	}
	return was
}

// filled returns which queues have grown since.
func (s *Store) filled(was map[*consumequeue.Queue]message.QueueOffset) []QueueFill {
	var all []QueueFill
	for _, q := range s.queues.Queues() {
		if q.Max() > was[q] {
			all = append(all, QueueFill{q.Topic(), q.ID(), was[q], q.Max()})
		}
	}
	slices.SortFunc(all, func(a, b QueueFill) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	return all
}

// cut reports whether messages may be gone that a group of consumers had seen.
func (r *Recovery) cut() bool {
	return r.Kind == PowerCut || r.Kind == ForeignCrash || r.Rebuilt || r.Torn != nil || r.Lost > 0
}

// cutOffsets sets back what stands beyond the end of its queue, for messages may be
// gone. It must be durable before the log goes on: from then on a crash does
// not look like one that took messages.
func (s *Store) cutOffsets() error {
	cut, err := s.meta.CutOffsets(consumequeue.DelayTopic, func(topic string, queue int32) message.QueueOffset {
		if q := s.queues.Get(topic, queue); q != nil {
			return q.Max()
		}
		return 0
	})
	if err != nil {
		return metaError(err)
	}
	s.recovery.Offsets = cut
	if len(cut) > 0 {
		s.o.Logger.Warn("committed offsets stood beyond their queues, whose last messages are gone, and were set back",
			"offsets", len(cut), "first", cut[0])
	}
	return nil
}
