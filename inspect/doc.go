// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package inspect is the offline side of a store: it opens any directory that
// RocketMQ or Stele wrote and shows what is in it.
//
//	DIR/
//	├── commitlog/NNNNNNNNNNNNNNNNNNNN       ──▶ Messages, the log in Overview
//	├── consumequeue/TOPIC/QUEUE/NNNN…       ──▶ Queue, the queues in Overview
//	├── index/NNNNNNNNNNNNNNNNN              ──▶ Query, IndexFiles, IndexEntries
//	├── checkpoint  abort  config/  stele/   ──▶ Overview
//	│   any one file of these            ──▶ Dump
//	└── batchconsumequeue/ timerlog/ …       ──▶ named in Overview.NotShown
//
// # Invariants
//
// Nothing is written, no modification time changes, no lock is taken. The lock
// file is never even opened: closing any descriptor of it would drop a POSIX
// lock that this process holds. So a directory can be looked at on a read-only
// mount, beside a live broker, and from inside the program that writes it.
//
// File lengths are taken from the files, never from configuration.
//
// A layout that is not supported is refused by name (LayoutError), never
// half-read: consume queues in RocksDB, a log wrapped by DLedger, a commit log
// spread over several directories.
//
// One bad record never hides the good ones after it: Messages goes on with the
// next intact record and says how many bytes lie between (DamageError).
//
// Verify compares everything with everything in one pass over the log: each
// record is looked up in its queue, and each queue counts how many of its
// entries were found right that way. Only a queue where the count does not come
// out is gone through entry by entry. Entries of the key index stand in the order
// of their records, so they are met side by side. The log is read in strips, ahead
// and in several goroutines, which end before Verify does; what was read is compared
// in order by the caller's.
//
// # A directory that is being written
//
// The store's own order of writes is relied on: a record that is followed by an
// intact one was finished. So what looks damaged is looked at again before it
// is reported, and a record that was being written is not called damage. Files
// may come and go meanwhile; a file that was expired under the reader is
// skipped.
//
// # Ownership and concurrency
//
// A Dir is safe for concurrent use. Each iteration lists the files anew and maps
// them itself, one at a time, and unmaps each when it is done with it: memory is
// constant on any size of store. What an iteration yields borrows from the
// mapped file and is valid until the next step.
//
// # After a crash
//
// Nothing that this package needs is lost by a crash. What a kill leaves behind
// (abort, a spare file of zeros, half a record at the end) is shown as it is.
package inspect
