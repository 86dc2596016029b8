// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

const (
	page   = crashdisk.PageSize
	sector = crashdisk.SectorSize
	seeds  = 200
)

// create makes a file whose name is durable.
func create(t *testing.T, d *crashdisk.Disk, path string, size int64) mappedfile.Region {
	t.Helper()
	require.NoError(t, d.MkdirAll("d"))
	r, err := d.Create(path, size, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, d.SyncDir("d"))
	return r
}

func read(t *testing.T, d *crashdisk.Disk, path string) []byte {
	t.Helper()
	data, err := d.ReadFile(path)
	require.NoError(t, err)
	return data
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// only tells whether b holds nothing but v.
func only(b []byte, v byte) bool { return bytes.Count(b, []byte{v}) == len(b) }

func TestCrashCloneLosesOnlyWhatWasNotFlushed(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 8*page)
	fill(r.Bytes(), 1)
	// 100 bytes that lie in pages 2 and 3 take both pages along.
	require.NoError(t, r.Flush(3*page-50, 100))
	var lost, survived, torn int
	for seed := range uint64(seeds) {
		got := read(t, d.CrashClone(seed), "d/f")
		require.Len(t, got, 8*page)
		for p := range 8 {
			b := got[p*page : (p+1)*page]
			if p == 2 || p == 3 {
				require.True(t, only(b, 1), "seed %d: flushed page %d", seed, p)
				continue
			}
			switch {
			case only(b, 0):
				lost++
			case only(b, 1):
				survived++
			default:
				torn++
				for s := 0; s < page; s += sector {
					require.True(t, only(b[s:s+sector], 0) || only(b[s:s+sector], 1), "seed %d: a sector is torn", seed)
				}
			}
		}
	}
	require.NotZero(t, lost)
	require.NotZero(t, survived)
	require.NotZero(t, torn)
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	create(t, d, "d/kept", page)
	create(t, d, "d/removed", page)
	_, err := d.Create("d/new", page, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, d.Remove("d/removed"))
	there := map[string]int{}
	for seed := range uint64(seeds) {
		entries, err := d.CrashClone(seed).List("d")
		require.NoError(t, err)
		for _, e := range entries {
			require.EqualValues(t, page, e.Size)
			there[e.Name]++
		}
	}
	require.Equal(t, seeds, there["kept"])
	for _, name := range []string{"new", "removed"} {
		require.Positive(t, there[name], name)
		require.Less(t, there[name], seeds, name)
	}
	require.NoError(t, d.SyncDir("d"))
	for seed := range uint64(seeds) {
		clone := d.CrashClone(seed)
		read(t, clone, "d/new")
		_, err := clone.ReadFile("d/removed")
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}
