// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fuse is a context that ends when it was asked so many times whether it has.
type fuse struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func newFuse(ctx context.Context, n int64) *fuse {
	f := &fuse{}
	f.Context, f.cancel = context.WithCancel(ctx)
	f.left.Store(n)
	return f
}

func (f *fuse) burn() {
	if f.left.Add(-1) == 0 {
		f.cancel()
	}
}

func (f *fuse) Err() error {
	f.burn()
	return f.Context.Err()
}

func (f *fuse) Done() <-chan struct{} {
	f.burn()
	return f.Context.Done()
}

// Ways in which a target may be there after an interrupt.
func nothingMade(t *testing.T, dir string) {
	require.NoDirExists(t, dir+"-new")
	require.NoDirExists(t, dir+"-new.partial")
}

func notNamed(t *testing.T, dir string) { require.NoDirExists(t, dir+"-new") }

func stillSound(t *testing.T, dir string) {
	status, words := here(t, []string{"verify", dir})
	require.Equal(t, exitOK, status, words)
}

// TestInterruptAnywhere ends each command that takes long or writes at one point
// after another, up to its own end: it must end with 130 and one last line that says
// so, and leave no half of what it was to make.
func TestInterruptAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args   []string
		killed bool // its owner was, and nobody knows how far it was
		change bool // the store, so that each run needs another one
		lines  bool // stdout is ndjson
		may    int  // the status of a run that comes to its end, if it is not 0
		after  func(t *testing.T, dir string)
	}{
		"inspect":            {args: []string{"inspect", "DIR"}},
		"inspect messages":   {args: []string{"inspect", "messages", "DIR", "-o", "ndjson", "--body"}, lines: true},
		"inspect --reverse":  {args: []string{"inspect", "messages", "DIR", "-o", "ndjson", "--reverse"}, lines: true},
		"inspect queue":      {args: []string{"inspect", "queue", "DIR", "orders", "1", "-o", "ndjson"}, lines: true},
		"inspect index":      {args: []string{"inspect", "index", "DIR", "-o", "ndjson"}, lines: true},
		"inspect delay":      {args: []string{"inspect", "delay", "DIR", "-o", "ndjson"}, lines: true},
		"verify":             {args: []string{"verify", "DIR"}},
		"doctor":             {args: []string{"doctor", "DIR"}, may: exitFindings},
		"query":              {args: []string{"query", "DIR", "--topic", "orders", "--key", "k7", "-o", "ndjson"}, lines: true},
		"export":             {args: []string{"export", "DIR"}, lines: true},
		"tail":               {args: []string{"tail", "DIR", "-n", "1000", "-o", "ndjson"}, lines: true},
		"replay -o":          {args: []string{"replay", "DIR", "-o", "ndjson"}, lines: true},
		"replay --to":        {args: []string{"replay", "DIR", "--to", "NEW", "--file-size", "16KiB", "--queue-file-size", "400B"}, after: nothingMade},
		"replay --state":     {args: []string{"replay", "DIR", "--to", "NEW", "--state", "NEW.state", "--file-size", "16KiB", "--queue-file-size", "400B"}, after: notNamed},
		"import":             {args: []string{"import", "NEW", "DIR.ndjson", "--file-size", "16KiB", "--queue-file-size", "400B"}, after: notNamed},
		"rebuild --to":       {args: []string{"rebuild", "DIR", "--to", "NEW"}, after: nothingMade},
		"rebuild --dry-run":  {args: []string{"rebuild", "DIR", "--to", "NEW", "--dry-run"}, after: nothingMade},
		"rebuild --in-place": {args: []string{"rebuild", "DIR", "--in-place"}, change: true, after: stillSound},
		"recover":            {args: []string{"recover", "DIR"}, killed: true, may: exitFindings},
		"recover --apply":    {args: []string{"recover", "DIR", "--apply"}, killed: true, change: true, after: stillSound},
		"retention":          {args: []string{"retention", "DIR", "--max-size", "16KiB"}},
		"retention --apply":  {args: []string{"retention", "DIR", "--max-size", "16KiB", "--apply"}, change: true, after: stillSound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sound := storeOf(t, 1200) // some commands look once for hundreds of messages
			if c.killed {
				require.NoError(t, os.Remove(filepath.Join(sound, "stele", "marks")))
				require.NoError(t, os.WriteFile(filepath.Join(sound, "abort"), nil, 0o600))
			}
			exported, rows := "", new(bytes.Buffer)
			require.Equal(t, exitOK, run(t.Context(), []string{"export", sound}, strings.NewReader(""), rows, new(bytes.Buffer)))
			interrupts := 0
			for n := int64(1); ; n += 1 + n/2 {
				dir := sound
				if c.change {
					dir = filepath.Join(t.TempDir(), "store")
					require.NoError(t, os.CopyFS(dir, os.DirFS(sound)))
				}
				if exported == "" {
					exported = dir + ".ndjson"
					require.NoError(t, os.WriteFile(exported, rows.Bytes(), 0o600))
				}
				ctx := newFuse(t.Context(), n)
				var out, words bytes.Buffer
				status := run(ctx, in(c.args, dir), strings.NewReader(""), &out, &words)
				ctx.cancel()
				if c.lines {
					for line := range strings.Lines(out.String()) {
						require.True(t, json.Valid([]byte(line)) && strings.HasSuffix(line, "\n"), "cut after %d looks: %q", n, line)
					}
				}
				if status != exitInterrupted {
					require.Contains(t, []int{exitOK, c.may}, status, "%d looks: %s", n, words.String())
					break
				}
				interrupts++
				require.True(t, strings.HasSuffix(words.String(), "storectl: interrupted\n"), "%d looks: %s", n, words.String())
				if c.after != nil {
					c.after(t, dir)
				}
				for _, left := range []string{dir + "-new", dir + "-new.partial", dir + "-new.state"} {
					require.NoError(t, os.RemoveAll(left))
				}
			}
			require.Positive(t, interrupts, "it never looks")
		})
	}
}

// TestInterruptFollowing: one that waits for more is woken.
func TestInterruptFollowing(t *testing.T) {
	t.Parallel()
	dir := aStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &wakingWriter{wake: cancel, after: 10}
	var words bytes.Buffer
	status := run(ctx, []string{"tail", "-f", dir, "-o", "ndjson", "--last", "10"}, strings.NewReader(""), out, &words)
	require.Equal(t, exitInterrupted, status, words.String())
	require.Equal(t, "storectl: interrupted\n", words.String())
	require.Equal(t, 10, bytes.Count(out.Bytes(), []byte("\n")))
}

// wakingWriter calls wake when it has so many lines.
type wakingWriter struct {
	bytes.Buffer
	wake  func()
	after int
}

func (w *wakingWriter) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if bytes.Count(w.Bytes(), []byte("\n")) >= w.after {
		// Once it waits, or before: both must end it.
		time.AfterFunc(time.Millisecond, w.wake)
	}
	return n, err
}
