// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package retention decides which files of a commit log go, and why. It is a
// pure function: Policy and Input in, Plan out. It opens nothing and deletes
// nothing; store.Expire carries a plan out, and `storectl retention` shows one.
//
//	files, oldest first                                    active
//	┌────────┬────────┬────────┬────────┬────────┬────────┬────────┐
//	│ delete │ delete │ delete │ keep   │ keep   │ keep   │ keep   │
//	└────────┴────────┴────────┴────────┴────────┴────────┴────────┘
//	                           ▲ the first file that stays keeps all behind it
//
// # The rules
//
// A file goes when one of these asks for it, in this order:
//
//   - age: its last message is older than MaxAge. With Hours, only in those
//     hours of the day, unless the disk is used above NormalAt or somebody asked.
//   - size: the log is larger than MaxSize.
//   - disk: WhenFull, and the disk is used above ForceAt. No more files go than
//     it takes to come down to that.
//
// and nothing holds it:
//
//   - The active file, the last one, never goes.
//   - A Bound keeps the file that it lies in, and all behind. One that is
//     Yielding does not hold a file that the disk rule asks for, and one that is
//     only Told holds none; the Decision names them.
//   - Only a run of files from the first one on goes.
//   - FilesPerPass.
//
// Above RefuseAt appends are to be refused, whatever files go.
//
// These are the rules of RocketMQ's CleanCommitLogService, with its numbers: see
// the function RocketMQ. Size, bounds and EnoughFree are not there, and its disk
// rule takes as many files as a pass may, not as many as it takes.
//
// # How old a file is
//
// As old as its last message: by its store time, not by the time of the file,
// which RocketMQ goes by and which copying sets anew. No file says when its last
// message was stored without being read whole, so Input gives a time that is not
// before it: the store time with which the next file begins. The modification
// time is for files of which that is not known.
package retention
