// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package commitlog is the one log that takes every message of every topic:
// RocketMQ's CommitLog, byte for byte. docs/format/commitlog.md describes the
// files.
//
//	┌────────┬────────┬──────────────┬─────────┐┌────────┬────────┬───── ─ ─ ─
//	│ record │ record │ record       │ filler  ││ record │ record │ zeros
//	└────────┴────────┴──────────────┴─────────┘└────────┴────────┴───── ─ ─ ─
//	▲ Min                                                ▲        ▲
//	                                              Flushed      Appended
//
// Records lie back to back and never straddle two files; a filler closes a file
// that has no room for the next record and the 8 bytes of a filler.
//
// # Watermarks
//
// Appended is the end of what is in the log's memory: any byte below it can be
// read. Flushed is the end of what a completed flush covers. Flushed ≤ Appended
// always. Both only grow; a goroutine can wait on either.
//
// # Appending
//
// A record is encoded by the caller, outside any lock. Under the append lock it
// gets its physical offset, its queue offset (from the Sequence of its queue)
// and its store time, is sealed with the property CRC, and copied into the
// mapping of the last file: the body first, the size and magic number last.
// Then Appended moves. When the file has no room, the next one is taken from
// the allocator, which was asked for it when the file was a sixteenth full.
//
// # Flushing
//
// One goroutine flushes. It runs every FlushInterval for whoever does not wait,
// and at once when somebody waits; all who wait at that moment share one sync.
// Before that one it yields, so that those whom the last sync woke can append.
// A flush that fails poisons the log: WaitFlushed, Flush and every later append
// return ErrPoisoned, and no later flush is tried, because the kernel may have
// dropped the pages and would report success. Reads go on.
//
// # Locks
//
// mu, the append lock, guards the tail and the order of records; it is held
// while a new file is waited for. Inside it only the leaf locks of the
// watermarks, of mappedfile.Queue and of the allocator are taken. Flushing,
// reading and removing files don't take it. Close takes it for a moment, and
// before that ends the warm-up that an append may be waiting for.
//
// # What is on disk after a crash
//
// A killed process leaves everything below Appended, and possibly a part of one
// record behind it. A power cut leaves everything below Flushed, and behind it
// any subset of what was appended, page by page. Recover finds the end: damage
// below what is known to be durable is stepped over and reported, anything else
// that is not an intact record is the end, also a record whose property block
// ends in zeros, because its last page was lost. Start then makes everything below
// the end durable and everything behind it zero.
package commitlog
