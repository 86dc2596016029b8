// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync/atomic"

	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// counters are moved on the paths that they count.
type counters struct {
	appendedMessages  atomic.Int64
	appendedBytes     atomic.Int64
	dispatchedRecords atomic.Int64
	skippedRecords    atomic.Int64
	queries           atomic.Int64
	queriedMessages   atomic.Int64
	fetches           atomic.Int64
	fetchedMessages   atomic.Int64
	fetchedBytes      atomic.Int64
	flushes           atomic.Int64
	rolls             atomic.Int64
	rollsWaited       atomic.Int64
}

// Stats is a snapshot of a Store. The counters begin at 0 when it is opened.
type Stats struct {
	// The watermarks, in bytes of the log. Min ≤ Flushed ≤ Committed ≤ Appended
	// and Dispatched ≤ Committed hold for one snapshot.
	Min, Appended, Committed, Flushed, Dispatched message.Offset
	// LastStoreTime is the store time of the newest message, in milliseconds.
	LastStoreTime int64
	Files         int // of the commit log
	FileSize      int64
	Topics        int // that have a queue
	Queues        int

	AppendedMessages, AppendedBytes int64
	DispatchedRecords               int64
	SkippedRecords                  int64 // met by the dispatcher, put in no queue
	Fetches                         int64
	FetchedMessages, FetchedBytes   int64
	Queries, QueriedMessages        int64
	IndexFiles                      int // of the key index
	Flushes                         int64
	Commits                         int64 // writes to files, with WritePool and WriteFile
	Rolls                           int64
	RollsWaited                     int64 // the next file was not ready
	Pool                            PoolStats

	// Delivery is what was sent by Batch.WriteTo and SendRange, by method.
	Delivery delivery.Stats
	// TimeIndex is what the time index holds.
	TimeIndex timeindex.Stats
	// Delay is about messages that are delivered later.
	Delay DelayStats

	// Poisoned is what appends return after a background failure, or nil.
	Poisoned error
	// Stalled is why the dispatcher or the metadata waits for space, or nil.
	Stalled error
	// Waits say where appends waited.
	Waits Waits
	// Warmup is what was made present ahead of appends, and what was refused.
	Warmup WarmupStats
	// Retention is what expired, and how full the disk is.
	Retention RetentionStats
	// Recovery is what Open found and did.
	Recovery Recovery
}

// Stats returns a snapshot. It works on a closed store too.
func (s *Store) Stats() Stats {
	// Each watermark is read before the one that bounds it.
	dispatched, flushed := s.Dispatched(), s.log.Flushed()
	committed := s.log.Committed()
	c := &s.counters
	topics, queues := s.countQueues()
	st := Stats{
		Min: s.log.Min(), Flushed: flushed, Dispatched: dispatched, Committed: committed, Appended: s.log.Appended(),
		LastStoreTime: s.log.LastTime(), Files: s.log.Files().Len(), FileSize: s.log.FileSize(),
		Topics: topics, Queues: queues,
		AppendedMessages: c.appendedMessages.Load(), AppendedBytes: c.appendedBytes.Load(),
		DispatchedRecords: c.dispatchedRecords.Load(), SkippedRecords: c.skippedRecords.Load(),
		Fetches: c.fetches.Load(), FetchedMessages: c.fetchedMessages.Load(), FetchedBytes: c.fetchedBytes.Load(),
		Flushes: c.flushes.Load(), Commits: s.log.Commits(), Pool: s.poolStats(), Rolls: c.rolls.Load(), RollsWaited: c.rollsWaited.Load(),
		Poisoned: s.Err(), Recovery: s.recovery, Warmup: s.warmupStats(), Waits: s.waits.waits(), TimeIndex: s.times.Stats(),
	}
	st.Queries, st.QueriedMessages = c.queries.Load(), c.queriedMessages.Load()
	if s.index != nil {
		st.IndexFiles = len(s.index.set.Files())
	}
	st.Stalled = s.noSpace()
	st.Delivery = s.log.Sender().Stats()
	st.Retention = s.retentionStats()
	st.Delay = s.delayStats()
	return st
}

// countQueues counts the queues that hold or held messages, and their topics.
// One that somebody only follows is not among them.
func (s *Store) countQueues() (topics, queues int) {
	last := ""
	for _, q := range s.queues.Queues() {
		if q.Max() == 0 {
			continue
		}
		if queues++; q.Topic() != last {
			last = q.Topic()
			topics++
		}
	}
	return topics, queues
}
