// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Command storectl works on the store directories of RocketMQ and Stele, with
// no broker running or beside one that does.
//
// Data goes to stdout, words to stderr. The exit status is 0 when all is well,
// 1 for damage or findings, 2 for wrong usage, 3 for what could not be read or
// written, 4 for a layout that is not supported, 130 after an interrupt.
//
// Each command is a file of its own, named after it, and thin: it turns flags
// into a call and results into rows. values.go has the flag types (sizes with
// units, times, output formats), output.go the ways to print, exit.go what an
// error means for the exit status.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal asks to end in order; a second one ends at once.
	context.AfterFunc(ctx, stop)
	// Without a listener for it the runtime dies of a closed stdout, and `| head`
	// would end with a signal. With one, the write fails and run ends quietly.
	// (Ignoring the signal would be inherited by child processes.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
