// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package checkpoint is the codec of RocketMQ's `checkpoint` file
// (StoreCheckpoint.java): five big-endian 64-bit values at the start of 4096
// bytes, the rest zeros.
package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/stelelog/stele/message"
)

const (
	// FileName is the file's name in the store's directory.
	FileName = "checkpoint"
	// Size is the length of the file in bytes.
	Size = 4096
	// used is the part of it that means something.
	used = 5 * 8
)

// Checkpoint is the content of the file. Times are store times of messages in
// milliseconds since the Unix epoch, 0 for none.
type Checkpoint struct {
	// Log is the store time of a message that is flushed, as is everything
	// before it (physicMsgTimestamp).
	Log int64
	// Queues is the same for the consume queues (logicsMsgTimestamp).
	Queues int64
	// Index is the end time of the last index file that is full and flushed
	// (indexMsgTimestamp).
	Index int64
	// MasterFlushed belongs to RocketMQ's replication (masterFlushedOffset).
	MasterFlushed message.Offset
	// Confirmed is where RocketMQ's dispatch may read to (confirmPhyOffset).
	Confirmed message.Offset
}

// Decode reads the file's bytes. A file that is too short is an error; what
// stands behind the five values is ignored.
func Decode(b []byte) (Checkpoint, error) {
	if len(b) < used {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, want %d", len(b), Size)
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	return Checkpoint{
		Log: at(0), Queues: at(1), Index: at(2),
		MasterFlushed: message.Offset(at(3)), Confirmed: message.Offset(at(4)),
	}, nil
}

// Encode writes c into the first bytes of b, which must hold at least 40.
func (c Checkpoint) Encode(b []byte) {
	for i, v := range []int64{c.Log, c.Queues, c.Index, int64(c.MasterFlushed), int64(c.Confirmed)} {
		binary.BigEndian.PutUint64(b[8*i:], uint64(v))
	}
}

// safetyMargin is subtracted from the times before they are relied upon.
const safetyMargin = 3000

// MinTimestamp is the store time up to which both the log and the queues were
// flushed, less three seconds, and not below 0: where RocketMQ's recovery after
// a crash begins.
func (c Checkpoint) MinTimestamp() int64 {
	return max(0, min(c.Log, c.Queues)-safetyMargin)
}
