// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"path/filepath"

	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
)

// Checkpoint reads the checkpoint of the store, nil when there is none. problem is
// what is wrong with the file; the error is what the file system said.
func (d *Dir) Checkpoint() (c *CheckpointValues, problem, err error) {
	var o Overview
	if err := o.addCheckpoint(filepath.Join(d.path, layout.Checkpoint)); err != nil {
		return nil, nil, err
	}
	if len(o.Problems) > 0 {
		return nil, o.Problems[0], nil
	}
	return o.Checkpoint, nil, nil
}

// RecoverFrom is the store time, in milliseconds since the Unix epoch, up to which
// the checkpoint vouches for log and queues: RocketMQ's recovery after a crash
// begins with the last file whose first message is not newer.
func (c *CheckpointValues) RecoverFrom() int64 {
	return checkpoint.Checkpoint{Log: c.Log, Queues: c.Queues}.MinTimestamp()
}
