// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/internal/progress"
)

// app is what every command works with.
type app struct {
	ctx context.Context
	in  io.Reader
	out *bufio.Writer    // data; run flushes it
	raw io.Writer        // what out writes to
	err *progress.Screen // words, and how far work has come
	now func() time.Time

	began bool // a command began, so no error is about the command line as such
}

// outBuffer is how much output is gathered before it is written.
const outBuffer = 256 << 10

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	screen := progress.NewScreen(stderr)
	data := screen.Beside(stdout)
	a := &app{ctx: ctx, in: stdin, out: bufio.NewWriterSize(data, outBuffer), raw: data, err: screen, now: time.Now}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.out)
	root.SetErr(screen)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.began {
		err = usageError{err}
	}
	if flushed := a.out.Flush(); flushed != nil {
		if isClosedPipe(flushed) {
			return exitOK
		}
		// What the command returned was this failure, or came before it.
		err = fmt.Errorf("write to stdout: %w", flushed)
	}
	return a.finish(cmd, err)
}

// finish says on stderr what went wrong, unless the command has said it.
func (a *app) finish(cmd *cobra.Command, err error) int {
	status := exitStatus(a.ctx, err)
	switch {
	case err == nil || err == errFindings: //nolint:errorlint // anything around it has more to say
	case status == exitInterrupted:
		a.say("interrupted")
	case errors.As(err, new(usageError)):
		a.say("%s", oneLine(err))
		a.say("run '%s --help' for usage", cmd.CommandPath())
	default:
		a.say("%s", oneLine(err))
	}
	return status
}

// say writes a line to stderr. If that fails there is nobody left to tell.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "storectl: "+format+"\n", args...)
}

// quietFlag adds --quiet for a command that shows progress and says nothing else
// on stderr when all is well.
func quietFlag(cmd *cobra.Command, quiet *bool) {
	cmd.Flags().BoolVarP(quiet, "quiet", "q", false, "no progress on stderr, not even on a terminal")
}

// bar shows how far a command has come in bytes, until it is stopped, if stderr is
// a terminal. text says what it does; total is 0 where nobody knows. A Bar that is
// not shown is nil, which all its methods take.
func (a *app) bar(quiet bool, text string, total int64) *progress.Bar {
	if quiet {
		return nil
	}
	return a.err.Start(progress.Bytes, text, total)
}
