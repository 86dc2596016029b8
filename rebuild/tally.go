// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"cmp"
	"slices"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

type queueName struct {
	topic string
	id    int32
}

// tally is a dry run: what the log says about each queue. It counts a message
// where a rebuild might find its place taken.
func (j *job) tally(d *inspect.Dir) error {
	rows := map[queueName]*Queue{}
	err := j.each(d, func(m *message.Message) error {
		if m.QueueStep() == 0 || m.SysFlag&message.InnerBatch != 0 {
			return nil
		}
		row := rows[queueName{m.Topic, m.QueueID}]
		if row == nil {
			row = &Queue{Topic: m.Topic, QueueID: m.QueueID, Min: m.QueueOffset, Max: m.QueueOffset}
			rows[queueName{m.Topic, m.QueueID}] = row
		}
		if m.QueueOffset >= row.Max {
			row.Max = m.QueueOffset + 1
			row.Entries++
		}
		return nil
	})
	for _, row := range rows {
		j.res.Queues = append(j.res.Queues, *row)
	}
	slices.SortFunc(j.res.Queues, func(a, b Queue) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.QueueID, b.QueueID))
	})
	return err
}
