// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

// injectFS is errorfs, which forgets a log file that is used again.
type injectFS struct {
	*errorfs.FS
	injector errorfs.Injector
}

func inject(fsys vfs.FS, injector errorfs.Injector) vfs.FS {
	return injectFS{errorfs.Wrap(fsys, injector), injector}
}

func (f injectFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(file, f.injector), nil
}

// script does what a store does in its life, in rounds; each ends in a Sync.
// It fails as soon as the store does.
func script(s *Store, from, rounds int, synced func(round int)) error {
	for round := from; round < from+rounds; round++ {
		if _, _, err := s.Ensure(fmt.Sprintf("t%d", round), 4); err != nil {
			return err
		}
		for q := range int32(50) {
			if err := s.CommitOffset("g", "t", q, message.QueueOffset(round)); err != nil {
				return err
			}
		}
		if err := s.SetDelayOffset(1, message.QueueOffset(round)); err != nil {
			return err
		}
		if err := s.Sync(); err != nil {
			return err
		}
		synced(round)
	}
	return nil
}

// state returns the round that a store's tables are from, and fails the test
// if they are from more than one.
func state(t *testing.T, s *Store) (round int) {
	t.Helper()
	delays, err := s.DelayOffsets()
	require.NoError(t, err)
	last, ok := delays[1]
	if !ok {
		last = -1
	}
	for q := range int32(50) {
		require.Equal(t, last, offsetOf(t, s, "g", "t", q))
	}
	topics, err := s.Topics()
	require.NoError(t, err)
	require.Len(t, topics, int(last)+1)
	return int(last)
}

// What a Sync acknowledged is there after a power cut at any operation that
// changes the disk, whole rounds only, and the directory opens and goes on.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, keep := range []int{0, 50, 100} { // per cent of what was not synced
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			t.Parallel()
			for at := int64(0); ; at++ {
				if crashed := powerCut(t, at, keep); !crashed {
					require.Greater(t, at, int64(40), "the script must have many steps")
					return
				}
			}
		})
	}
}

// powerCut copies the disk before operation number at, and checks the copy.
func powerCut(t *testing.T, at int64, keep int) bool {
	mem := vfs.NewCrashableMem()
	var ops, acked atomic.Int64
	acked.Store(-1)
	var disk *vfs.MemFS
	var ackedThen int64
	fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at+1 {
			ackedThen = acked.Load()
			disk = mem.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: keep, RNG: rand.New(rand.NewPCG(uint64(at), uint64(keep))),
			})
		}
		return nil
	}))
	const half = 3
	for from := 0; from < 2*half; from += half { // the second Open replays
		s, err := Open("stele/meta", Options{FS: fsys})
		require.NoError(t, err)
		require.NoError(t, script(s, from, half, func(round int) { acked.Store(int64(round)) }))
		if from > 0 {
			require.NoError(t, s.flushForTest())
		}
		require.NoError(t, s.Close())
	}
	if disk == nil {
		return false
	}
	s, err := Open("stele/meta", Options{FS: disk})
	require.NoError(t, err, "operation %d", at)
	round := state(t, s)
	require.GreaterOrEqual(t, round, int(ackedThen), "operation %d", at)
	require.NoError(t, script(s, round+1, 1, func(int) {}))
	require.NoError(t, s.Close())
	return true
}

// Without a Sync there is no promise, but a crash must leave a round as a whole.
func TestCrashWithoutSync(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s := open(t, "meta", Options{FS: mem})
	require.NoError(t, script(s, 0, 1, func(int) {}))
	require.NoError(t, s.CommitOffset("g", "t", 0, 77))
	require.EqualValues(t, 77, offsetOf(t, s, "g", "t", 0))
	s = open(t, "meta", Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	require.Zero(t, state(t, s))
}

// Every operation that changes the disk fails once, or from then on. That must
// be an error of whoever asked, and no panic, exit or hang; reads go on; and
// what was acknowledged before is there when the disk works again.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, forever := range []bool{false, true} {
		t.Run(fmt.Sprintf("forever=%v", forever), func(t *testing.T) {
			t.Parallel()
			for at := int64(0); ; at++ {
				if injected := failingDisk(t, at, forever); !injected {
					require.Greater(t, at, int64(40), "the script must have many steps")
					return
				}
			}
		})
	}
}

