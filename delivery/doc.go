// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery sends pieces of mapped files to a consumer, by the way that
// costs least: most of them without a copy in the process, some without any.
//
//	records ─ Append ─▶ Runs: adjacent bytes are one
//	                      │
//	      a long run ─────┼───── some short ones
//	          │           │            │
//	          │       Choose(Shape)    │ in memory?
//	          ▼           │            ▼
//	      sendfile      writev    one copy, one write; read+write when cold
//	          └───────────┴────────────┘
//	                      ▼
//	          socket, Stats by method
//
// # Ways
//
// Sendfile has the kernel take the pages themselves, from an offset that is given,
// so that any number of sends share a descriptor. Splice does the same through a
// pipe. Write and Writev hand it the mapped bytes, which it copies. Copy collects
// them in a buffer first and makes one call of it. ReadWrite reads the file into
// that buffer instead, and so waits for a disk in a system call, where Go's
// scheduler sees it, and not in a page fault, where it does not.
//
// Choose is the policy: a function of numbers, which looks at nothing else.
// docs/zero-copy.md has what it was made from. What it is not asked about: a
// connection that is not the kernel's own, such as TLS or any wrapper, gets bytes
// by its Write and from the buffer, never mapped ones.
//
// # Who owns the bytes
//
// The caller holds the files' mappings and descriptors until Send returns, and
// may give them back then: what waits in a socket holds its own pages. Bytes that
// Sendfile or Splice have sent are read by the kernel until the peer has confirmed
// them; they must not change meanwhile. Those of a log never do.
//
// # Goroutines and locks
//
// Send runs on the goroutine that calls it and starts none; a context that ends is
// told to the connection by its deadline. It holds no lock while it waits. One
// Sender serves any number of goroutines.
//
// # What is on disk after a crash
//
// Nothing is written.
package delivery
