// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package commitlog is the one log that takes every message of every topic:
// RocketMQ's CommitLog, byte for byte. docs/format/commitlog.md describes the
// files.
//
//	┌────────┬────────┬──────────────┬─────────┐┌────────┬────────┬───── ─ ─ ─
//	│ record │ record │ record       │ filler  ││ record │ record │ zeros
//	└────────┴────────┴──────────────┴─────────┘└────────┴────────┴───── ─ ─ ─
//	▲ Min                            ▲                 ▲          ▲
//	                              Flushed          Committed   Appended
//
// Records lie back to back and never straddle two files; a filler closes a file
// that has no room for the next record and the 8 bytes of a filler.
//
// # Watermarks
//
// Appended is the end of what is in the log's memory. Committed is the end of what
// is in the page cache: any byte below it can be read, and survives the death of
// the process. Flushed is the end of what a completed flush covers. Flushed ≤
// Committed ≤ Appended always. They only grow; a goroutine can wait on each.
//
// # Appending
//
// A record is encoded by the caller, outside any lock. Under the append lock it
// gets its physical offset, its queue offset (from the Sequence of its queue)
// and its store time, is sealed with the property CRC, and handed to the Writer of
// the last file. Then Appended moves. When the file has no room, the next one is taken from
// the allocator, which was asked for it when the file was a sixteenth full.
//
// # Committing
//
// With WriteMmap the Writer copies into the mapping, the size and magic number
// last, and that is all. With WriteFile it copies into a ring; the append then
// takes commitMu and writes whatever is in the ring, so that appends which wait
// for it find theirs written; with CommitOnFlush it leaves that to the flusher.
// With WritePool it copies into a buffer that its file has borrowed, and wakes the
// committer, which does the same. Segments are committed in the order of files; a
// full one that is committed gives its buffer back. A file that finds the pool
// empty is written through its mapping, and counts as committed only behind those
// before it.
//
// A commit that fails poisons the log like a flush. Its bytes stay where they are,
// and are written by a later try, at the latest by Close.
//
// # Warming up
//
// With Options.Warm one goroutine, the warmer, has the pages ahead of the write
// position present before an append comes to them: in a window that moves with
// it, and the beginning of the next file, or in whole files. It gets each file
// from the allocator as soon as it is made, and holds a View of it until the file
// is full. No append waits for it; one that overtakes it writes to cold pages, and
// the warmer goes on ahead of it. A page may be touched while a record is copied
// into it: see package warmup for why that loses no byte.
//
// # Flushing
//
// One goroutine flushes, and commits before it does. It runs every FlushInterval for whoever does not wait,
// and at once when somebody waits; all who wait at that moment share one sync.
// Before that one it yields, so that those whom the last sync woke can append.
// A flush that fails poisons the log: WaitFlushed, Flush and every later append
// return ErrPoisoned, and no later flush is tried, because the kernel may have
// dropped the pages and would report success. Reads go on.
//
// # Locks
//
// mu, the append lock, guards the tail and the order of records; it is held
// while a new file is waited for. Inside it commitMu may be taken (at a roll), and
// the leaf locks of the watermarks, of the segments, of mappedfile.Queue, of its
// Writers and Pool and of the allocator. commitMu is held while bytes are written
// to a file, and never while a flush runs. Flushing, reading and removing files
// don't take mu; Close takes it for a moment. The warmer has a leaf lock for the
// files that the allocator hands it.
//
// # What is on disk after a crash
//
// A killed process leaves everything below Committed, and possibly a part of what
// is behind it. A power cut leaves everything below Flushed, and behind it
// any subset of what was appended, page by page. What was warmed up and not
// written is zeros on disk, as it was before. Recover finds the end: damage
// below what is known to be durable is stepped over and reported, anything else
// that is not an intact record is the end, also a record whose property block
// ends in zeros, because its last page was lost. Start then makes everything below
// the end durable and everything behind it zero.
package commitlog
