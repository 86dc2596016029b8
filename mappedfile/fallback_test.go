// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a file system without fallocate gets.
func TestWithoutFallocate(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 100 // more than one step, and no whole page at the end
	path := filepath.Join(t.TempDir(), "f")
	r, err := OS().Create(path, size, Mapping{})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	f, data := r.(*osRegion).file, r.Bytes()
	for i := range data {
		data[i] = byte(i % 251)
	}
	want := bytes.Clone(data)
	check := func() {
		t.Helper()
		require.True(t, bytes.Equal(want, data))
		read, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, read))
	}
	require.NoError(t, writeSame(f, data, 10, 2<<20+7))
	check()
	require.NoError(t, writeSame(f, data, 0, size))
	check()
	const from, n = 1<<20 - 3, 1<<20 + 50
	require.NoError(t, zeroMapped(f, data, from, n))
	clear(want[from : from+n])
	check()
}
