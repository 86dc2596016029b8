// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/mappedfile"
)

// tinyDisk mounts a tmpfs, or skips the test where that is not allowed.
func tinyDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a full disk is not tested here: no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// fillUp takes every block of the file system.
func fillUp(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	buf := make([]byte, page)
	for err == nil {
		_, err = f.Write(buf)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return path
}

func requireDiskFull(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, mappedfile.ErrDiskFull)
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func TestRealDiskIsFull(t *testing.T) {
	dir := tinyDisk(t, "size=64k")
	q := openQueue(t, mappedfile.OS(), filepath.Join(dir, "q"), func(o *mappedfile.Options) { o.FileSize = 8 * page })
	f, err := q.Add(0)
	require.NoError(t, err)
	require.NoError(t, f.Reserve(page))
	ballast := fillUp(t, dir)
	requireDiskFull(t, f.Reserve(8*page))
	require.NoError(t, f.Reserve(page))
	requireDiskFull(t, mappedfile.OS().WriteFile(filepath.Join(dir, "checkpoint"), make([]byte, page)))
	require.NoError(t, os.Remove(ballast))
	require.NoError(t, f.Reserve(8*page))

	q = openQueue(t, mappedfile.OS(), filepath.Join(dir, "whole"), func(o *mappedfile.Options) { o.FileSize, o.ReserveWhole = 64*page, true })
	_, err = q.Add(0)
	requireDiskFull(t, err)
	require.Empty(t, names(t, mappedfile.OS(), q.Dir()))
}

// A file system can run out of inodes as well.
func TestRealDiskHasNoRoomForNames(t *testing.T) {
	dir := tinyDisk(t, "size=1m,nr_inodes=5") // with the root
	d := mappedfile.OS()
	for i := range 4 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	_, err := d.Create(filepath.Join(dir, "new"), page, mappedfile.Mapping{})
	requireDiskFull(t, err)
	requireDiskFull(t, d.MkdirAll(filepath.Join(dir, "dir")))
	requireDiskFull(t, d.WriteFile(filepath.Join(dir, "new"), []byte("x")))
	_, err = d.Lock(filepath.Join(dir, "lock"))
	requireDiskFull(t, err)
}

// The file of a broker is sparse, and its length no whole number of pages. Zero
// must not touch a page that has no block: that would be a SIGBUS, which kills
// the process (here it panics).
func TestZeroFromOfASparseFileOnAFullDisk(t *testing.T) {
	dir := tinyDisk(t, "size=64k")
	q := openQueue(t, mappedfile.OS(), filepath.Join(dir, "q"), func(o *mappedfile.Options) { o.FileSize = 8*page - 640 })
	f, err := q.Add(0)
	require.NoError(t, err)
	data, err := f.Bytes()
	require.NoError(t, err)
	require.NoError(t, f.Reserve(2*page))
	fill(data[:2*page], 7)
	fillUp(t, dir)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, pos := range []int64{5*page + 100, 2 * page, page + 100} {
		require.NotPanics(t, func() { require.NoError(t, f.ZeroFrom(pos)) })
		require.True(t, only(data[:min(pos, 2*page)], 7))
	}
	require.True(t, only(data[page+100:2*page], 0))
}
