// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package transfer takes messages out of one store and puts them into another:
// it reads the lines that an export wrote, and replays a log.
//
//	lines ──▶ ParseRow ──▶ Import ──┐
//	                                ├──▶ Target: a store that is new, or goes on
//	log ──▶ Filter ──────▶ Replay ──┤
//	                                └──▶ ndjson: a file, a pipe, a command
//
// # What a copy keeps
//
// Topic, queue id, body as it is stored, properties, flag, system flags, born
// time and host, reconsume times, the offset of a prepared transaction. What is
// the store's to say is given anew: physical offset, queue offset, store time,
// store host and with it the message id, the checksum over the whole record, and
// so the size. Same is that in code.
//
// # Invariants
//
// A line is appended whole or not at all, in the order of the lines, and the
// number of lines that are done is exact whatever ends an import.
//
// A directory that a copy makes has its name only when all is in it: until then
// it is called NAME.partial.
//
// A replay with a state goes on after an interruption without a duplicate or a gap.
// The state is saved behind what it says, never before it. What a killed replay had
// put since is found in the target: the records of a store behind the mark are
// compared with the source, one by one, and what a file has behind it is cut off.
//
// # Ownership and concurrency
//
// Import.Run has a goroutine that reads, so that an interrupt need not wait for
// input; it ends with the input, or with a read that never returns. Nothing here
// is safe for use by several goroutines at once.
//
// # After a crash
//
// A target is recovered by store.Open like any other store. The state file is
// replaced as a whole, after a flush of the target.
package transfer
