// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/internal/fusefs"
)

func TestMain(m *testing.M) {
	fusefs.Main()
	goleak.VerifyTestMain(m)
}

// rig is a server and one mounted disk.
type rig struct {
	*fusefs.Client
	t    *testing.T
	disk int
	dir  string
	mode fusefs.Mode
}

func newRig(t *testing.T, m fusefs.Mode) *rig {
	t.Helper()
	if err := fusefs.Available(); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	r := &rig{t: t, dir: t.TempDir(), mode: m} // removed after the server is gone
	c, err := fusefs.Start(4 * time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	r.Client = c
	r.disk, err = c.NewDisk()
	require.NoError(t, err)
	if err := c.Mount(r.disk, r.dir, m); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// cut mounts what a power cut leaves.
func (r *rig) cut(seed uint64) {
	r.t.Helper()
	left, _, err := r.Cut(r.disk, seed)
	require.NoError(r.t, err)
	require.NoError(r.t, r.Unmount(r.dir))
	require.NoError(r.t, r.Mount(left, r.dir, r.mode))
	r.disk = left
}

func (r *rig) syncDir(name string) {
	r.t.Helper()
	d, err := os.Open(r.path(name))
	require.NoError(r.t, err)
	require.NoError(r.t, d.Sync())
	require.NoError(r.t, d.Close())
}

func (r *rig) create(name string, size int64) *os.File {
	r.t.Helper()
	f, err := os.OpenFile(r.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	require.NoError(r.t, err)
	require.NoError(r.t, f.Truncate(size))
	return f
}

// mapped maps a file as the store does.
func (r *rig) mapped(f *os.File, size int) []byte {
	r.t.Helper()
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(r.t, err)
	return data
}

func eachMode(t *testing.T, do func(t *testing.T, r *rig)) {
	for _, m := range []fusefs.Mode{
		{}, {KeepCache: true}, {WritebackCache: true}, {WritebackCache: true, KeepCache: true}, {Bare: true},
	} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			do(t, newRig(t, m))
		})
	}
}

const page = 4096

func TestMappedBytes(t *testing.T) {
	t.Parallel()
	for name, flush := range map[string]func(f *os.File, data []byte) error{
		"msync":     func(_ *os.File, data []byte) error { return unix.Msync(data, unix.MS_SYNC) },
		"fdatasync": func(f *os.File, _ []byte) error { return unix.Fdatasync(int(f.Fd())) },
		"fsync":     func(f *os.File, _ []byte) error { return f.Sync() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, r *rig) {
				f := r.create("f", 4*page)
				data := r.mapped(f, 4*page)
				copy(data[page:], "durable")
				require.NoError(t, flush(f, data))
				r.syncDir("")
				copy(data[page:], "DURABLE")
				copy(data[2*page:], "not synced")
				data2 := append([]byte(nil), data...)
				require.NoError(t, unix.Munmap(data))
				require.NoError(t, f.Close())
				got, err := os.ReadFile(r.path("f"))
				require.NoError(t, err)
				require.True(t, bytes.Equal(data2, got), "unmapping loses nothing")
				r.cut(fusefs.Luckless)
				got, err = os.ReadFile(r.path("f"))
				require.NoError(t, err)
				require.Len(t, got, 4*page)
				require.Equal(t, "durable", string(got[page:page+7]))
				require.Equal(t, make([]byte, 2*page), got[2*page:])
			})
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, r *rig) {
		require.NoError(t, os.Mkdir(r.path("d"), 0o755))
		r.syncDir("")
		for _, name := range []string{"d/kept", "d/renamed", "d/removed"} {
			require.NoError(t, os.WriteFile(r.path(name), []byte(name), 0o644))
			f, err := os.Open(r.path(name))
			require.NoError(t, err)
			require.NoError(t, f.Sync())
			require.NoError(t, f.Close())
		}
		r.syncDir("d")
		require.NoError(t, os.WriteFile(r.path("d/new"), nil, 0o644))
		require.NoError(t, os.Rename(r.path("d/renamed"), r.path("other")))
		require.NoError(t, os.Remove(r.path("d/removed")))
		require.ErrorIs(t, os.Remove(r.path("d")), syscall.ENOTEMPTY)
		r.cut(fusefs.Luckless)
		entries, err := os.ReadDir(r.path("d"))
		require.NoError(t, err)
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.Name()
			got, err := os.ReadFile(r.path("d/" + e.Name()))
			require.NoError(t, err)
			require.Equal(t, "d/"+e.Name(), string(got))
		}
		require.Equal(t, []string{"kept", "removed", "renamed"}, names)

		require.NoError(t, os.Rename(r.path("d/renamed"), r.path("d/kept")))
		r.syncDir("d")
		r.cut(fusefs.Luckless)
		got, err := os.ReadFile(r.path("d/kept"))
		require.NoError(t, err)
		require.Equal(t, "d/renamed", string(got))
	})
}

