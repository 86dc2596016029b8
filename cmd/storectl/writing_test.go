// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// changing has the commands that change a store, and those that do so when they are
// told to, as they are run on what is none.
var changing = map[string]struct {
	args  []string
	makes bool // a store, where there is nothing
}{
	"append":             {args: []string{"append", "DIR", "--topic", "orders"}, makes: true},
	"import":             {args: []string{"import", "DIR"}, makes: true},
	"replay --to":        {args: []string{"replay", "STORE", "--to", "DIR"}, makes: true},
	"config import":      {args: []string{"config", "import", "DIR"}},
	"config export":      {args: []string{"config", "export", "DIR"}},
	"topic create":       {args: []string{"topic", "create", "DIR", "orders"}},
	"topic delete":       {args: []string{"topic", "delete", "DIR", "orders"}},
	"offsets set":        {args: []string{"offsets", "set", "DIR", "--group", "g", "--topic", "orders", "--queue", "0", "--offset", "1"}},
	"offsets delete":     {args: []string{"offsets", "delete", "DIR", "--group", "g"}},
	"recover --apply":    {args: []string{"recover", "DIR", "--apply"}},
	"rebuild --to":       {args: []string{"rebuild", "DIR", "--to", "NEW"}},
	"rebuild --in-place": {args: []string{"rebuild", "DIR", "--in-place"}},
	"retention --apply":  {args: []string{"retention", "DIR", "--max-age", "1h", "--apply"}},
}

// TestChangersAreInATable: each command that is said to write is in changing, unless
// it takes no store.
func TestChangersAreInATable(t *testing.T) {
	t.Parallel()
	for _, name := range writing {
		if strings.HasPrefix(name, "bench ") || slices.Contains([]string{"demo", "man", "version"}, name) {
			continue
		}
		require.Contains(t, changing, name)
	}
}

// TestChangingWhatIsNoStore: one clear line, the status, and nothing is changed or
// made.
func TestChangingWhatIsNoStore(t *testing.T) {
	t.Parallel()
	source := testStore(t)
	for name, c := range noStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir := filepath.Join(top, "store")
			c.make(t, dir)
			before, err := snapshot(top)
			require.NoError(t, err)
			for command, of := range changing {
				if of.makes && c.fresh {
					continue
				}
				args := in(of.args, dir)
				if i := slices.Index(args, "STORE"); i >= 0 {
					args[i] = source
				}
				refuses(t, c, command, args)
				after, err := snapshot(top)
				require.NoError(t, err)
				require.Equal(t, before, after, "storectl %s changed or made something", command)
			}
		})
	}
}

// TestChangingWithoutPermission: what may not be read or written is said in one
// line.
func TestChangingWithoutPermission(t *testing.T) {
	t.Parallel()
	source := testStore(t)
	dir := aStore(t)
	do := ofSomebodyElse(t, dir)
	require.NoError(t, os.Chmod(dir, 0o100))
	t.Cleanup(func() { require.NoError(t, os.Chmod(dir, 0o700)) })
	for command, of := range changing {
		args := in(of.args, dir)
		if i := slices.Index(args, "STORE"); i >= 0 {
			args[i] = source
		}
		status, words := do(t, args)
		if status != exitIO || strings.Count(words, "\n") != 1 || !strings.Contains(words, "permission denied") {
			t.Errorf("storectl %s: status %d, want %d; stderr %q", command, status, exitIO, words)
		}
	}
}
