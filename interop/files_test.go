// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sharedDirs are the directories in which both sides keep the same files.
var sharedDirs = []string{"commitlog", "consumequeue", "index"}

// files has the sum of each file, by its path in the store.
type files map[string][sha256.Size]byte

// snapshot sums up the files that both sides share.
func snapshot(t testing.TB, dir string) files {
	t.Helper()
	sums := files{}
	for _, sub := range sharedDirs {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			sum, err := sumOf(path)
			sums[strings.TrimPrefix(path, dir+"/")] = sum
			return err
		})
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
	}
	return sums
}

func sumOf(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}

// requireUnchanged: whoever had the directory open since has changed no byte.
func requireUnchanged(t testing.TB, before files, dir string) {
	t.Helper()
	after := snapshot(t, dir)
	require.Equal(t, before.names(), after.names())
	for name, sum := range before {
		require.Equal(t, sum, after[name], "%s was changed", name)
	}
}

// requireKept: whoever has opened the directory has removed no file of it.
func requireKept(t testing.TB, before files, dir string) {
	t.Helper()
	after := snapshot(t, dir)
	for name := range before {
		require.Contains(t, after, name)
	}
}

func (f files) names() []string { return slices.Sorted(maps.Keys(f)) }

// requireSameFiles holds two directories equal byte for byte, but for the names
// of index files, which are the times at which they were made.
func requireSameFiles(t testing.TB, one, other string) {
	t.Helper()
	a, b := snapshot(t, one).names(), snapshot(t, other).names()
	if os.Getenv(versionEnv) != "" {
		// From 5.4 on the index has tags as well.
		isIndex := func(name string) bool { return strings.HasPrefix(name, "index/") }
		a, b = slices.DeleteFunc(a, isIndex), slices.DeleteFunc(b, isIndex)
	}
	require.Len(t, b, len(a), "%v\n%v", a, b)
	for i := range a {
		if !strings.HasPrefix(a[i], "index/") {
			require.Equal(t, a[i], b[i])
		}
		x, err := os.ReadFile(filepath.Join(one, a[i]))
		require.NoError(t, err)
		y, err := os.ReadFile(filepath.Join(other, b[i]))
		require.NoError(t, err)
		require.Len(t, y, len(x), a[i])
		if !bytes.Equal(x, y) {
			at := 0
			for x[at] == y[at] {
				at++
			}
			lo, hi := max(at-16, 0), min(at+48, len(x))
			require.Failf(t, "not the same bytes", "%s at %d:\n%x\n%x", a[i], at, x[lo:hi], y[lo:hi])
		}
	}
}
