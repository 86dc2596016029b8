// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/mappedfile"
)

const page = 4096

func TestMain(m *testing.M) {
	fusefs.Main()
	if path := os.Getenv(lockHelperEnv); path != "" {
		os.Exit(lockHelper(path))
	}
	goleak.VerifyTestMain(m)
}

// eachDisk runs a test on the real file system and on the one in memory. dir
// does not exist yet; its parent does.
func eachDisk(t *testing.T, test func(t *testing.T, d mappedfile.Disk, dir string)) {
	t.Helper()
	t.Run("os", func(t *testing.T) {
		t.Parallel()
		test(t, mappedfile.OS(), filepath.Join(t.TempDir(), "files"))
	})
	t.Run("crashdisk", func(t *testing.T) {
		t.Parallel()
		d := crashdisk.New()
		require.NoError(t, d.MkdirAll("/store"))
		test(t, d, "/store/files")
	})
}

// openQueue opens a queue with files of two pages and closes it with the test.
func openQueue(t testing.TB, d mappedfile.Disk, dir string, change ...func(*mappedfile.Options)) *mappedfile.Queue {
	t.Helper()
	o := mappedfile.Options{Dir: dir, FileSize: 2 * page, Disk: d}
	for _, f := range change {
		f(&o)
	}
	q, err := mappedfile.OpenQueue(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

// fillQueue adds n files; every byte of a file is its number counted from 1.
func fillQueue(t testing.TB, q *mappedfile.Queue, n int) {
	t.Helper()
	for range n {
		f, err := q.Add(q.NextBase(0))
		require.NoError(t, err)
		require.NoError(t, f.ReserveAll())
		data, err := f.Bytes()
		require.NoError(t, err)
		fill(data, number(f.Base(), f.Size()))
	}
}

func number(base, size int64) byte { return byte(base/size%250) + 1 }

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

func only(b []byte, v byte) bool { return bytes.Count(b, []byte{v}) == len(b) }

// put makes a file of the given length, durably.
func put(t testing.TB, d mappedfile.Disk, dir, name string, size int64) {
	t.Helper()
	require.NoError(t, d.MkdirAll(dir))
	path := filepath.Join(dir, name)
	if size == 0 {
		require.NoError(t, d.WriteFile(path, nil))
		return
	}
	r, err := d.Create(path, size, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, d.SyncDir(dir))
	require.NoError(t, r.Close())
}

func names(t testing.TB, d mappedfile.Disk, dir string) []string {
	t.Helper()
	entries, err := d.List(dir)
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return all
}
