// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestTailFollowsAnOwner follows a store that is written at full speed, by each
// write path, and loses nothing.
func TestTailFollowsAnOwner(t *testing.T) {
	t.Parallel()
	const n = 3000
	for _, path := range []store.WritePath{store.WriteMmap, store.WritePool, store.WriteFile} {
		dir := t.TempDir()
		s, err := store.Open(dir, store.Options{FileSize: 64 << 10, QueueFileSize: 2000, WritePath: path})
		require.NoError(t, err)
		var want strings.Builder
		put := func(i int) {
			body := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%200))
			_, err := s.Append(t.Context(), &message.Message{Topic: "t", QueueID: int32(i % 3), Body: []byte(body)})
			require.NoError(t, err)
			want.WriteString(body + "\n")
		}
		put(0)
		var out, words bytes.Buffer
		status := make(chan int)
		go func() {
			status <- run(t.Context(), []string{"tail", dir, "-f", "-n", fmt.Sprint(n), "--limit", fmt.Sprint(n), "-o", "lines"},
				strings.NewReader(""), &out, &words)
		}()
		for i := 1; i < n; i++ {
			put(i)
		}
		require.NoError(t, s.Flush(t.Context()))
		require.Zero(t, <-status, words.String())
		require.Equal(t, want.String(), out.String(), "%v", path)
		require.NoError(t, s.Close())
	}
}

// TestTailInterrupted shows what there is before it waits, and ends with 130.
func TestTailInterrupted(t *testing.T) {
	t.Parallel()
	dir := replaySource(t, 10)
	for _, output := range []string{"table", "ndjson", "lines"} {
		c := storectlChild(t, "tail", dir, "-f", "-o", output, "-n", "2")
		var words bytes.Buffer
		c.Stderr = &words
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		lines := bufio.NewScanner(out)
		for range map[string]int{"table": 3, "ndjson": 2, "lines": 2}[output] {
			require.True(t, lines.Scan())
		}
		require.NoError(t, c.Process.Signal(os.Interrupt))
		require.False(t, lines.Scan())
		var exit *exec.ExitError
		require.ErrorAs(t, c.Wait(), &exit)
		require.Equal(t, exitInterrupted, exit.ExitCode())
		require.Equal(t, "storectl: interrupted\n", words.String())
	}
}
