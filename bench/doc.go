// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench runs the same work over Stele and over what else a Go program
// could embed to keep a log, and over RocketMQ's own store, in one run.
//
//	parent: rounds ─▶ workloads ─▶ peers in turn ─┐
//	   ▲                                          ▼
//	   │                            child: one process, one empty
//	   │                            directory ─▶ engine ─▶ result
//	   └────────── a line of JSON ────────────────┘
//	   │
//	   └─▶ medians ─▶ goals, met or missed ─▶ table, JSON, HTML
//
// It is a module of its own, so that what the peers depend on stays out of the
// library's go.mod. docs/performance.md has the method and the results.
//
// # What is compared
//
// A peer is an engine in a mode that promises something when an append returns;
// each says what, and whether that survives a SIGKILL and a power cut. Figures
// of different promises are not the same, so a goal names those that it is
// measured against. Stele runs with all that it promises: both checksums, the
// queues filled by its dispatcher before the clock stops.
//
// # How it is measured
//
// Rounds, and within a round and a workload the peers take turns, in an order
// that is another one each round. Each measurement is a process of its own on an
// empty directory, which is removed afterwards. What comes before (opening, the
// first appends, what is to be read) and after (closing) is not in the figures.
// Ratios are those of medians of one run.
//
// # What is on disk after a crash
//
// A directory stele-peers-* below --dir, which nobody needs.
package main
