// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package keyindex finds messages by key: RocketMQ's IndexFile.java and
// IndexService.java, byte for byte. docs/format/index.md is the page on the
// format.
//
//	<Dir>/yyyyMMddHHmmssSSS                named by the local time of its making
//
//	 0       40              40 + 4·slots               40 + 4·slots + 20·entries
//	┌────────┬───────────────┬─────┬──────────────────────┬──────────┐
//	│ header │ slots, 4 each │  –  │ entries 1 … count-1  │ zeros    │
//	└────────┴───────────────┴─────┴──────────────────────┴──────────┘
//	              │              ▲ entry 0 is never used    ▲
//	              └── number of the newest entry of its chain
//
//	 0      4               12      16     20
//	┌──────┬───────────────┬───────┬──────┐
//	│ hash │ Offset        │ s     │ prev │   s: seconds since the file's begin
//	└──────┴───────────────┴───────┴──────┘   prev: the chain's next older entry
//
// A Set is all files of a directory, an Image the bytes of one of them. A hit
// says that a hash is equal; whoever asks looks at the message itself.
//
// # Invariants
//
//   - Offsets of entries do not fall, within a file and from file to file:
//     records are put in the order of the log.
//   - A chain descends: prev is below the number of its entry. So each walk
//     ends, whatever a file holds.
//   - Every file but the newest is full. The newest holds an entry, but for the
//     moment of its making.
//   - What lies behind the last entry is zero once Recover ran.
//
// # Who writes, who reads, which lock
//
// One writer, the store's dispatcher, calls Put. It writes the entry, then the
// slot, then the header, whose last word (count) it writes last of all. Slots
// and header are single machine words, stored and loaded atomically, so Find
// takes no lock: an entry that a slot names is whole. The same holds for another
// process that has the file mapped.
//
// Set.mu guards changes to the list of files (a new one by the writer, expired
// ones by Expire); readers load an immutable list. Set.flushMu makes flushes
// exclude each other. No other lock is taken under either but a file's own. A
// file counts references: the list holds one, each reader one; the last to go
// unmaps.
//
// Blocks are reserved before a page is written: entries in steps, slots page by
// page, and all at once when a quarter of them is in use. A full disk is an
// error of Put, after which the same record may be put again, and no fault.
//
// # What is on disk after a crash
//
// After the death of the process: all entries, perhaps one that is not counted
// yet (TrustOrder). After a power cut: what a completed Flush covered, and of
// what came later any pages and any names (TrustNothing). Recover is told up to
// which offset all was flushed, or was there when the process died. It takes
// back what lies beyond: exactly, newest first, or by making slots and header
// anew from the entries. A file that contradicts itself below that offset is
// removed, with those behind it, and fed again from the log.
package keyindex
