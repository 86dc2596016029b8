// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
)

// indexFiles are the index files of a victim, and their sizes.
func (v *victim) indexFiles(t *testing.T) (paths []string, z keyindex.Sizes) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(v.dir, "index", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	if v.stele {
		return paths, keyindex.Sizes{Slots: smallIndex.Slots, Entries: smallIndex.Entries}
	}
	data, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	z, ok := keyindex.Infer(data)
	require.True(t, ok)
	return paths, z
}

// queryAll asks for every key of every message and returns how many were not
// found, and the errors.
func (v *victim) queryAll(t *testing.T, s *store.Store) (missed int, errs []error) {
	t.Helper()
	keys := 0
	for _, k := range v.all {
		m, err := s.Get(k.offset)
		require.NoError(t, err)
		for _, key := range keysOf(m) {
			keys++
			all, err := s.Query(context.Background(), m.Topic, key, store.QueryOptions{Max: len(v.all)})
			if err != nil {
				errs = append(errs, err)
			}
			found := 0
			for _, got := range all {
				require.Equal(t, m.Topic, got.Topic)
				require.Contains(t, keysOf(got), key)
				if got.PhysicalOffset == k.offset {
					found++
				}
			}
			require.LessOrEqual(t, found, 1)
			missed += 1 - found
		}
	}
	require.Greater(t, keys, len(v.all)/2)
	return missed, errs
}

// indexDamage is what can befall an index file. b is all of it.
var indexDamage = map[string]struct {
	// mended says that nothing is missed, whoever wrote it.
	mended bool
	do     func(b []byte, z keyindex.Sizes)
}{
	"header of zeros":   {true, func(b []byte, _ keyindex.Sizes) { clear(b[:40]) }},
	"header: count":     {true, func(b []byte, _ keyindex.Sizes) { b[38] ^= 0x40 }},
	"header: count low": {true, func(b []byte, _ keyindex.Sizes) { b[39]-- }},
	"header: times":     {true, func(b []byte, _ keyindex.Sizes) { fillWith(b[:16], 0x11) }},
	"header: offsets":   {true, func(b []byte, _ keyindex.Sizes) { fillWith(b[16:32], 0x11) }},
	"slots: zeros":      {false, func(b []byte, z keyindex.Sizes) { clear(b[40 : 40+4*z.Slots]) }},
	"slots: ones":       {false, func(b []byte, z keyindex.Sizes) { fillWith(b[40:40+4*z.Slots], 0xff) }},
	"slots: noise": {false, func(b []byte, z keyindex.Sizes) {
		for i := 40; i < 40+4*z.Slots; i++ {
			b[i] = byte(i * 7)
		}
	}},
	"entries: zeros": {false, func(b []byte, z keyindex.Sizes) { clear(b[40+4*z.Slots+40:][:100]) }},
	"entries: a loop": {false, func(b []byte, z keyindex.Sizes) {
		for k := 1; k < 6; k++ {
			binary.BigEndian.PutUint32(b[40+4*z.Slots+20*k+16:], uint32(k))
		}
	}},
	"entries: offsets beyond the log": {false, func(b []byte, z keyindex.Sizes) {
		for k := 1; k < 6; k++ {
			b[40+4*z.Slots+20*k+5] ^= 0x7f
		}
	}},
	"all zeros": {true, func(b []byte, _ keyindex.Sizes) { clear(b) }},
}

