// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
)

// failingWriter takes so many bytes and then fails.
type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		return 0, w.err
	}
	w.left -= len(b)
	return len(b), nil
}

func testStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, unpack(filepath.Join(samples, "append-prop-crc.tar.gz"), dir))
	return filepath.Join(dir, "append-prop-crc")
}

func TestStdoutThatFails(t *testing.T) {
	t.Parallel()
	dir := testStore(t)
	for name, tt := range map[string]struct {
		out    *failingWriter
		status int
		words  string
	}{
		"closed pipe at once":   {&failingWriter{0, syscall.EPIPE}, exitOK, ""},
		"closed pipe later":     {&failingWriter{outBuffer, syscall.EPIPE}, exitOK, ""},
		"closed, wrapped":       {&failingWriter{0, &fs.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}}, exitOK, ""},
		"full disk":             {&failingWriter{0, syscall.ENOSPC}, exitIO, "storectl: write to stdout: no space left on device\n"},
		"full disk after a bit": {&failingWriter{outBuffer, syscall.ENOSPC}, exitIO, "storectl: write to stdout: no space left on device\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, args := range [][]string{
				{"inspect", "messages", dir, "-o", "ndjson", "--body"},
				{"inspect", "messages", dir, "-o", "json", "--body"},
			} {
				var words bytes.Buffer
				out := *tt.out
				require.Equal(t, tt.status, run(context.Background(), args, strings.NewReader(""), &out, &words))
				require.Equal(t, tt.words, words.String())
			}
			if tt.out.left == 0 {
				for _, args := range [][]string{{"inspect", dir}, {"inspect", "messages", dir}, {"version"}, {"--help"}, {"inspect", "queue", dir, "topic-1", "1"}} {
					var words bytes.Buffer
					out := *tt.out
					require.Equal(t, tt.status, run(context.Background(), args, strings.NewReader(""), &out, &words))
					require.Equal(t, tt.words, words.String())
				}
			}
		})
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	dir := testStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{
		{"inspect", dir}, {"inspect", "messages", dir, "-o", "ndjson"}, {"inspect", "queue", dir, "topic-1", "1"},
	} {
		var out, words bytes.Buffer
		require.Equal(t, exitInterrupted, run(ctx, args, strings.NewReader(""), &out, &words), args)
		require.Equal(t, "storectl: interrupted\n", words.String())
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errFindings, exitFindings},
		{fmt.Errorf("x: %w", &inspect.DamageError{Corrupt: &commitlog.CorruptError{Cause: commitlog.ErrEmpty}}), exitFindings},
		{&mappedfile.FileError{Cause: mappedfile.ErrStrayFile}, exitFindings},
		{usagef("x"), exitUsage},
		{fmt.Errorf("x: %w", inspect.ErrNoQueue), exitUsage},
		{inspect.ErrNotStore, exitIO},
		{fs.ErrPermission, exitIO},
		{inspect.ErrUnreadable, exitIO},
		{&inspect.LayoutError{}, exitLayout},
		{context.Canceled, exitIO}, // by somebody else than the user
	} {
		require.Equal(t, tt.want, exitStatus(context.Background(), tt.err), "%v", tt.err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("terminated"))
	require.Equal(t, exitInterrupted, exitStatus(ctx, fmt.Errorf("x: %w", context.Cause(ctx))))
	require.Equal(t, exitInterrupted, exitStatus(ctx, fmt.Errorf("x: %w", context.Canceled)))
	require.Equal(t, exitOK, exitStatus(ctx, nil))
}

func TestVersionLine(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^storectl unknown go`, versionLine(nil))
	require.Regexp(t, `^storectl v1\.2\.3 abc \(modified\) go`, versionLine(&debug.BuildInfo{
		Main:     debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	}))
}

func TestCell(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"": "-", "TagA": "TagA", "a\tb\x1b[2J\n": "a\uFFFDb\uFFFD[2J\uFFFD", "值": "值"} {
		require.Equal(t, want, cell(s))
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a; b", oneLine(errors.Join(errors.New("a"), errors.New("b"))))
}
