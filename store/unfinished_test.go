// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
)

// TestUnfinishedFiles cuts the power while files of the log and of a queue are
// made. On some file systems what is left has some other length than 0 or all of
// it.
func TestUnfinishedFiles(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"commitlog", "consumequeue/orders/0", "checkpoint", "stele/marks", "abort"} {
		for _, settle := range []bool{false, true} { // the length of files from what is there
			t.Run(fmt.Sprintf("%s, settle %t", dir, settle), func(t *testing.T) {
				t.Parallel()
				var left []*crashdisk.Disk
				d, keep := crashdisk.New(), 0
				s := openStore(t, d, func(o *store.Options) { o.Flush = store.FlushSync })
				appendMany(t, s, 3, 1)
				d.Observe(func(op crashdisk.Op, p string) {
					at := strings.HasPrefix(p, path.Join(root, dir))
					if at && (op == crashdisk.OpSetLength || op == crashdisk.OpSetContent) && len(left) < 60 {
						for seed := range uint64(20) {
							left = append(left, d.CrashClone(seed))
						}
					}
				})
				switch dir {
				case "checkpoint", "stele/marks":
					require.NoError(t, s.Close())
					removeTree(t, d, path.Join(root, dir))
					s = openStore(t, d)
				case "abort":
					require.NoError(t, s.Close())
					s = openStore(t, d)
				default:
					keep = 3
					// Until both have a file more than now.
					for range 6 {
						appendOne(t, s, "orders", 0, strings.Repeat("x", fileSize/4))
					}
					for range 20 {
						appendOne(t, s, "orders", 0, "x")
					}
				}
				require.NoError(t, s.Close())
				require.NotEmpty(t, left)
				lengths := map[int]bool{}
				for _, d := range left {
					s := openStore(t, d, func(o *store.Options) {
						if settle {
							o.FileSize, o.QueueFileSize = 0, 0
						}
					})
					rec := s.Stats().Recovery
					require.Empty(t, rec.Damage)
					require.Zero(t, rec.Lost)
					lengths[len(rec.Unfinished)] = true
					for _, p := range rec.Unfinished {
						require.True(t, strings.HasPrefix(p, path.Join(root, dir)), p)
					}
					require.GreaterOrEqual(t, len(fetchAll(t, s, "orders", 1)), keep)
					appendOne(t, s, "orders", 0, "goes on")
					require.NoError(t, s.Close())
				}
				if keep > 0 {
					require.Equal(t, map[int]bool{0: true, 1: true}, lengths, "with and without an unfinished file")
				}
			})
		}
	}
}

// TestShortLastFileOfTheLog on a real disk: one that somebody cut is refused by
// name and stays as it is; one without a byte of anything is what a creation
// left.
func TestShortLastFileOfTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	appendMany(t, s, 200, 0)
	require.NoError(t, s.Close())
	files, err := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	last := files[len(files)-1]
	whole, err := os.ReadFile(last)
	require.NoError(t, err)

	for _, n := range []int64{fileSize - 1, 5000, 100} {
		require.NoError(t, os.Truncate(last, n))
		_, err = store.Open(dir, osOptions())
		require.ErrorIs(t, err, store.ErrFileSize)
		require.ErrorContains(t, err, last)
		left, err := os.ReadFile(last)
		require.NoError(t, err)
		require.Equal(t, whole[:n], left)
	}
	require.NoError(t, os.WriteFile(last, whole, 0o600))

	next := filepath.Join(filepath.Dir(last), mappedfile.FileName(int64(len(files)*fileSize)))
	require.NoError(t, os.WriteFile(next, make([]byte, 5000), 0o600))
	s, err = store.Open(dir, osOptions())
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, []string{next}, s.Stats().Recovery.Unfinished)
	require.Len(t, fetchAll(t, s, "orders", 0), 200)
	require.NoFileExists(t, next)
}
