// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package consumequeue keeps the queues of a store: for each queue of a topic
// the places of its messages in the commit log, in order, 20 bytes a message.
// It is RocketMQ's ConsumeQueue.java, byte for byte; docs/format/consumequeue.md
// is the page on the format.
//
//	<Dir>/<topic>/<queue id>/00000000000000000000     entries 0 … 299,999
//	                         00000000000006000000     entries 300,000 … 599,999
//
//	 0               8       12              20
//	┌───────────────┬───────┬───────────────┐
//	│ Offset        │ Size  │ TagsCode      │   big-endian; entry k of the queue
//	└───────────────┴───────┴───────────────┘   is at byte 20·k
//
//	       Min                                  Max
//	┌─ ─ ─ ┬──────────────────────────────────────┬─────────────┐
//	│ gone │ entries                              │ zeros       │
//	└─ ─ ─ ┴──────────────────────────────────────┴─────────────┘
//	expired, or blank                              the next Put
//
// A Set is all queues below a directory, a Queue is one of them. All of it can
// be deleted and rebuilt from the log.
//
// # Invariants
//
//   - The entries in [Min, Max) are Valid, or blank where the log had no
//     message for them (Queue.Fill); the first one is Valid, or Min is Max.
//     Blank entries also fill the first file up to the first entry of a queue
//     that did not begin at 0. Readers skip blank ones.
//   - Records follow each other: an entry's record begins at or behind the end
//     of the record of the entry before it.
//   - What lies behind Max is zero once Trim ran.
//   - The last file holds an entry: one that was made for an entry that could
//     not be written is removed again.
//
// # Who writes, who reads, which lock
//
// Each queue has one writer, the store's dispatcher, which calls Put and Fill.
// It owns the unexported tail. It writes an entry and then moves Max, a
// watermark; a reader loads Max and reads below it, so there is no lock between
// them. Min is an atomic too, and moves before files go.
//
// Set.mu guards the table of queues. Set.flushMu makes flushes and removals
// exclude each other, and comes before Set.mu and Set.dirtyMu, the lock of the
// list of queues that changed since the last flush. Queue.mu keeps a file from
// being added at the back while files are removed at the front. It comes after
// Set.flushMu, and no lock of the Set is taken while it is held.
//
// Opening a set maps nothing. A file is mapped at its first use, and its
// descriptor is not kept. Blocks are reserved before a page is written, so a
// full disk is an error and no fault.
//
// # What is on disk after a crash
//
// After the death of the process: all entries in order, perhaps a torn one,
// then zeros (TrustOrder). After a power cut: everything that a completed Flush
// covered, and of what came later any pages and any names (TrustNothing).
// Either way the store calls Recover with the log offset that the last flush
// covered, dispatches the log from there again, and calls Trim, which makes
// what is left behind the end zero, durably: an entry of a former life can't be
// taken for a new one by a later recovery.
package consumequeue
