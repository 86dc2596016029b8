// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoPermission: what may not be read is said in a line, with the exit status of
// a failure to read.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := testStore(t)
	for _, part := range []string{".", "commitlog", "commitlog/00000000000000000000", "consumequeue"} {
		path := filepath.Join(dir, part)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(path, 0))
		for _, args := range [][]string{
			{"verify", dir}, {"rebuild", dir, "--to", dir + ".new"}, {"rebuild", dir, "--in-place"},
		} {
			var out, words bytes.Buffer
			require.Equal(t, exitIO, run(context.Background(), args, strings.NewReader(""), &out, &words), "%s, %v: %s", part, args, words.String())
			require.Contains(t, words.String(), "permission denied")
			require.NoDirExists(t, dir+".new")
			require.NoDirExists(t, dir+".new.partial")
		}
		require.NoError(t, os.Chmod(path, info.Mode().Perm()))
		require.NoDirExists(t, filepath.Join(dir, "rebuild.partial"))
	}
}
