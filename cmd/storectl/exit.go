// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// The exit statuses of every command.
const (
	exitOK          = 0
	exitFindings    = 1
	exitUsage       = 2
	exitIO          = 3
	exitLayout      = 4
	exitInterrupted = 130
)

// errFindings ends a command that did its work and reported damage on the way.
var errFindings = errors.New("findings")

// usageError is a wrong argument or flag, or one that names what isn't there.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// exitStatus says what an error means. ctx tells an interrupt from an operation
// that was cancelled for another reason.
func exitStatus(ctx context.Context, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		return exitInterrupted
	case errors.As(err, &usage), errors.Is(err, inspect.ErrNoQueue), errors.Is(err, inspect.ErrNoIndexFile),
		errors.Is(err, inspect.ErrWrongID), errors.Is(err, message.ErrBadID), errors.Is(err, keyindex.ErrSizes), errors.Is(err, consumequeue.ErrOffsetOutOfRange):
		return exitUsage
	case errors.Is(err, inspect.ErrUnsupportedLayout):
		return exitLayout
	case isDamage(err):
		return exitFindings
	default:
		return exitIO
	}
}

// isDamage reports whether err says that the store is not as it should be, in
// contrast to one that could not be read.
func isDamage(err error) bool {
	var corrupt *commitlog.CorruptError
	var file *mappedfile.FileError
	var index *keyindex.DamageError
	return errors.Is(err, errFindings) || errors.As(err, &corrupt) || errors.As(err, &file) || errors.As(err, &index)
}

// isClosedPipe reports whether whoever read stdout has gone.
func isClosedPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }

// oneLine makes an error fit for a line on stderr.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}
