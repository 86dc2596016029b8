// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stelelog/stele/message"
)

// CutOffset is a progress that stood beyond the end of its queue, and was set
// back to it.
type CutOffset struct {
	Group    string // empty for the progress of a delay level
	Topic    string
	Queue    int32
	From, To message.QueueOffset
}

// CutOffsets sets every progress of a group, and of a delay level, that stands
// beyond the end of its queue back to that end, and returns which, sorted. The
// messages that it had counted are gone: without this the ones that take their
// offsets would be passed over. end is asked for the offset that a queue's next
// message gets; the progress of delay level n is that of queue n-1 of delayTopic.
// It is durable when CutOffsets returns nil.
func (s *Store) CutOffsets(delayTopic string, end func(topic string, queue int32) message.QueueOffset) ([]CutOffset, error) {
	var cut []CutOffset
	err := s.update(func() {
		for group, queues := range s.offsets {
			for k, p := range queues {
				if to := end(k.topic, k.queue); p.off > to {
					cut = append(cut, CutOffset{group, k.topic, k.queue, p.off, to})
					p.off = to
					s.dirty.offset(p)
				}
			}
		}
		for level, off := range s.delays {
			if to := end(delayTopic, level-1); off > to {
				cut = append(cut, CutOffset{"", delayTopic, level - 1, off, to})
				s.setDelay(level, to)
			}
		}
	})
	if err != nil || len(cut) == 0 {
		return nil, err
	}
	slices.SortFunc(cut, func(a, b CutOffset) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	return cut, s.Sync()
}
