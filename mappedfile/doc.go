// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package mappedfile keeps an ordered run of equally long, memory-mapped files:
// RocketMQ's MappedFile, MappedFileQueue and AllocateMappedFileService.
//
//	     base 0               base 1·size           base 2·size
//	┌───────────────────┬───────────────────┬───────────────────┐
//	│ 0000…0000         │ 0000…1073741824   │ 0000…2147483648   │ ┄ next, prepared
//	└───────────────────┴───────────────────┴───────────────────┘   by the Allocator
//	Min                                                      End
//
// A File is one of them: a name of 20 decimal digits (its base offset), a fixed
// size, a mapping that is made at first use. A Queue is the run: ordered,
// contiguous, and a file is found by offset with one division. An Allocator
// has the next file created and reserved before it is needed. A View
// is a piece of a file that a reader holds on to.
//
// # Who owns the bytes
//
// Each File counts references. The Queue holds one as long as the file is part
// of the run, each View holds one. The mapping goes when the last one is given
// back, so expiring a file never pulls it from under a reader, and its space on
// the disk is free only then (Queue.Held says how much waits). The bytes of a
// View are the file's own pages: they are valid until Release, must not be
// written, and must not be kept after it.
//
// # Who may write
//
// A Queue does not order writers. Its one writer (the commit log under its
// append lock, the dispatcher for consume queues) takes the bytes of a file
// with File.Bytes and may write them beside any number of readers, as long as
// it publishes what it wrote by its own watermark. It calls File.Reserve before
// it touches a page, so a full disk is an error and never a SIGBUS.
//
// A Writer is how its bytes get there: into the mapping, through the descriptor,
// or by way of a buffer of a Pool. Its callers settle what can be read: nothing
// that was not committed.
//
// # Locks
//
// Queue.mu guards changes to the run; readers load an immutable list without
// it. File.mu guards making and dropping the mapping. Allocator.mu guards its
// table of prepared files. Queue.mu comes before File.mu; Allocator.mu is
// never held while a file is created. A Writer's own lock is held while it writes
// to the file, File.mu inside it. Pool.mu is a leaf.
//
// # What is on disk after a crash
//
// A file exists once its directory was synced (immediately, or with
// Options.LazySync at the next Flush or before the next file is made). Files are
// removed one by one, each durably before the next, and from the front not before
// the names of new ones are durable. So the run that a power cut
// leaves has no hole, and the next OpenQueue takes it. A file's length is
// durable from creation on. Which of its bytes are durable is what Flush says.
// A file that was prepared ahead and never used holds zeros only; an
// interrupted creation can leave a last file that is too short, and holds zeros
// only, which OpenQueue removes.
package mappedfile
