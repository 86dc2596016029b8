// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Tables are compacted without Pebble's own scheduler: a manual compaction
// waits for its turn behind the automatic ones.
func TestCompactionsRun(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, "meta", Options{FS: mem})
	for round := range 60 {
		require.NoError(t, script(s, round, 1, func(int) {}))
		require.NoError(t, s.flushForTest())
	}
	require.NoError(t, s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false))
	m := s.db.Metrics()
	require.Zero(t, m.Levels[0].TablesCount)
	require.Greater(t, m.Compact.Count, int64(1))
	require.NoError(t, s.Close())
	s = open(t, "meta", Options{FS: mem})
	require.Equal(t, 59, state(t, s))
}

// waitingDB has so many compactions to run.
type waitingDB struct {
	waiting  int
	accepted int
	asked    func() // runs inside GetWaitingCompaction
}

func (d *waitingDB) GetAllowedWithoutPermission() int { return 1 }

func (d *waitingDB) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	if f := d.asked; f != nil {
		d.asked = nil
		f()
		return false, pebble.WaitingCompaction{} // decided before f ran
	}
	return d.waiting > 0, pebble.WaitingCompaction{}
}

func (d *waitingDB) Schedule(pebble.CompactionGrantHandle) bool {
	d.waiting--
	d.accepted++
	return true
}

func TestCompactionsGrantOneAtATime(t *testing.T) {
	t.Parallel()
	allowed := true
	db := &waitingDB{}
	c := &compactions{allowed: func() bool { return allowed }}
	c.Register(1, db)
	try := func() bool {
		ok, handle := c.TrySchedule()
		require.Equal(t, ok, handle != nil)
		return ok
	}
	require.True(t, try())
	require.False(t, try(), "one is running")
	db.waiting = 1
	c.Done()
	require.Equal(t, 1, db.accepted, "the one that waited")
	require.False(t, try())
	c.Done()
	require.Equal(t, 1, db.accepted)

	// One begins to wait just after the database said that none does.
	require.True(t, try())
	db.asked = func() {
		require.False(t, try())
		db.waiting = 1
	}
	c.Done()
	require.Equal(t, 2, db.accepted, "must not be forgotten")

	allowed = false // the store failed
	db.waiting = 1
	c.Done()
	require.Equal(t, 2, db.accepted)
	require.False(t, try())
	allowed = true
	require.True(t, try())
	c.Unregister()
	c.Done()
	require.Equal(t, 2, db.accepted)
	require.False(t, try())
}
