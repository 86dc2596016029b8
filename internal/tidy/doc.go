// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package tidy holds the rules of the house, as a test: run it with
//
//	go test ./internal/tidy
//
// It reads every Go file of the module with go/parser, whatever its build tags,
// and every Markdown file, and needs nothing but Go.
//
//	tidy_test.go     reads the tree and applies all rules to it
//	rules_test.go    the rules: each takes a tree and returns what breaks it
//	house_test.go    the tables: floors, outside modules, what is excepted
//	planted_test.go  each rule finds the violation that is planted for it
//
// # The floors
//
// A package imports only packages on lower floors, never one on its own:
//
//	5  cmd/storectl
//	4  experiment
//	3  store  inspect
//	2  commitlog  consumequeue  topicmeta  internal/layout  internal/marks  internal/crashdisk
//	1  mappedfile  internal/checkpoint
//	0  message  internal/watermark  internal/wallclock  internal/brokerconfig  internal/fusefs
//
// A package's floor is the lowest that this rule allows, but for three. The
// floor of mappedfile is 1 although it imports nothing of ours: it is the one
// that talks to the operating system, and what knows only the format of a
// message must not see it. topicmeta, store and inspect stand with their peers.
//
// Tests are a little freer: they may import their own package, packages on
// their own floor, and internal/crashdisk and internal/fusefs, which nothing else
// may import.
//
// # Adding a package
//
// Give it a floor in house_test.go, and name there the outside modules that it
// needs. A package without a floor fails the test.
package tidy
