// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

func TestSmallFiles(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		path := filepath.Join(dir, "a", "checkpoint")
		require.ErrorIs(t, d.WriteFile(path, nil), os.ErrNotExist)
		require.NoError(t, d.MkdirAll(filepath.Dir(path)))
		require.NoError(t, d.MkdirAll(filepath.Dir(path)), "it is there already")
		_, err := d.ReadFile(path)
		require.ErrorIs(t, err, os.ErrNotExist)
		for _, content := range []string{"first", "", "the second is longer", "short"} {
			require.NoError(t, d.WriteFile(path, []byte(content)))
			got, err := d.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, content, string(got))
		}
		require.ErrorIs(t, d.MkdirAll(path), syscall.ENOTDIR)
		require.ErrorIs(t, d.MkdirAll(filepath.Join(path, "x")), syscall.ENOTDIR)
		require.NoError(t, d.SyncDir(dir))
		require.ErrorIs(t, d.SyncDir(filepath.Join(dir, "x")), os.ErrNotExist)
		require.ErrorIs(t, d.Remove(filepath.Join(dir, "a")), syscall.ENOTEMPTY)
		require.NoError(t, d.Remove(path))
		require.ErrorIs(t, d.Remove(path), os.ErrNotExist)
		require.NoError(t, d.Remove(filepath.Join(dir, "a")))
		require.Empty(t, names(t, d, dir))
	})
}

func TestDiskCreateAndOpen(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		require.NoError(t, d.MkdirAll(dir))
		path := filepath.Join(dir, "f")
		_, err := d.Open(path, mappedfile.Mapping{})
		require.ErrorIs(t, err, os.ErrNotExist)
		r, err := d.Create(path, page+1, mappedfile.Mapping{})
		require.NoError(t, err)
		require.Len(t, r.Bytes(), page+1)
		require.True(t, only(r.Bytes(), 0))
		_, err = d.Create(path, page, mappedfile.Mapping{})
		require.ErrorIs(t, err, os.ErrExist)
		fill(r.Bytes(), 3)
		same, err := d.Open(path, mappedfile.Mapping{ReadOnly: true})
		require.NoError(t, err)
		require.True(t, only(same.Bytes(), 3), "two mappings of a file see each other")
		require.NoError(t, same.Flush(0, page+1))
		require.NoError(t, same.Close())
		require.NoError(t, r.Flush(0, 0))
		require.NoError(t, r.Reserve(page, 0))
		require.NoError(t, r.Zero(page, 0))
		require.True(t, only(r.Bytes(), 3))
		require.NoError(t, r.Close())
		_, err = d.Create(filepath.Join(dir, "none"), 0, mappedfile.Mapping{})
		require.ErrorIs(t, err, syscall.EINVAL)
		require.Equal(t, []string{"f"}, names(t, d, dir), "a creation that failed leaves nothing")
	})
}

func TestBootID(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, _ string) {
		id, err := d.BootID()
		if os.IsNotExist(err) {
			t.Skip("this system does not name the run of its kernel")
		}
		require.NoError(t, err)
		require.NotEmpty(t, id)
		require.Equal(t, strings.TrimSpace(id), id)
		again, err := d.BootID()
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}