var errDisk = errors.New("no space left")

func failingDisk(t *testing.T, at int64, forever bool) bool {
	mem := vfs.NewMem()
	acked := -1
	ack := func(round int) { acked = round }
	s, err := Open("stele/meta", Options{FS: mem}) // leaves a log to replay
	require.NoError(t, err)
	require.NoError(t, script(s, 0, 1, ack))
	require.NoError(t, s.Close())

	var ops, injected atomic.Int64
	fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpLock, errorfs.OpFilePreallocate:
			return nil // see TestRemoveMayFail; a lock that fails is no failing disk
		}
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		if n := ops.Add(1) - 1; n == at || forever && n > at {
			injected.Add(1)
			return errDisk
		}
		return nil
	}))
	s, err = Open("stele/meta", Options{FS: fsys})
	if err != nil {
		require.ErrorIs(t, err, errDisk, "operation %d", at)
	} else {
		failed := script(s, 1, 3, ack)
		if failed == nil {
			// Rotates the log and flushes, which is where Pebble would panic or spin.
			failed = errors.Join(s.flushForTest(), script(s, 4, 2, ack))
		}
		topics, err := s.Topics()
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(topics), acked+1, "reads go on")
		if failed != nil {
			require.ErrorIs(t, failed, ErrFailed)
			require.ErrorIs(t, failed, errDisk)
			require.ErrorIs(t, s.CommitOffset("g", "t", 0, 1), ErrFailed)
			require.ErrorIs(t, s.Put(Topic{Name: "late"}), ErrFailed)
			require.ErrorIs(t, s.Sync(), ErrFailed)
		}
		closed := s.Close()
		if failed != nil {
			require.ErrorIs(t, closed, ErrFailed)
		} else if closed != nil {
			require.ErrorIs(t, closed, errDisk)
		}
		require.True(t, injected.Load() == 0 || closed != nil, "operation %d: a failure was swallowed", at)
	}
	if injected.Load() == 0 {
		return false
	}
	s, err = Open("stele/meta", Options{FS: mem})
	require.NoError(t, err, "operation %d", at)
	require.GreaterOrEqual(t, state(t, s), acked, "operation %d", at)
	require.NoError(t, s.Close())
	return true
}

// A directory that could not be created can be created later.
func TestFailingCreation(t *testing.T) {
	t.Parallel()
	for at := int64(0); ; at++ {
		mem := vfs.NewMem()
		var ops atomic.Int64
		fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			// A file that is left over is harmless.
			if op.Kind != errorfs.OpRemove && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1)-1 == at {
				return errDisk
			}
			return nil
		}))
		s, err := Open("stele/meta", Options{FS: fsys})
		if err == nil {
			err = s.Close()
		}
		if ops.Load() <= at {
			require.NoError(t, err)
			require.Greater(t, at, int64(20), "creation must have many steps")
			return
		}
		require.ErrorIs(t, err, errDisk, "operation %d", at)
		s, err = Open("stele/meta", Options{FS: mem})
		require.NoError(t, err, "operation %d", at)
		require.NoError(t, script(s, 0, 1, func(int) {}))
		require.NoError(t, s.Close())
	}
}

// flushForTest makes Pebble start a new log and write a table, as a full
// memtable does.
func (s *Store) flushForTest() error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.failure()
}

// A table or log that cannot be removed is no reason to stop.
func TestRemoveMayFail(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemove && !strings.Contains(op.Path, "marker.") {
			return errDisk
		}
		return nil
	}))
	for from := 0; from < 6; from += 2 {
		s := open(t, "stele/meta", Options{FS: fsys})
		require.NoError(t, script(s, from, 1, func(int) {}))
		require.NoError(t, s.flushForTest())
		require.NoError(t, script(s, from+1, 1, func(int) {}))
		require.NoError(t, s.Close())
	}
	s := open(t, "stele/meta", Options{FS: mem})
	require.Equal(t, 5, state(t, s))
}

