// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package topicmeta keeps what the commit log does not say: which topics there
// are, how far each consumer group has read, and how far delayed delivery has
// come. It also moves these between a Stele store and a RocketMQ broker's
// config/*.json.
//
//	Ensure, CommitOffset, ... ──▶ tables in memory ──▶ Topic, Offset, ...
//	                                  │ what is dirty
//	Sync, Put, Delete*, Close ────────┴──▶ one batch ──▶ Pebble's log ── fsync
//	Open ◀── every entry ── Pebble
//
// All tables are in memory; the disk is read only by Open. A change is visible
// at once and marks its entry dirty. Sync writes what is dirty as one batch and
// syncs it, so an offset that was committed a thousand times costs one entry.
// That is why CommitOffset needs no disk and no allocation, and why a failing
// disk cannot make it wait. The price is memory, some 270 bytes per offset
// (120 once read from disk): a hundred thousand of them are up to 27 MB.
//
// # Promises
//
//   - After Sync returned nil, everything that was changed before it survives a
//     power cut. Put, Delete, DeleteGroup, DeleteOffsets, Close and the imports
//     include a Sync; Ensure, CommitOffset, SetDelayOffset and SetDelays do not. The owner
//     calls Sync as often as it can bear to lose progress (a broker: every five
//     seconds); consumers then see some messages twice, never miss one.
//   - After a crash the tables are as some Sync left them: the last one that
//     returned, or one that was under way. A Sync is never there in half.
//   - When a write to the disk fails, Sync returns an error that wraps ErrFailed,
//     every later change is refused with the same, and reads go on. Nothing
//     panics or ends the process (see fuse), and nothing more reaches the disk:
//     what is there is what a crash at that moment would have left. If all that
//     was missing is room, a later Sync that finds some opens the database again
//     and writes everything that is in memory; changes are accepted from then on.
//   - A directory that this package did not make is never touched: Open looks
//     for its marker file before Pebble looks at anything, so that a RocksDB
//     directory, or any other, is refused and not converted.
//
// # On disk
//
// docs/format/topicmeta.md has the details.
//
//	STELE-META            "stele topicmeta 2\n", written first
//	MANIFEST-*, *.log, *.sst, OPTIONS-*, marker.*, LOCK   Pebble's
//
//	key                                                      value
//	01 | len topic                                           settings, JSON
//	02 | len group | len topic | queue u32                   queue offset u64
//	03 | delay level u32                                     queue offset u64
//	04                                                       TimerProgress, 5 × u64
//
// Integers are big-endian; a name is one byte of length and its bytes.
//
// # Who owns what
//
// mu guards the tables of offsets and delays, the dirty lists, and the
// replacing of the topic map, which itself is read without a lock because it is
// never changed (a new one takes its place). commitMu is held from collecting
// what is dirty to the end of the fsync, so that commits reach the disk in order
// and a second Sync waits for the first; it is taken before mu. No lock is held
// during a write but commitMu: reads and CommitOffset never wait for the disk.
//
// Strings and maps that come in are copied when they are kept. Maps inside a
// returned Topic are shared and read-only; everything else returned is a copy.
package topicmeta
