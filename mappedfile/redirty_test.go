// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

// TestRedirty leaves every byte as it was, in the range and around it.
func TestRedirty(t *testing.T) {
	t.Parallel()
	const size = 5*4096 + 2
	o := mappedfile.Options{Dir: t.TempDir(), FileSize: size}
	q, err := mappedfile.OpenQueue(o)
	require.NoError(t, err)
	f, err := q.Add(0)
	require.NoError(t, err)
	data, err := f.Bytes()
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	want := bytes.Clone(data)
	for _, r := range [][2]int64{{0, size}, {1, size - 1}, {4095, 4097}, {100, 100}, {size, size}, {5 * 4096, size}, {4095, 4098}} {
		require.NoError(t, f.Redirty(r[0], r[1]))
		require.Equal(t, want, data)
	}
	require.NoError(t, f.Flush(0, size))
	require.NoError(t, q.Close())

	o.Mapping.ReadOnly = true
	q, err = mappedfile.OpenQueue(o)
	require.NoError(t, err)
	defer q.Close()
	require.ErrorIs(t, q.First().Redirty(0, size), mappedfile.ErrReadOnly)
}