// TestSubsets: of what was not synced anything can survive, and over many cuts
// does.
func TestSubsets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, fusefs.Mode{})
	f := r.create("f", 0)
	_, err := f.Write(bytes.Repeat([]byte{1}, 3*page))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	r.syncDir("")
	_, err = f.WriteAt(bytes.Repeat([]byte{2}, 4*page), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(r.path("g"), nil, 0o644))
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 60; seed++ {
		left, _, err := r.Cut(r.disk, seed)
		require.NoError(t, err)
		require.NoError(t, r.Mount(left, dir, r.mode))
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), 3*page)
		require.LessOrEqual(t, len(got), 4*page)
		for i := range 3 {
			p := got[i*page : (i+1)*page]
			switch n := bytes.Count(p, []byte{2}); n {
			case 0:
				seen["old page"] = true
			case page:
				seen["new page"] = true
			default:
				require.Zero(t, n%512)
				seen["torn page"] = true
			}
		}
		seen[fmt.Sprintf("length %v %v", len(got) == 3*page, len(got) == 4*page)] = true
		_, err = os.Stat(filepath.Join(dir, "g"))
		seen[fmt.Sprintf("name %v", err == nil)] = true
		require.NoError(t, r.Unmount(dir))
		require.NoError(t, r.Drop(left))
	}
	require.Len(t, seen, 8, "%v", seen)
}

// TestFaults: an error of a write that the kernel made on behalf of a mapping
// comes out of the sync, once.
func TestFaults(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, r *rig) {
		f := r.create("f", 2*page)
		data := r.mapped(f, 2*page)
		for _, op := range []fusefs.Op{fusefs.OpWrite, fusefs.OpSync} {
			data[0]++
			require.NoError(t, r.Inject(r.disk, fusefs.Fault{Op: op, Path: "/f", Err: syscall.EIO}))
			require.ErrorIs(t, unix.Msync(data, unix.MS_SYNC), syscall.EIO, op)
			require.NoError(t, unix.Msync(data, unix.MS_SYNC), op)
		}
		ops, err := r.Ops(r.disk)
		require.NoError(t, err)
		require.EqualValues(t, 2, ops[fusefs.OpFault])
		require.NoError(t, r.Inject(r.disk, fusefs.Fault{Op: fusefs.OpCreate, Path: "no", Err: syscall.ENOSPC, Stays: true}))
		require.ErrorIs(t, os.WriteFile(r.path("no1"), nil, 0o644), syscall.ENOSPC)
		require.ErrorIs(t, os.Mkdir(r.path("no2"), 0o755), syscall.ENOSPC)
		require.NoError(t, os.WriteFile(r.path("yes"), nil, 0o644))
		require.NoError(t, r.ClearFaults(r.disk))
		require.NoError(t, os.Mkdir(r.path("no2"), 0o755))
		require.NoError(t, unix.Munmap(data))
		require.NoError(t, f.Close())
	})
}

// TestDirtyPagesAreNotData is a fact about FUSE: the server does not know of
// them, and the kernel does not tell it before it asks for data or a hole.
func TestDirtyPagesAreNotData(t *testing.T) {
	t.Parallel()
	r := newRig(t, fusefs.Mode{})
	f := r.create("f", 4*page)
	data := r.mapped(f, 4*page)
	data[2*page] = 1
	_, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	require.ErrorIs(t, err, syscall.ENXIO)
	require.NoError(t, unix.Msync(data, unix.MS_SYNC))
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	require.NoError(t, err)
	require.EqualValues(t, 2*page, at)
	require.NoError(t, unix.Munmap(data))
	require.NoError(t, f.Close())
}

func TestNoSharedMappingWithDirectIO(t *testing.T) {
	t.Parallel()
	r := newRig(t, fusefs.Mode{DirectIO: true})
	f := r.create("f", page)
	_, err := unix.Mmap(int(f.Fd()), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.ErrorIs(t, err, syscall.ENODEV)
	require.NoError(t, f.Close())
}

// TestNoMountOutlivesTheServer also when the server is killed with a file open.
func TestNoMountOutlivesTheServer(t *testing.T) {
	t.Parallel()
	if err := fusefs.Available(); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	for _, kill := range []bool{false, true} {
		c, err := fusefs.Start(4 * time.Minute)
		require.NoError(t, err)
		disk, err := c.NewDisk()
		require.NoError(t, err)
		dir := t.TempDir()
		if err := c.Mount(disk, dir, fusefs.Mode{}); err != nil {
			require.NoError(t, c.Close())
			t.Skipf("FUSE is not tested here: %v", err)
		}
		f, err := os.Create(filepath.Join(dir, "f"))
		require.NoError(t, err)
		if kill {
			require.NoError(t, c.Kill())
			require.Error(t, c.Close())
		} else {
			require.NoError(t, c.Close())
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
		mounts, err := os.ReadFile("/proc/self/mounts")
		require.NoError(t, err)
		require.NotContains(t, string(mounts), dir)
		_ = f.Close()
	}
}
