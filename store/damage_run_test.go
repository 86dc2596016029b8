// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
)

// logFiles are the paths of the log's files that hold messages.
func (v *victim) logFiles() (paths []string) {
	for base := int64(0); base < int64(v.end()); base += v.fileSize {
		paths = append(paths, filepath.Join(v.dir, "commitlog", mappedfile.FileName(base)))
	}
	return paths
}

// in are the messages of one file of the log.
func (v *victim) in(path string) (all []kept) {
	for _, k := range v.all {
		if p, _ := v.logFile(k.offset); p == path {
			all = append(all, k)
		}
	}
	return all
}

// TestFilesThatAreRefused: Open refuses a directory whose files are not what
// they were, names the file and changes nothing; what is there can be listed.
func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	type row struct {
		name string
		// do damages the directory and returns which file is named, and which
		// messages can't be listed any more.
		do    func(t *testing.T, v *victim) (path string, lost []kept)
		cause error
	}
	resize := func(which int, by int64) func(t *testing.T, v *victim) (string, []kept) {
		return func(t *testing.T, v *victim) (string, []kept) {
			files := v.logFiles()
			path := files[(len(files)+which)%len(files)]
			require.NoError(t, os.Truncate(path, v.fileSize+by))
			if by > 0 {
				return path, nil
			}
			var lost []kept
			for _, k := range v.in(path) {
				if _, at := v.logFile(k.offset); at+int64(k.size) > v.fileSize+by {
					lost = append(lost, k)
				}
			}
			return path, lost
		}
	}
	stray := func(dir, name string) func(t *testing.T, v *victim) (string, []kept) {
		return func(t *testing.T, v *victim) (string, []kept) {
			path := filepath.Join(v.dir, filepath.FromSlash(dir), name)
			write(t, path, []byte("x"))
			return path, nil
		}
	}
	rows := []row{
		{"missing file in the middle", func(t *testing.T, v *victim) (string, []kept) {
			files := v.logFiles()
			path := files[len(files)/2]
			if len(files) == 2 { // nothing is between two: a file that was made ahead is
				path = files[1]
				f, err := os.Create(filepath.Join(v.dir, "commitlog", mappedfile.FileName(2*v.fileSize)))
				require.NoError(t, err)
				require.NoError(t, f.Truncate(v.fileSize))
				require.NoError(t, f.Close())
			}
			lost := v.in(path)
			require.NoError(t, os.Remove(path))
			return path, lost
		}, store.ErrMissingFile},
		{"missing last file", func(t *testing.T, v *victim) (string, []kept) {
			files := v.logFiles()
			all, err := os.ReadDir(filepath.Join(v.dir, "commitlog"))
			require.NoError(t, err)
			path := files[len(files)-1]
			for _, e := range all { // and what was made ahead
				if e.Name() >= filepath.Base(path) {
					require.NoError(t, os.Remove(filepath.Join(v.dir, "commitlog", e.Name())))
				}
			}
			lost := v.in(path)
			return path, append(lost, v.all[len(v.all)-len(lost):]...)
		}, store.ErrMissingFile},
		{"first file too short", resize(0, -100), store.ErrFileSize},
		{"last file too short", resize(-1, -9000), store.ErrFileSize},
		{"first file too long", resize(0, 100), store.ErrFileSize},
		{"last file too long", resize(-1, 4096), store.ErrFileSize},
		{"stray file in the log", stray("commitlog", "00000000000000000000.bak"), store.ErrStrayFile},
		{"stray file in a queue", func(t *testing.T, v *victim) (string, []kept) {
			k := v.all[0]
			return stray("consumequeue/"+k.topic+"/"+strconv.Itoa(int(k.queue)), "x")(t, v)
		}, store.ErrStrayFile},
		{"queue file too short", func(t *testing.T, v *victim) (string, []kept) {
			path, _ := v.queueFile(t, v.all[len(v.all)-1])
			require.NoError(t, os.Truncate(path, 40))
			return path, nil
		}, store.ErrFileSize},
	}
	for who, victimOf := range victims {
		for _, row := range rows {
			t.Run(who+"/"+row.name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				if strings.HasPrefix(who, "broker") && len(v.logFiles()) == 2 && errors.Is(row.cause, store.ErrFileSize) && strings.Contains(row.name, "long") {
					t.Log("of two files either may be the one that is wrong")
				}
				if who == "broker/killed" && row.name == "missing last file" {
					t.Skip("RocketMQ does not sync names: a crash may take the last file")
				}
				path, lost := row.do(t, v)
				before := hashTree(t, v.dir)
				s, err := store.Open(v.dir, victimOptions(v))
				if s != nil {
					require.NoError(t, s.Close())
				}
				require.ErrorIs(t, err, row.cause)
				var file *mappedfile.FileError
				require.ErrorAs(t, err, &file)
				require.Equal(t, path, file.Path)
				require.Equal(t, before, hashTree(t, v.dir))

				v.look(t, lost...)
				d, err := inspect.Open(v.dir, inspect.Options{})
				require.NoError(t, err)
				o, err := d.Overview(context.Background())
				require.NoError(t, err)
				if row.name != "missing last file" {
					require.NotEmpty(t, o.Problems)
					require.Contains(t, o.Problems[0].Error()+o.Problems[len(o.Problems)-1].Error(), filepath.Base(path))
				}
			})
		}
	}
}

// TestMissingFirstFile: it is what expiring leaves. The rest is served.
func TestMissingFirstFile(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			v := victimOf(t)
			path := v.logFiles()[0]
			lost := v.in(path)
			require.NoError(t, os.Remove(path))
			v.look(t, lost...)
			out := v.open(t)
			v.requireAll(t, out, lost...)
			require.Empty(t, out.errs)
		})
	}
}

// TestDamagedMetadata: topics and consumer offsets are in no other place, so a
// store whose metadata is damaged is refused, or opens with all its messages.
func TestDamagedMetadata(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	original := dir
	o := osOptions()
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	appendMany(t, s, 40, 0)
	require.NoError(t, s.CommitOffset("group", "orders", 0, 7))
	require.NoError(t, s.Close())
	meta, err := os.ReadDir(filepath.Join(dir, "stele", "meta"))
	require.NoError(t, err)
	for _, e := range meta {
		t.Run(e.Name(), func(t *testing.T) {
			path := filepath.Join(dir, "stele", "meta", e.Name())
			whole, err := os.ReadFile(path)
			require.NoError(t, err)
			if len(whole) == 0 {
				t.Skip("an empty file")
			}
			bad := append([]byte(nil), whole...)
			for i := range bad {
				bad[i] ^= 0x55
			}
			dir := filepath.Join(t.TempDir(), "copy")
			require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
			write(t, filepath.Join(dir, "stele", "meta", e.Name()), bad)
			s, err := store.Open(dir, o)
			if err != nil {
				require.ErrorContains(t, err, dir)
				t.Log(err)
				return
			}
			require.Len(t, fetchAll(t, s, "orders", 0), 40)
			require.NoError(t, s.Close())
		})
	}
}
