// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package fusefs is a file system in memory that can lose power, mounted
// through FUSE, for tests. What crashdisk is behind the seam of mappedfile, it
// is behind the kernel: the store under test uses its real calls (mmap, msync,
// fdatasync, fallocate, Pebble's write and rename), and the kernel's page cache
// stands between.
//
//	process of the test                       process of the server
//	store ─▶ mapping ─▶ page cache ─▶ FUSE ─▶ Disk: live ── fsync ──▶ safe
//	          kernel                            └── power cut: safe, and any of
//	                                                live ──▶ another Disk
//
// # Two processes
//
// The server runs in a process of its own. A goroutine that touches a mapped
// page waits in the kernel until the server has answered, and the runtime does
// not know that it waits: a server in the same process could be stopped by the
// garbage collector, which waits for that very goroutine. Start runs the test
// binary again as that process; TestMain calls Main for it. The server takes its
// mounts away, lazily, when its standard input ends, and dies when its time is
// up, so that no mount outlives its test and no test hangs on one.
//
// # What is durable
//
//   - Bytes and length of a file: as they were at the server when its last
//     successful fsync or fdatasync ran. The kernel sends what is dirty in its
//     page cache before the fsync, and now and then of its own accord.
//   - A name, or that it is gone: after an fsync of its directory. A rename is
//     one change.
//
// At a power cut everything durable is there. Of the rest that the server knew
// of there survives any subset of the 4 KiB pages, some torn at 512 bytes; any
// length that the file has had since, and in the middle of a write one between
// (a length that was set, as by ftruncate, is there or not); and any subset of the changed names, or their first
// few in order, as with a journal. What was only in the page cache of the
// kernel is gone.
//
// # What FUSE does not show
//
//   - Disk blocks: fallocate reserves nothing here. A full disk is tested on a
//     real small file system.
//   - A page that is dirty in the page cache counts as not written, whatever
//     part of it a disk would have got.
//   - With direct I/O FUSE refuses shared mappings (ENODEV), and with it the
//     store refuses to open.
//
// # Locks
//
// Disk.mu guards everything in a Disk. Faults and the trap are looked at under
// it, so that a clone and the time that it is taken at belong together.
package fusefs
