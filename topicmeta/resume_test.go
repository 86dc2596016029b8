// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

func isSync(k errorfs.OpKind) bool {
	return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData || k == errorfs.OpFileSyncTo
}

// TestResume fills the disk at each write: changes are refused as long as there
// is no room, and then everything goes on, deletions too, and survives a power
// cut.
func TestResume(t *testing.T) {
	t.Parallel()
	failures := 0
	for at := range int64(40) {
		mem := vfs.NewCrashableMem()
		var ops atomic.Int64
		var full atomic.Bool
		fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || isSync(op.Kind) || op.Kind == errorfs.OpRemove || op.Kind == errorfs.OpLock {
				return nil
			}
			if full.Load() && ops.Add(1) > at {
				return syscall.ENOSPC
			}
			return nil
		}))
		s := open(t, "meta", Options{FS: fsys})
		require.NoError(t, s.Put(Topic{Name: "deleted", ReadQueues: 1, WriteQueues: 1}))
		require.NoError(t, s.CommitOffset("kept", "t", 0, 7))
		require.NoError(t, s.Sync())
		full.Store(true)
		var err error
		last := message.QueueOffset(0)
		for round := 0; err == nil && round < 60; round++ {
			// A memtable is flushed in the background, so any of these may be the
			// first to be refused.
			for q := int32(0); err == nil && q < 20; q++ {
				err = s.CommitOffset(fmt.Sprintf("group%d", q), "t", q, message.QueueOffset(round))
			}
			if err == nil {
				last = message.QueueOffset(round)
			}
			if err == nil && round == 1 {
				err = s.Delete("deleted")
			}
			if err == nil {
				err = s.Sync()
			}
			if err == nil && round%8 == 7 {
				err = s.flushForTest()
			}
		}
		if err == nil {
			require.NoError(t, s.Close())
			continue
		}
		failures++
		require.ErrorIs(t, err, ErrFailed)
		require.ErrorIs(t, err, syscall.ENOSPC)
		for range 3 {
			require.ErrorIs(t, s.Sync(), syscall.ENOSPC, "still full")
			require.ErrorIs(t, s.CommitOffset("g", "t", 0, 1), ErrFailed)
		}
		require.Equal(t, last, offsetOf(t, s, "group19", "t", 19), "reads go on")
		full.Store(false)
		require.NoError(t, s.Sync(), "there is room again")
		require.NoError(t, s.CommitOffset("late", "t", 0, 9))
		if at%2 == 0 {
			require.NoError(t, s.flushForTest())
		}
		require.NoError(t, s.Sync())
		want := snapshot(t, s)
		cut := mem.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, s.Close())
		s = open(t, "meta", Options{FS: cut})
		require.Equal(t, want, snapshot(t, s), "failure at %d", at)
		require.EqualValues(t, 7, offsetOf(t, s, "kept", "t", 0))
		require.NoError(t, s.Close())
	}
	require.Greater(t, failures, 30)
}

// TestNoResumeAfterFailedSync also when it failed for want of room: what was
// written before may be lost.
func TestNoResumeAfterFailedSync(t *testing.T) {
	t.Parallel()
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op.Kind) {
			return syscall.ENOSPC
		}
		return nil
	})}
	s := open(t, "meta", Options{FS: inject(vfs.NewMem(), toggle)})
	toggle.On()
	require.NoError(t, s.CommitOffset("g", "t", 0, 1))
	require.ErrorIs(t, s.Sync(), ErrFailed)
	toggle.Off()
	require.ErrorIs(t, s.Sync(), ErrFailed)
	require.ErrorIs(t, s.CommitOffset("g", "t", 0, 2), ErrFailed)
	require.ErrorIs(t, s.Close(), ErrFailed)
}

// snapshot is what TestResume changed.
func snapshot(t *testing.T, s *Store) (all []any) {
	t.Helper()
	topics, err := s.Topics()
	require.NoError(t, err)
	all = append(all, topics, offsetOf(t, s, "late", "t", 0))
	for q := range int32(20) {
		all = append(all, offsetOf(t, s, fmt.Sprintf("group%d", q), "t", q))
	}
	return all
}
