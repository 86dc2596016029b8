// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package store is the door to Stele: a durable log of messages in many topics,
// each with numbered queues, that a program embeds. What it writes is what
// Apache RocketMQ's message store writes, and it opens what RocketMQ wrote.
//
//	Append ─▶ encode ─▶ commit log ─▶ flusher ─▶ flushed ─▶ waiting appends
//	                        │
//	                        └─▶ dispatcher ─▶ consume queues ─▶ waiting fetches
//	Fetch ─▶ consume queue ─▶ views of the log's pages ─▶ messages
//
// # Using it
//
// Open a directory, Append messages, Fetch them by topic, queue and queue
// offset, Close. A queue is appended to in the order of its offsets, which begin
// at 0 and have no holes. Follow is a Fetch that waits. CommitOffset keeps how
// far a group of consumers has come. The examples show each.
//
// A Batch borrows pages of the log: nothing is copied until the caller does.
// Release it when its messages have been worked through.
//
// # What a returned append promises
//
// With FlushSync the message is on disk. With FlushAsync it survives the death
// of the process at once, and a power cut once it is flushed, at the latest
// after FlushThoroughInterval; what a power cut takes is the end of the log,
// never something in the middle. In both modes a message is in its queue soon
// after it was appended, in FlushSync never before it is on disk; WaitDispatched
// and Follow wait for that.
//
// When a flush fails the store is poisoned: every append from then on returns
// ErrPoisoned, reads go on. Close it and open it again, once the disk is sound.
//
// # Messages for later
//
// A message with a delay level or a time of delivery (message.Message's
// SetDelayLevel and SetDeliverAt) waits in a queue of RocketMQ's for such
// messages. One goroutine appends it to its topic when it is due: never before,
// and at least once whatever crashes. docs/delay.md has the rest.
//
// # What is on disk
//
//	commitlog/     the log: the truth
//	consumequeue/  the queues, which can be rebuilt from it
//	index/         where messages with a key are, see Query
//	checkpoint     up to which store time log and queues were flushed
//	abort          there while the store is open: the owner's process id
//	lock           locked while the store is open
//	stele/marks    how far log and queues are known to be good
//	stele/index    that index/ is whole
//	stele/meta/    topics and consumer offsets
//	stele/timeindex/
//	               where in the log a time begins, see OffsetAt
//
// All but stele/ is RocketMQ's, in its format; docs/format describes each.
//
// # Recovery
//
// Open reads the log from the last point that is known to be good, which is
// where the dispatcher was when the process was killed, the last checkpoint
// after a power cut, and by RocketMQ's rule the start of a file in a broker's
// directory. From there every record is checked and put in its queue again. What
// stands behind the last intact record is zeroed and synced before the first
// append. What is kept is made durable; after a kill, and with FlushAsync, by a
// flush that Open begins and does not wait for. Queues that don't fit the log, missing ones above all, are filled from
// its start. Recovery (the event, and in Stats) says what was found.
//
// # Goroutines and locks
//
// The flusher and the allocator belong to the commit log, the dispatcher, the
// checkpointer and the retention, the only one who removes files of the log, to
// the Store; Close waits for all of them. The dispatcher is the
// only writer of consume queues. Locks are taken in this order, and most of them
// alone: queueTable.mu; the log's append lock; consumequeue.Set.mu and
// Queue.mu; mappedfile's; posMu and the watermarks, which are leaves. No lock is
// held while an append waits for the disk.
package store
