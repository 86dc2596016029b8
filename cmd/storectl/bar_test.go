// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal makes a pseudo-terminal, and returns what shows it and what is
// written to.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 90}))
	return screen, tty
}

// untilSeen reads a terminal until it has shown something.
func untilSeen(t *testing.T, screen *bufio.Reader, what string) {
	t.Helper()
	var seen bytes.Buffer
	for !strings.Contains(seen.String(), what) {
		b, err := screen.ReadByte()
		require.NoErrorf(t, err, "seen: %q", seen.String())
		seen.WriteByte(b)
	}
}

const oneLineOfInput = `{"topic":"orders","queueId":0,"body":"tea"}` + "\n"

// A command that takes more than a second shows on a terminal how far it has
// come, and nothing of it is left behind. Its input is held until it was seen.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		interrupt bool
		end       string
	}{
		{"end of the input", false, "imported 1 messages"},
		{"interrupt", true, "interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			screen, tty := terminal(t)
			dir := filepath.Join(t.TempDir(), "store")
			cmd := exec.Command("storectl", "import", dir, "--file-size", "64KiB") // see TestMain
			cmd.Stderr = tty
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			require.NoError(t, tty.Close())
			_, err = io.WriteString(in, oneLineOfInput)
			require.NoError(t, err)
			seen := bufio.NewReader(screen)
			untilSeen(t, seen, "\r\x1b[Kimporting  44 B  ")
			if c.interrupt {
				require.NoError(t, cmd.Process.Signal(os.Interrupt))
			} else {
				require.NoError(t, in.Close())
			}
			untilSeen(t, seen, "\r\x1b[Kstorectl: ")
			untilSeen(t, seen, c.end)
			err = cmd.Wait()
			_ = in.Close()
			if !c.interrupt {
				require.NoError(t, err)
				return
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, exitInterrupted, exit.ExitCode())
		})
	}
}
