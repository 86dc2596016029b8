// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// Every operation that must work for a commit to be durable, through a file system and a file that is open.
func changesOf(f vfs.FS, open vfs.File) map[string]func() error {
	return map[string]func() error{
		"create": func() error {
			file, err := f.Create("dir/new", vfs.WriteCategoryUnspecified)
			if err == nil {
				err = file.Close()
			}
			return err
		},
		"open": func() error {
			file, err := f.OpenReadWrite("dir/new", vfs.WriteCategoryUnspecified)
			if err == nil {
				err = file.Close()
			}
			return err
		},
		"reuse": func() error {
			file, err := f.ReuseForWrite("dir/b", "dir/new", vfs.WriteCategoryUnspecified)
			if err == nil {
				err = file.Close()
			}
			return err
		},
		"link":      func() error { return f.Link("dir/a", "dir/new") },
		"rename":    func() error { return f.Rename("dir/b", "dir/new") },
		"mkdir":     func() error { return f.MkdirAll("dir/new", 0o755) },
		"write":     func() error { _, err := open.Write([]byte("x")); return err },
		"write at":  func() error { _, err := open.WriteAt([]byte("x"), 0); return err },
		"sync":      open.Sync,
		"stat":      func() error { _, err := open.Stat(); return err },
		"sync data": open.SyncData,
		"sync to":   func() error { _, err := open.SyncTo(1); return err },
	}
}

// disk makes a file system with the files dir/a and dir/b, whose operations
// fail while the toggle is on.
func disk(t *testing.T) (*vfs.MemFS, *errorfs.FS, *errorfs.Toggle) {
	t.Helper()
	mem := vfs.NewMem()
	require.NoError(t, mem.MkdirAll("dir", 0o755))
	for _, name := range []string{"dir/a", "dir/b"} {
		f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileClose {
			return nil
		}
		return errDisk
	})}
	return mem, errorfs.Wrap(mem, toggle), toggle
}

func listing(t *testing.T, mem *vfs.MemFS) []string {
	t.Helper()
	names, err := mem.List("dir")
	require.NoError(t, err)
	slices.Sort(names)
	return names
}

func TestFuseBlows(t *testing.T) {
	t.Parallel()
	for name := range changesOf(nil, nullFile{}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, disk, toggle := disk(t)
			var f *fuse
			var failures []error
			f = &fuse{FS: disk, onBlow: func(err error) {
				require.False(t, f.blown.Load(), "nothing is swallowed before the failure is known")
				failures = append(failures, err)
			}}
			open, err := f.OpenReadWrite("dir/a", vfs.WriteCategoryUnspecified)
			require.NoError(t, err)
			before := listing(t, mem)

			toggle.On()
			require.NoError(t, changesOf(f, open)[name]())
			require.Len(t, failures, 1)
			require.ErrorIs(t, failures[0], errDisk)
			require.ErrorContains(t, failures[0], "dir/")

			toggle.Off() // the disk works again, and must not be touched
			for other, change := range changesOf(f, open) {
				require.NoError(t, change(), other)
			}
			require.NoError(t, f.Remove("dir/a"))
			require.NoError(t, f.RemoveAll("dir"))
			require.NoError(t, open.Preallocate(0, 10))
			require.NoError(t, open.Close())
			require.Equal(t, before, listing(t, mem))
			info, err := mem.Stat("dir/a")
			require.NoError(t, err)
			require.Zero(t, info.Size())
			require.Len(t, failures, 1)
		})
	}
}

