// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package rebuild makes consume queues, key index and time index from the commit
// log alone: into a new directory, or in the place of the old ones.
//
//	DIR ──▶ inspect (every readable record) ──▶ consumequeue.Feeder ─▶ queues
//	                                        ├─▶ keyindex.Set         ─▶ index/
//	                                        └─▶ timeindex.Index      ─▶ stele/timeindex/
//
// What puts a record into a queue is what the store's dispatcher uses. So the
// queue files are those of RocketMQ, byte for byte, where the log still holds
// every message.
//
// # A new directory
//
// It is called NEW.partial until all is in it and durable. Log files that the log
// has gone past are hard links where the file system allows it, clones or copies
// elsewhere. The file that the log ends in, and what lies behind it, are never
// linked: whoever opens the new directory writes there. Everything else of the
// directory, the configuration and Stele's metadata included, is copied. There is
// no `abort`, the checkpoint names the last record, and Stele's marks are left out,
// so whoever opens it next takes it for one that a broker closed in order.
//
// # In place
//
// All is made in DIR/rebuild.partial, under the store's lock, and durable before
// anything else changes. Then each old directory changes places with the new one,
// and the old ones are kept as DIR/before-rebuild-TIME. Log, `abort` and marks stay
// as they are: what has to be recovered is recovered by whoever opens it.
//
// # Invariants
//
//   - The source of a new directory is only read, and no lock of it is taken.
//   - No byte of a log file is written.
//   - After an interruption at any point the old queues, or the new ones, are whole
//     and in place, or the queues are missing, which each opening mends from the log.
//   - Memory grows with the number of queues, not with the log.
//
// # Concurrency
//
// Run is one goroutine, and starts none that outlives it.
package rebuild
