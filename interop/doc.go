// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package interop has tests, and nothing else: they let Apache RocketMQ's own
// message store and Stele work on the same directories.
//
//	test ── requests, one JSON object a line ──▶ java/ (a JVM: DefaultMessageStore)
//	  │  ◀────────────── answers ───────────────   │
//	  └── store, inspect ──▶ one directory ◀───────┘
//
// They run when they are asked for, because they need a JDK and Maven, and Maven
// needs the network the first time:
//
//	STELE_INTEROP=1 go test ./interop         skipped where there is no JDK or Maven
//	STELE_INTEROP=require go test ./interop   fails there instead
//
// The program in java/ is built once, into .cache/interop of the checkout, and
// again when it changed; Maven's own files are kept there as well. One JVM serves
// all tests but those that end it, and those of a whole broker, which run it with
// a name server and clients, each in a JVM of its own.
//
// Whoever starts waits for whom it needs, with a deadline that no machine reaches
// that works at all: RocketMQ's own clients and servers don't. No test is run again.
//
// What was found is in docs/interop.md.
package interop
