// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// storectlChild is storectl as a process of its own.
func storectlChild(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self)
	c.Args = append([]string{"storectl"}, args...) // see TestMain
	return c
}

// replaySource makes a store of n messages, most of them alike.
func replaySource(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	s, err := store.Open(dir, store.Options{FileSize: 256 << 10, QueueFileSize: 20000})
	require.NoError(t, err)
	for i := range n {
		m := &message.Message{Topic: "t", QueueID: int32(i % 2), BornTimestamp: 1, Body: []byte("alike")}
		if i%10 == 0 {
			m.Body = fmt.Append(nil, i)
		}
		_, err := s.Append(t.Context(), m)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	return dir
}

func exportLines(t *testing.T, dir string) string {
	t.Helper()
	var out, words bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"export", dir, "-o", "lines"}, strings.NewReader(""), &out, &words), words.String())
	return out.String()
}

// TestReplayKilled kills replays at random moments and goes on: the result is the
// same as that of one that was not killed, wherever the kills fall.
func TestReplayKilled(t *testing.T) {
	t.Parallel()
	const n = 4000
	source := replaySource(t, n)
	want := exportLines(t, source)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for _, out := range []string{"store", "file"} {
		t.Run(out, func(t *testing.T) {
			tmp := t.TempDir()
			dir, file, state := filepath.Join(tmp, "target"), filepath.Join(tmp, "out"), filepath.Join(tmp, "state")
			begin := func(speed string) (*exec.Cmd, *bytes.Buffer) {
				args := []string{"replay", source, "--state", state, "--speed", speed}
				if out == "store" {
					args = append(args, "--to", dir)
				} else {
					args = append(args, "-o", "ndjson")
				}
				c := storectlChild(t, args...)
				f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				require.NoError(t, err)
				defer func() { require.NoError(t, f.Close()) }()
				words := new(bytes.Buffer)
				c.Stdout, c.Stderr = f, words
				require.NoError(t, c.Start())
				return c, words
			}
			kills := 0
			for range 4 {
				c, _ := begin("8000/s")
				ended := make(chan error, 1)
				go func() { ended <- c.Wait() }()
				select {
				case <-ended:
				case <-time.After(time.Duration(20+rng.IntN(120)) * time.Millisecond):
					kills++
					_ = c.Process.Kill()
					<-ended
				}
			}
			c, words := begin("max")
			require.NoError(t, c.Wait(), words.String())
			t.Logf("%d kills; %s", kills, words)
			if out == "store" {
				require.NoDirExists(t, dir+".partial")
				require.Equal(t, want, exportLines(t, dir))
				return
			}
			got, err := os.Open(file)
			require.NoError(t, err)
			copied := filepath.Join(tmp, "copy")
			var none, imported bytes.Buffer
			require.Zero(t, run(t.Context(), []string{"import", copied, "--file-size", "1MiB"}, got, &none, &imported), imported.String())
			require.NoError(t, got.Close())
			require.Equal(t, want, exportLines(t, copied))
		})
	}
}

// TestReplayInterrupted is a Ctrl-C during a wait that would take years.
func TestReplayInterrupted(t *testing.T) {
	t.Parallel()
	source := replaySource(t, 10)
	for _, state := range []bool{false, true} {
		tmp := t.TempDir()
		dir := filepath.Join(tmp, "target")
		args := []string{"replay", source, "--to", dir, "--speed", "1e-6/s"}
		if state {
			args = append(args, "--state", filepath.Join(tmp, "state"))
		}
		c := storectlChild(t, args...)
		var words bytes.Buffer
		c.Stderr = &words
		require.NoError(t, c.Start())
		waitForRecord(t, dir+".partial")
		require.NoError(t, c.Process.Signal(os.Interrupt))
		var exit *exec.ExitError
		require.ErrorAs(t, c.Wait(), &exit)
		require.Equal(t, exitInterrupted, exit.ExitCode(), words.String())
		require.NoDirExists(t, dir)
		if !state {
			require.NoDirExists(t, dir+".partial")
			continue
		}
		require.Contains(t, words.String(), "the same command goes on where this one ended")
		var out, more bytes.Buffer
		args[len(args)-3] = "max"
		require.Zero(t, run(t.Context(), args, strings.NewReader(""), &out, &more), more.String())
		require.Contains(t, more.String(), "replayed 9 messages")
		require.Equal(t, exportLines(t, source), exportLines(t, dir))
	}
}

// TestReplayCommandIsLeftToEnd interrupts a replay to a command: the command has
// read what it was given when storectl ends.
func TestReplayCommandIsLeftToEnd(t *testing.T) {
	t.Parallel()
	source, tmp := replaySource(t, 10), t.TempDir()
	c := storectlChild(t, "replay", source, "--speed", "1e-6/s", "--exec", "head -n 1; cat; echo end", "--state", filepath.Join(tmp, "state"))
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	first := make([]byte, 1)
	_, err = io.ReadFull(out, first)
	require.NoError(t, err)
	require.NoError(t, c.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, c.Wait(), &exit)
	require.Equal(t, exitInterrupted, exit.ExitCode())
	require.True(t, strings.HasSuffix(string(rest), "}\nend\n"), "%s", rest)
	require.Equal(t, 2, strings.Count(string(rest), "\n"))
}

// waitForRecord returns once there is a record in the log of a store that another
// process makes.
func waitForRecord(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "commitlog", "00000000000000000000")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if f, err := os.Open(path); err == nil {
			b := make([]byte, 4)
			_, err = f.ReadAt(b, 0)
			require.NoError(t, f.Close())
			if err == nil && !bytes.Equal(b, make([]byte, 4)) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return
		}
	}
}
