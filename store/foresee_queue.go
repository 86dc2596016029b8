// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// put follows consumequeue.Feeder.Put.
func (f *foresight) put(m *message.Message, strict bool) error {
	at := m.QueueOffset
	switch {
	case m.QueueStep() == 0, m.SysFlag&message.InnerBatch != 0:
		return nil
	case m.QueueID < 0, m.Topic == "", m.Topic == ".", m.Topic == "..", strings.ContainsAny(m.Topic, "/\x00"):
		return nil // in no queue
	case at < 0 || int64(at) > (math.MaxInt64-2*f.s.queues.FileSize())/consumequeue.EntrySize:
		return nil
	}
	q := f.ends[queueName{m.Topic, m.QueueID}]
	if q == nil {
		q = &queueEnd{empty: true}
		f.ends[queueName{strings.Clone(m.Topic), m.QueueID}] = q
	}
	switch {
	case strict && (q.max == 0 && at > 0 || !q.empty && at > q.max):
		return fmt.Errorf("topic %q, queue %d: %w before offset %d", m.Topic, m.QueueID, consumequeue.ErrGap, at)
	case !q.empty && at < q.max:
		return nil // it is there
	case !q.empty && int64(at-q.max) > int64(m.PhysicalOffset-q.end)/message.MinRecordSize:
		return nil // no queue can lack so many
	}
	q.max, q.end, q.empty = at+1, m.PhysicalOffset+message.Offset(m.Size), false
	return nil
}

// filled returns which queues would grow.
func (f *foresight) filled() []QueueFill {
	var all []QueueFill
	for name, q := range f.ends {
		if q.max > q.was {
			all = append(all, QueueFill{name.topic, name.id, q.was, q.max})
		}
	}
	slices.SortFunc(all, func(a, b QueueFill) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	return all
}

// missing looks for entries behind the ends of queues, which would be cut, whose
// records are not in the log: it reports messages of which nothing else is left.
func (f *foresight) missing() error {
	for _, q := range f.s.queues.Queues() {
		if err := q.Recover(everything, consumequeue.TrustNothing); err != nil {
			return err
		}
		for at := f.ends[queueName{q.Topic(), q.ID()}].max; at < q.Max(); at++ {
			e, err := q.EntryAt(at)
			if err != nil {
				return err
			}
			if !e.Valid() || e.End() <= f.fc.End || f.told[e.Offset] {
				continue
			}
			if _, err := f.s.recordAt(e.Offset); err == nil {
				continue // it was reported as what it is
			}
			if err := f.lose(Loss{
				Kind: LossMissing, Offset: e.Offset, Size: int64(e.Size), Queued: true, Topic: q.Topic(), Queue: q.ID(), QueueOffset: at,
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
