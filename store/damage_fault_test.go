// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestFault cuts a file under an open store, as another process can. The
// process lives, whatever touches the file says so and names it, nothing is
// acknowledged any more, and once the file is whole again so is the store.
func TestFault(t *testing.T) {
	t.Parallel()
	const n = 40
	files := map[string]struct {
		glob string
		// appendFails says that the append after the cut is refused itself;
		// otherwise the dispatcher or the checkpointer meets the fault.
		appendFails bool
		fetchFails  bool
	}{
		"the log":        {"commitlog/*", true, true},
		"a queue":        {"consumequeue/orders/0/*", false, true},
		"the marks":      {"stele/marks", false, false},
		"the checkpoint": {"checkpoint", false, false},
	}
	for name, c := range files {
		for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
			t.Run(fmt.Sprintf("%s/%v", name, mode), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				poisoned := make(chan error, 1)
				o := osOptions()
				o.Flush, o.FileSize, o.QueueFileSize, o.CheckpointInterval = mode, 1<<20, 20000, long
				o.WritePath = store.WriteMmap // a write through the descriptor makes a file longer again
				o.Events.Poisoned = func(err error) { poisoned <- err }
				s, err := store.Open(dir, o)
				require.NoError(t, err)
				defer s.Close()
				all := appendMany(t, s, n, 0)
				require.NoError(t, s.Flush(t.Context())) // a flush under way would notice first

				paths, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(c.glob)))
				require.NoError(t, err)
				path := paths[0]
				whole, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, os.Truncate(path, 0))

				isFault := func(err error) {
					t.Helper()
					require.ErrorIs(t, err, mappedfile.ErrFault)
					if runtime.GOOS == "linux" {
						require.ErrorContains(t, err, path)
					}
				}
				_, err = s.Append(context.Background(), msg("orders", 0, "after"))
				acknowledged := err == nil
				require.Equal(t, c.appendFails, !acknowledged, err)
				if !acknowledged {
					isFault(err)
				}
				if name == "the checkpoint" {
					// Only the checkpointer touches it.
					isFault(s.Close())
					require.ErrorIs(t, s.Close(), mappedfile.ErrFault)
				} else {
					cause := <-poisoned
					isFault(cause)
					require.ErrorIs(t, cause, store.ErrPoisoned)
					require.Equal(t, cause, s.Stats().Poisoned)
					_, err = s.Append(context.Background(), msg("orders", 0, "refused"))
					require.ErrorIs(t, err, store.ErrPoisoned)
					_, err = s.AppendBatch(context.Background(), []*message.Message{msg("orders", 0, "refused")})
					require.ErrorIs(t, err, store.ErrPoisoned)
					readsAfterFault(t, s, all[0].Offset, c.fetchFails, c.appendFails, isFault)
					isFault(s.Close())
				}
				require.FileExists(t, filepath.Join(dir, "abort"))

				require.NoError(t, os.WriteFile(path, whole, 0o600))
				o.Events.Poisoned = nil
				s, err = store.Open(dir, o)
				require.NoError(t, err)
				defer s.Close()
				got := bodies(fetchAll(t, s, "orders", 0))
				want := n
				if acknowledged {
					want++
					require.Equal(t, "after", got[len(got)-1])
				}
				require.Len(t, got, want)
				r := appendOne(t, s, "orders", 0, "again")
				require.EqualValues(t, want, r.QueueOffset)
				require.NoError(t, s.Close())
			})
		}
	}
}

// readsAfterFault has each kind of read touch the file that was cut, or not.
func readsAfterFault(t *testing.T, s *store.Store, off message.Offset, fetchFails, getFails bool, isFault func(error)) {
	t.Helper()
	_, err := s.Get(off)
	if getFails {
		isFault(err)
	} else {
		require.NoError(t, err)
	}
	_, err = s.OffsetByTime("orders", 0, time.UnixMilli(1), consumequeue.Lower)
	if fetchFails {
		isFault(err)
	} else {
		require.NoError(t, err)
	}
	b, err := s.Fetch(context.Background(), "orders", 0, 0, store.Limit{})
	if err != nil {
		require.True(t, fetchFails)
		isFault(err)
		return
	}
	defer b.Release()
	seen := 0
	for _, err := range b.All() {
		if seen++; fetchFails {
			isFault(err)
		} else {
			require.NoError(t, err)
		}
	}
	require.NotZero(t, seen)
}

