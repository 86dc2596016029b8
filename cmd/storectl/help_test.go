// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// TestHelp holds what each command says of itself to testdata/help/COMMAND.txt, and
// each that does something to an example. With UPDATE_SCRIPTS=1 in the environment
// the files are written: look at the difference before you keep it.
func TestHelp(t *testing.T) {
	t.Parallel()
	update := os.Getenv("UPDATE_SCRIPTS") != ""
	const dir = "testdata/help"
	left := map[string]bool{}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		left[f.Name()] = true
	}
	groups := map[string]bool{"storectl bench": true, "storectl config": true, "storectl offsets": true, "storectl topic": true}
	for _, name := range paths(t) {
		args := strings.Fields(name + " --help")[1:]
		var out, words bytes.Buffer
		require.Equal(t, exitOK, run(t.Context(), args, strings.NewReader(""), &out, &words), name)
		require.Empty(t, words.String(), name)
		require.NotRegexp(t, `[ \t]\n`, out.String(), "%s: blanks at the end of a line", name)
		if !groups[name] {
			require.Contains(t, out.String(), "\nExamples:\n", name)
		}
		file := strings.ReplaceAll(name, " ", "-") + ".txt"
		delete(left, file)
		if update {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), out.Bytes(), 0o644)) //nolint:gosec // as a checkout makes it
		}
		want, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err, "run the test with UPDATE_SCRIPTS=1 for a new command")
		require.Equal(t, string(want), out.String(), name)
	}
	require.Empty(t, left, "no command is called so")
}

// paths are the names of all commands that are not hidden, storectl's own first.
func paths(t *testing.T) (names []string) {
	t.Helper()
	a := &app{ctx: t.Context()}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		names = append(names, c.CommandPath())
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.rootCommand())
	require.Greater(t, len(names), 30)
	return names
}