// What may fail is reported to Pebble, and writing goes on.
func TestFuseStaysWhole(t *testing.T) {
	t.Parallel()
	_, disk, toggle := disk(t)
	f := &fuse{FS: disk, onBlow: func(err error) { t.Error(err) }}
	open, err := f.OpenReadWrite("dir/a", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	toggle.On()
	require.ErrorIs(t, f.Remove("dir/b"), errDisk)
	require.ErrorIs(t, f.RemoveAll("dir/b"), errDisk)
	require.ErrorIs(t, open.Preallocate(0, 10), errDisk)
	toggle.Off()
	_, err = open.Write([]byte("abc"))
	require.NoError(t, err)
	info, err := disk.Stat("dir/a")
	require.NoError(t, err)
	require.EqualValues(t, 3, info.Size())
}

// TestSyncsOfNames: the directory is synced where names were made in it since the
// last time, and the first time, for the process before this one may have made
// some. Removals need not last.
func TestSyncsOfNames(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	require.NoError(t, mem.MkdirAll("dir", 0o755))
	require.NoError(t, mem.MkdirAll("other", 0o755))
	syncs := 0
	counting := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync {
			syncs++
		}
		return nil
	}))
	f := &fuse{FS: counting, dir: "dir", onBlow: func(err error) { t.Error(err) }}
	dirs := map[string]vfs.File{}
	for _, name := range []string{"dir", "other"} {
		var err error
		dirs[name], err = f.OpenDir(name)
		require.NoError(t, err)
	}
	create := func(name string) func() error {
		return func() error {
			file, err := f.Create(name, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			return file.Close()
		}
	}
	for _, step := range []struct {
		name  string
		do    func() error
		syncs int // of the step and of a sync of its directory behind it
	}{
		{"the first one", func() error { return nil }, 1},
		{"nothing", func() error { return nil }, 0},
		{"create", create("dir/a"), 1},
		{"remove", func() error { return f.Remove("dir/a") }, 0},
		{"create and remove", func() error { return errors.Join(create("dir/a")(), f.Remove("dir/a")) }, 1},
		{"create again", create("dir/b"), 1},
		{"rename", func() error { return f.Rename("dir/b", "dir/c") }, 1},
		{"link", func() error { return f.Link("dir/c", "dir/d") }, 1},
		{"reuse", func() error {
			file, err := f.ReuseForWrite("dir/c", "dir/e", vfs.WriteCategoryUnspecified)
			return errors.Join(err, file.Close())
		}, 1},
		{"write", func() error {
			file, err := f.OpenReadWrite("dir/e", vfs.WriteCategoryUnspecified)
			require.NoError(t, err)
			_, err = file.Write([]byte("abc"))
			return errors.Join(err, file.Close())
		}, 1}, // it might have made it
		{"a marker that comes", create("dir/marker.x.1"), 1},
		{"a marker behind a name", func() error { return errors.Join(create("dir/f")(), create("dir/marker.x.2")()) }, 2},
		{"a marker that goes", func() error { return f.Remove("dir/marker.x.1") }, 0},
	} {
		syncs = 0
		require.NoError(t, step.do(), step.name)
		require.NoError(t, dirs["dir"].Sync(), step.name)
		require.Equal(t, step.syncs, syncs, step.name)
	}
	syncs = 0
	require.NoError(t, dirs["other"].Sync())
	require.NoError(t, dirs["other"].Sync())
	require.Equal(t, 2, syncs, "another directory")
}

func TestFuseReadOnly(t *testing.T) {
	t.Parallel()
	mem, disk, _ := disk(t)
	f := &fuse{FS: disk, readOnly: true, onBlow: func(err error) { t.Error(err) }}
	before := listing(t, mem)
	dir, err := f.OpenDir("dir")
	require.NoError(t, err)
	for name, change := range changesOf(f, dir) {
		if name == "stat" {
			require.NoError(t, change())
			continue
		}
		require.ErrorIs(t, change(), ErrReadOnly, name)
	}
	require.ErrorIs(t, f.Remove("dir/a"), ErrReadOnly)
	require.ErrorIs(t, f.RemoveAll("dir"), ErrReadOnly)
	require.ErrorIs(t, dir.Preallocate(0, 10), ErrReadOnly)
	require.NoError(t, dir.Close())
	lock, err := f.Lock("dir/LOCK")
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	require.Equal(t, before, listing(t, mem))
}

func TestNullFile(t *testing.T) {
	t.Parallel()
	f := nullFile{name: "n"}
	n, err := f.Write([]byte("abc"))
	require.NoError(t, err)
	require.Equal(t, 3, n)
	_, err = f.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.Error(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, "n", info.Name())
	require.Zero(t, info.Size())
	require.Equal(t, vfs.InvalidFd, f.Fd())
}
