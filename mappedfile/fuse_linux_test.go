// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/mappedfile"
)

// fuseDisk mounts an empty FUSE file system, or skips the test where that is
// not possible.
func fuseDisk(t *testing.T, m fusefs.Mode) (c *fusefs.Client, disk int, dir string) {
	t.Helper()
	if err := fusefs.Available(); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	dir = t.TempDir() // removed after the server is gone
	c, err := fusefs.Start(4 * time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	disk, err = c.NewDisk()
	require.NoError(t, err)
	if err := c.Mount(disk, dir, m); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	return c, disk, dir
}

var fuseModes = []fusefs.Mode{
	{}, {KeepCache: true}, {WritebackCache: true}, {WritebackCache: true, KeepCache: true}, {Bare: true}, {Bare: true, WritebackCache: true},
}

// What the kernel holds in memory counts on FUSE as well, though the server
// that is asked for data and holes knows nothing of it.
func TestFuse(t *testing.T) {
	t.Parallel()
	const size = 8 * page
	for name, test := range map[string]func(t *testing.T, f *mappedfile.File, data []byte){
		"a dirty page is data": func(t *testing.T, f *mappedfile.File, data []byte) {
			data[5*page] = 1
			require.LessOrEqual(t, f.NextData(page), int64(5*page))
		},
		"a dirty page is zeroed": func(t *testing.T, f *mappedfile.File, data []byte) {
			fill(data[page:6*page], 1)
			require.NoError(t, f.ZeroFrom(2*page+100))
			require.True(t, only(data[page:2*page+100], 1))
			require.True(t, only(data[2*page+100:], 0))
		},
		"a page at the server is zeroed": func(t *testing.T, f *mappedfile.File, data []byte) {
			fill(data, 1)
			require.NoError(t, f.Flush(0, size))
			require.NoError(t, f.ZeroFrom(3*page))
			require.True(t, only(data[:3*page], 1))
			require.True(t, only(data[3*page:], 0))
		},
		"reserving changes nothing": func(t *testing.T, f *mappedfile.File, data []byte) {
			fill(data[:3*page], 1)
			require.NoError(t, f.Flush(0, 2*page))
			require.NoError(t, f.ReserveAll())
			require.True(t, only(data[:3*page], 1))
			require.True(t, only(data[3*page:], 0))
			data[7*page] = 1
			require.NoError(t, f.Flush(0, size))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, m := range fuseModes {
				for _, how := range []mappedfile.Mapping{{}, {Lean: true}, {Random: true}} {
					_, _, dir := fuseDisk(t, m)
					q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: filepath.Join(dir, "q"), FileSize: size, Mapping: how})
					require.NoError(t, err)
					f, err := q.Add(0)
					require.NoError(t, err)
					data, err := f.Bytes()
					require.NoError(t, err)
					test(t, f, data)
					now := append([]byte(nil), data...)
					require.NoError(t, q.Close())
					got, err := os.ReadFile(f.Path())
					require.NoError(t, err)
					require.Equal(t, now, got, "%v %+v: what was mapped is in the file", m, how)
				}
			}
		})
	}
}

// After a failed write of its pages the kernel takes them for clean. Redirty has
// them written again, so that a power cut does not take them.
func TestFuseRedirty(t *testing.T) {
	t.Parallel()
	for _, op := range []fusefs.Op{fusefs.OpWrite, fusefs.OpSync} {
		for _, m := range fuseModes {
			for _, redirty := range []bool{false, true} {
				c, disk, dir := fuseDisk(t, m)
				q := openQueue(t, mappedfile.OS(), filepath.Join(dir, "q"))
				f, err := q.Add(0)
				require.NoError(t, err)
				require.NoError(t, f.ReserveAll())
				data, err := f.Bytes()
				require.NoError(t, err)
				require.NoError(t, c.Inject(disk, fusefs.Fault{Op: op, Path: "/q/", Err: syscall.EIO}))
				fill(data[:page], 1)
				require.ErrorIs(t, q.Flush(0, page), syscall.EIO)
				// Until somebody asks for the file's attributes, as a flush that
				// succeeds does: then the kernel may drop clean pages.
				require.True(t, only(data[:page], 1), "reads still see it")
				if redirty {
					require.NoError(t, f.Redirty(0, page))
				}
				require.NoError(t, q.Flush(0, page), "nothing is dirty, or it works by now")
				left, _, err := c.Cut(disk, fusefs.Luckless)
				require.NoError(t, err)
				after := t.TempDir()
				require.NoError(t, c.Mount(left, after, m))
				got, err := os.ReadFile(filepath.Join(after, "q", filepath.Base(f.Path())))
				require.NoError(t, err)
				kept := only(got[:page], 1)
				if redirty || op == fusefs.OpSync {
					// What the server got before a sync that failed, the next sync
					// makes durable there.
					require.True(t, kept, "%v, %v, redirty %v", op, m, redirty)
				} else {
					// Nearly always lost; the kernel's own writeback may have come in
					// between, after the fault.
					t.Logf("%v, %v, without Redirty: kept %v", op, m, kept)
				}
				require.NoError(t, c.Unmount(after))
			}
		}
	}
}

// Without the page cache there are no shared mappings, and the disk says so.
func TestFuseDirectIO(t *testing.T) {
	t.Parallel()
	_, _, dir := fuseDisk(t, fusefs.Mode{DirectIO: true})
	_, err := mappedfile.OS().Create(filepath.Join(dir, "f"), page, mappedfile.Mapping{})
	require.ErrorIs(t, err, syscall.ENODEV)
	require.Empty(t, names(t, mappedfile.OS(), dir))
}