// TestFaultInOpen: a file that is shorter than it was when Open listed it is
// refused, and Open can be tried again.
func TestFaultInOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	appendMany(t, s, 40, 0)
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "stele")))
	path := filepath.Join(dir, "consumequeue", "orders", "0", mappedfile.FileName(0))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	o := osOptions()
	o.Disk = cuttingDisk{Disk: mappedfile.OS(), path: path}
	_, err = store.Open(dir, o)
	require.ErrorIs(t, err, mappedfile.ErrFault)
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	s, err = store.Open(dir, osOptions())
	require.NoError(t, err)
	defer s.Close()
	require.Len(t, fetchAll(t, s, "orders", 0), 40)
}

// cuttingDisk cuts a file as soon as it is mapped.
type cuttingDisk struct {
	mappedfile.Disk
	path string
}

func (d cuttingDisk) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := d.Disk.Open(path, m)
	if err == nil && path == d.path {
		err = os.Truncate(path, 0)
	}
	return r, err
}

// TestCutBeforeFlush cuts the log behind the back of a store between the copy
// of a message and its flush. The flush of what is left succeeds; the message is
// not acknowledged all the same.
func TestCutBeforeFlush(t *testing.T) {
	t.Parallel()
	for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "commitlog", mappedfile.FileName(0))
			disk := &shearDisk{Disk: mappedfile.OS(), path: path}
			poisoned := make(chan error, 1)
			o := osOptions()
			o.Disk, o.Flush, o.FileSize, o.FlushInterval, o.CheckpointInterval = disk, mode, 1<<20, long, long
			o.Events.Poisoned = func(err error) { poisoned <- err }
			s, err := store.Open(dir, o)
			require.NoError(t, err)
			defer s.Close()
			all := appendMany(t, s, 5, 0)
			require.NoError(t, s.Flush(t.Context()))

			// The page of the message stays, and the fault with it away.
			disk.to.Store(int64(all[4].Offset) + int64(all[4].Size))
			_, err = s.Append(t.Context(), msg("orders", 0, "half"))
			if mode == store.FlushAsync {
				require.NoError(t, err)
				err = s.Flush(t.Context())
			}
			require.ErrorIs(t, err, store.ErrPoisoned)
			require.ErrorIs(t, err, store.ErrFileSize)
			require.ErrorContains(t, err, path)
			require.ErrorIs(t, <-poisoned, store.ErrFileSize)
			require.ErrorIs(t, s.Stats().Poisoned, store.ErrFileSize)
			_, err = s.Append(t.Context(), msg("orders", 0, "refused"))
			require.ErrorIs(t, err, store.ErrPoisoned)
			got, err := s.Get(all[4].Offset)
			require.NoError(t, err, "reads go on")
			require.Equal(t, all[4].QueueOffset, got.QueueOffset)
			require.ErrorIs(t, s.Close(), store.ErrFileSize)
			require.FileExists(t, filepath.Join(dir, "abort"))

			// Once it has its length again, what was flushed is there.
			require.NoError(t, os.Truncate(path, 1<<20))
			o.Events.Poisoned = nil
			s, err = store.Open(dir, o)
			require.NoError(t, err)
			defer s.Close()
			require.Len(t, fetchAll(t, s, "orders", 0), 5)
			require.NoError(t, s.Close())
		})
	}
}

// shearDisk cuts a file to a length when it is flushed next.
type shearDisk struct {
	mappedfile.Disk
	path string
	to   atomic.Int64 // 0: not yet
}

func (d *shearDisk) Create(path string, size int64, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := d.Disk.Create(path, size, m)
	if err != nil || path != d.path {
		return r, err
	}
	return &shearRegion{r, d}, nil
}

type shearRegion struct {
	mappedfile.Region
	disk *shearDisk
}

func (r *shearRegion) Flush(off, n int64) error {
	var err error
	if to := r.disk.to.Swap(0); to > 0 {
		err = os.Truncate(r.disk.path, to)
	}
	return errors.Join(err, r.Region.Flush(off, n))
}