// Memtables fill, tables are flushed and compacted under a disk that fails at a
// random moment, from the background as well as from a commit.
func TestFailingDiskUnderLoad(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		mem := vfs.NewMem()
		rng := rand.New(rand.NewPCG(seed, 1))
		at := rng.Int64N(600)
		var ops atomic.Int64
		fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpLock &&
				op.Kind != errorfs.OpFilePreallocate && ops.Add(1) > at {
				return errDisk
			}
			return nil
		}))
		s, err := Open("meta", Options{FS: fsys})
		if err != nil {
			require.ErrorIs(t, err, errDisk)
			continue
		}
		acked := message.QueueOffset(-1)
		for round := message.QueueOffset(0); ; round++ {
			for q := range int32(300) {
				if err = s.CommitOffset("g", "t", q, round); err != nil {
					break
				}
			}
			if err == nil {
				err = s.Sync()
			}
			if err != nil {
				break
			}
			acked = round
		}
		require.ErrorIs(t, err, ErrFailed, "seed %d", seed)
		require.ErrorIs(t, s.Close(), errDisk)
		s = open(t, "meta", Options{FS: mem})
		if acked >= 0 {
			require.GreaterOrEqual(t, offsetOf(t, s, "g", "t", 299), acked, "seed %d", seed)
			require.Equal(t, offsetOf(t, s, "g", "t", 0), offsetOf(t, s, "g", "t", 299), "seed %d", seed)
		}
		require.NoError(t, s.Close())
	}
}

// A read that fails in a compaction ends writing too, and does not spin.
func TestFailingReads(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpList {
			return errDisk
		}
		return nil
	})}
	s := open(t, "meta", Options{FS: inject(mem, toggle)})
	toggle.On()
	var err error
	for round := 0; err == nil && round < 100; round++ {
		if err = script(s, round, 1, func(int) {}); err == nil {
			err = s.flushForTest()
		}
	}
	require.ErrorIs(t, err, ErrFailed)
	require.NotEmpty(t, func() []Topic { l, _ := s.Topics(); return l }())
	require.Error(t, s.Close())
	toggle.Off()
	s = open(t, "meta", Options{FS: mem})
	state(t, s)
}

// Whoever made the directory was killed before its name was durable: the next
// one to open it sees to that.
func TestDirectoryOfAKilledProcess(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	require.NoError(t, makeDir(mem, "/stele"))
	require.NoError(t, mem.MkdirAll("/stele/meta", 0o755))
	s, err := Open("/stele/meta", Options{FS: mem})
	require.NoError(t, err)
	require.NoError(t, script(s, 0, 1, func(int) {}))
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, s.Close())
	s, err = Open("/stele/meta", Options{FS: left})
	require.NoError(t, err)
	require.Zero(t, state(t, s))
	require.NoError(t, s.Close())
}

// TestMarkerGoesAfterItsSuccessor: a power cut must never leave a directory
// without a marker that names the current MANIFEST, whatever of the unsynced
// names it keeps. FUSE found this one.
func TestMarkerGoesAfterItsSuccessor(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	removed := 0
	fsys := inject(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		name := mem.PathBase(op.Path)
		if op.Kind != errorfs.OpRemove || !strings.HasPrefix(name, "marker.") {
			return nil
		}
		removed++
		kind := strings.Join(strings.Split(name, ".")[:2], ".")
		left, err := mem.CrashClone(vfs.CrashCloneCfg{}).List("stele/meta")
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(left, func(other string) bool {
			return strings.HasPrefix(other, kind+".") && other > name
		}), "%s goes, durable are %v", name, left)
		return nil
	}))
	for n := range 3 {
		s := open(t, "stele/meta", Options{FS: fsys})
		require.NoError(t, script(s, n, 1, func(int) {}))
		require.NoError(t, s.Close())
	}
	require.Positive(t, removed)
}
