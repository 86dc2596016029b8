// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package crashdisk is a file system in memory that can lose power. It
// implements mappedfile.Disk for tests: it knows of every byte and every name
// whether it was made durable, and hands out copies of itself as a power cut,
// or the death of the process, would have left them.
//
//	          Bytes()                    Flush                 power cut
//	writer ──────────▶ current pages ──────────▶ durable pages ────────▶ clone
//	                        │                                              ▲
//	                        └── any subset, whole or torn at 512 bytes ────┘
//
//	          Region.Write
//	Memory    ──────────▶ current pages       (Memory itself is gone with the process)
//
//	          Create, Remove             SyncDir
//	caller ──────────▶ current names ──────────▶ durable names ────────▶ clone
//	                        └── any subset ────────────────────────────────┘
//
// # What is durable
//
//   - Memory: never. No clone has it, that of a kill neither.
//   - Bytes: the 4 KiB pages that a successful Flush of their range touched, as
//     they were then. Nothing else of the file: unlike fdatasync, a Flush here
//     never does more than it was asked for.
//   - A length: from Create on. In the middle of it (see OpSetLength) the file
//     is there and empty, and a power cut leaves it with any length up to the one
//     it was to have.
//   - The content of a WriteFile. In the middle of it (see OpSetContent) a power
//     cut leaves what was there before, or any first part of the new content, or
//     zeros in place of it.
//   - A name, or that it is gone: after SyncDir of its directory. MkdirAll and
//     WriteFile sync the directory that gained the entry.
//
// What is not durable may survive all the same: each page and each name for
// itself, in no order, as file systems without a journal do.
//
// # The trap of a failed flush
//
// After a Flush that failed by an injected Fault, the dirty pages of its range
// count as clean: reads still see them, but a later Flush returns success and
// leaves them as they were on disk. Only a page whose bytes changed since
// becomes durable again. (Writing the same bytes again is not noticed; a kernel
// would.) That is what Linux does, and why a failed flush must poison a log.
//
// # Who owns what
//
// Disk.mu guards everything: the tree of names, the durable pages, the blocks,
// counters and faults. The slice that Bytes returns is shared by all regions
// of one file, and may be written without the lock while the Disk flushes or
// clones; the copies are taken word by word, so a write beside one is in it, or
// not, or in part, as with a kernel. A test that compares a clone with what it
// wrote must have its writers at rest. The race detector is kept from looking
// at these copies, and at nothing else: it does see races between the engine's
// own readers and writers of a mapping, which it cannot in a real one.
//
// When the last region of a file is closed, the slice is overwritten with a
// pattern, so that a use after Close is found as damage, or as a race.
//
// Observers (see Disk.Observe) are called without the lock.
package crashdisk