func fillWith(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// TestDamagedIndex damages the newest index file. No message is lost, since the
// log has them all; Open mends what it notices, a query says what it meets, and
// without the directory the index is made again.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, row := range indexDamage {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				paths, z := v.indexFiles(t)
				changeFile(t, paths[len(paths)-1], 0, int(z.FileSize()), func(b []byte) { row.do(b, z) })
				o := victimOptions(v)
				o.Index = store.IndexOptions{Slots: z.Slots, Entries: z.Entries}
				told := 0
				o.Events.DamagedIndex = func(*keyindex.DamageError) { told++ }
				s, err := store.Open(v.dir, o)
				require.NoError(t, err)
				missed, errs := v.queryAll(t, s)
				t.Logf("%d missed, %d errors, %d events", missed, len(errs), told)
				if row.mended {
					require.Zero(t, missed)
					require.Empty(t, errs)
				} else {
					require.True(t, missed == 0 || len(errs) > 0 || name == "slots: zeros", "nothing was said")
				}
				require.NoError(t, s.Close())

				require.NoError(t, os.RemoveAll(filepath.Join(v.dir, "index")))
				s, err = store.Open(v.dir, o)
				require.NoError(t, err)
				missed, errs = v.queryAll(t, s)
				require.Zero(t, missed)
				require.Empty(t, errs)
				require.NoError(t, s.Close())
			})
		}
	}
}

// TestMissingIndexFiles removes index files. What is newest is made again from
// the log, as is everything.
func TestMissingIndexFiles(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, gone := range map[string]func(paths []string) []string{
			"newest":         func(paths []string) []string { return paths[len(paths)-1:] },
			"the newest two": func(paths []string) []string { return paths[max(len(paths)-2, 0):] },
			"all":            func(paths []string) []string { return paths },
		} {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				paths, _ := v.indexFiles(t)
				for _, p := range gone(paths) {
					require.NoError(t, os.Remove(p))
				}
				s, err := store.Open(v.dir, victimOptions(v))
				require.NoError(t, err)
				missed, errs := v.queryAll(t, s)
				require.Zero(t, missed)
				require.Empty(t, errs)
				require.NoError(t, s.Close())
			})
		}
	}
}

// TestIndexFilesThatAreRefused: a file of a wrong length is named, and nothing
// is changed.
func TestIndexFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, by := range map[string]int64{"too short": -1000, "too long": 4096, "a little short": -7} {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				paths, z := v.indexFiles(t)
				require.NoError(t, os.Truncate(paths[len(paths)-1], z.FileSize()+by))
				before := hashTree(t, v.dir)
				o := victimOptions(v)
				o.Index = store.IndexOptions{Slots: z.Slots, Entries: z.Entries}
				_, err := store.Open(v.dir, o)
				require.ErrorIs(t, err, store.ErrFileSize)
				var file *mappedfile.FileError
				require.ErrorAs(t, err, &file)
				require.Equal(t, paths[len(paths)-1], file.Path)
				require.Equal(t, before, hashTree(t, v.dir))
			})
		}
	}
}

// TestIndexOff leaves the index as it is, and makes up for it when it is on
// again.
func TestIndexOff(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			v := victimOf(t)
			o := victimOptions(v)
			s, err := store.Open(v.dir, o) // the broker's is taken over
			require.NoError(t, err)
			require.NoError(t, s.Close())
			before := hashTree(t, filepath.Join(v.dir, "index"))
			o.Index.Off = true
			s, err = store.Open(v.dir, o)
			require.NoError(t, err)
			m := msg("orders", 0, "while it was off")
			m.SetKeys("off")
			_, err = s.Append(context.Background(), m)
			require.NoError(t, err)
			_, err = s.Query(context.Background(), "orders", "off", store.QueryOptions{})
			require.ErrorIs(t, err, store.ErrIndexOff)
			require.NoError(t, s.Close())
			require.Equal(t, before, hashTree(t, filepath.Join(v.dir, "index")))

			o.Index.Off = false
			s, err = store.Open(v.dir, o)
			require.NoError(t, err)
			all, err := s.Query(context.Background(), "orders", "off", store.QueryOptions{})
			require.NoError(t, err)
			require.Equal(t, []string{"while it was off"}, bodies(all))
			missed, errs := v.queryAll(t, s)
			require.Zero(t, missed)
			require.Empty(t, errs)
			require.NoError(t, s.Close())
			require.True(t, slices.Contains(listNames(t, filepath.Join(v.dir, "stele")), "index"))
		})
	}
}

func listNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
