// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func TestDiskUsage(t *testing.T) {
	t.Parallel()
	u, err := mappedfile.DiskUsage(mappedfile.OS(), t.TempDir())
	require.NoError(t, err)
	require.Positive(t, u.Used+u.Free)
	_, err = mappedfile.DiskUsage(mappedfile.OS(), "/nowhere/at/all")
	require.ErrorIs(t, err, fs.ErrNotExist)

	d := crashdisk.New()
	u, err = mappedfile.DiskUsage(d, "/")
	require.NoError(t, err)
	require.Zero(t, u, "a disk without limit")
	d.SetCapacity(10 * page)
	q := openQueue(t, d, "/q", func(o *mappedfile.Options) { o.ReserveWhole = true })
	fillQueue(t, q, 2)
	u, err = mappedfile.DiskUsage(d, "/q")
	require.NoError(t, err)
	require.Equal(t, mappedfile.Usage{Used: 4 * page, Free: 6 * page}, u)
	d.SetCapacity(page)
	u, err = mappedfile.DiskUsage(d, "/q")
	require.NoError(t, err)
	require.Equal(t, mappedfile.Usage{Used: 4 * page}, u)

	// One that can't tell.
	u, err = mappedfile.DiskUsage(struct{ mappedfile.Disk }{d}, "/q")
	require.NoError(t, err)
	require.Zero(t, u)
}
