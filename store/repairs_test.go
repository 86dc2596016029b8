// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"log/slog"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// TestOffsetsAfterAPowerCut: a group had read and committed messages that a power
// cut takes in asynchronous mode. It sees those that take their offsets.
func TestOffsetsAfterAPowerCut(t *testing.T) {
	t.Parallel()
	on := newMachine(crashdisk.New(), newMeta())
	withMeta := func(m *machine) func(*store.Options) {
		return func(o *store.Options) { o.MetaFS = m.mem }
	}
	s := openStore(t, on.disk, withMeta(on))
	appendMany(t, s, 3, 0)
	require.NoError(t, s.Flush(t.Context()))
	appendMany(t, s, 4, 0) // not flushed
	appendOne(t, s, "lost", 1, "body")
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	for group, off := range map[string]message.QueueOffset{"behind": 2, "at the cut": 3, "beyond": 5, "at the end": 7} {
		require.NoError(t, s.CommitOffset(group, "orders", 0, off))
	}
	require.NoError(t, s.CommitOffset("at the end", "lost", 1, 1))
	require.NoError(t, s.Meta().SetDelayOffset(2, 9))
	require.NoError(t, s.SyncOffsets())

	killed, cut := on.killed(), newMachine(on.disk.DurableClone(), on.mem.CrashClone(vfs.CrashCloneCfg{}))
	s = openStore(t, killed.disk, withMeta(killed))
	require.Equal(t, store.ProcessKilled, s.Stats().Recovery.Kind)
	require.Empty(t, s.Stats().Recovery.Offsets, "a kill takes nothing")
	off, _, err := s.Offset("at the end", "orders", 0)
	require.NoError(t, err)
	require.EqualValues(t, 7, off)

	var text bytes.Buffer
	s = openStore(t, cut.disk, withMeta(cut), func(o *store.Options) { o.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
	require.Equal(t, store.PowerCut, s.Stats().Recovery.Kind)
	require.Equal(t, []topicmeta.CutOffset{
		{Topic: consumequeue.DelayTopic, Queue: 1, From: 9, To: 0},
		{Group: "at the end", Topic: "lost", Queue: 1, From: 1, To: 0},
		{Group: "at the end", Topic: "orders", From: 7, To: 3},
		{Group: "beyond", Topic: "orders", From: 5, To: 3},
	}, s.Stats().Recovery.Offsets)
	require.Equal(t, []store.QueueFill{{Topic: "orders", From: 0, To: 3}}, s.Stats().Recovery.Filled)
	require.Contains(t, text.String(), "offsets=4")
	r := appendOne(t, s, "orders", 0, "new")
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	off, _, err = s.Offset("at the end", "orders", 0)
	require.NoError(t, err)
	require.Equal(t, r.QueueOffset, off, "the group sees the message that took the lost one's offset")
	off, _, err = s.Offset("behind", "orders", 0)
	require.NoError(t, err)
	require.EqualValues(t, 2, off, "what lies before the end stays")

	// It was durable before the store was open: the next crash is of a store that
	// lost nothing.
	again := newMachine(cut.disk.KillClone(), cut.mem.CrashClone(vfs.CrashCloneCfg{}))
	s = openStore(t, again.disk, withMeta(again))
	require.Equal(t, store.ProcessKilled, s.Stats().Recovery.Kind)
	off, _, err = s.Offset("at the end", "orders", 0)
	require.NoError(t, err)
	require.Equal(t, r.QueueOffset, off)
}

// TestOffsetsAreLeftAlone where nothing can have been lost: a group may commit
// what it likes.
func TestOffsetsAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*testing.T, *store.Store, *machine) *machine{
		"closed": func(t *testing.T, s *store.Store, on *machine) *machine {
			require.NoError(t, s.Close())
			return on
		},
		"killed": func(_ *testing.T, _ *store.Store, on *machine) *machine { return on.killed() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := newMachine(crashdisk.New(), newMeta())
			s := openStore(t, on.disk, func(o *store.Options) { o.MetaFS = on.mem })
			appendMany(t, s, 3, 0)
			require.NoError(t, s.CommitOffset("g", "orders", 0, 50))
			require.NoError(t, s.SyncOffsets())
			on = next(t, s, on)
			s = openStore(t, on.disk, func(o *store.Options) { o.MetaFS = on.mem })
			require.Empty(t, s.Stats().Recovery.Offsets)
			off, _, err := s.Offset("g", "orders", 0)
			require.NoError(t, err)
			require.EqualValues(t, 50, off)
		})
	}
}

// TestFilled: what an operator is told about queues that were not whole.
func TestFilled(t *testing.T) {
	t.Parallel()
	d, m := filled(t, "closed")
	want := map[string]message.QueueOffset{}
	for _, e := range m.entries {
		if e.keep {
			want[e.queue()] = max(want[e.queue()], e.QueueOffset+1)
		}
	}
	s := openStore(t, d)
	require.Empty(t, s.Stats().Recovery.Filled, "it was closed in order")
	require.NoError(t, s.Close())
	removeTree(t, d, queueDir("payments", 1))
	s = openStore(t, d)
	rec := s.Stats().Recovery
	require.True(t, rec.Rebuilt)
	got := map[string]message.QueueOffset{}
	for _, f := range rec.Filled {
		require.Less(t, f.From, f.To)
		got[entry{AppendResult: store.AppendResult{Topic: f.Topic, QueueID: f.Queue}}.queue()] = f.To
	}
	require.Equal(t, want["payments/1"], got["payments/1"], "%+v", rec.Filled)
	require.Contains(t, rec.Filled, store.QueueFill{Topic: "payments", Queue: 1, From: 0, To: want["payments/1"]})
}

// brokenMeta is a file system on which nothing new can be made.
type brokenMeta struct{ vfs.FS }

func (brokenMeta) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, syscall.EIO }

// TestMetadataThatDoesNotOpen: the store is announced while the metadata is opened,
// and that is taken back when it fails. The next opening finds what was there.
func TestMetadataThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(t *testing.T, s *store.Store, on *machine) *machine
		kind store.RecoveryKind
		max  message.QueueOffset
	}{
		{"closed", func(t *testing.T, s *store.Store, on *machine) *machine {
			require.NoError(t, s.Close())
			return on.killed()
		}, store.CleanClose, 7},
		{"killed", func(_ *testing.T, _ *store.Store, on *machine) *machine { return on.killed() }, store.ProcessKilled, 7},
		{"power cut", func(_ *testing.T, _ *store.Store, on *machine) *machine {
			return newMachine(on.disk.DurableClone(), on.mem.CrashClone(vfs.CrashCloneCfg{}))
		}, store.PowerCut, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			on := newMachine(crashdisk.New(), newMeta())
			s := openStore(t, on.disk, func(o *store.Options) { o.MetaFS = on.mem })
			appendMany(t, s, 3, 0)
			require.NoError(t, s.Flush(t.Context()))
			appendMany(t, s, 4, 0) // not flushed
			require.NoError(t, s.CommitOffset("g", "orders", 0, 7))
			require.NoError(t, s.SyncOffsets())
			left := c.end(t, s, on)
			abort, wasThere := left.disk.ReadFile(root + "/abort")
			for range 2 {
				o := quiet(left.disk)
				o.MetaFS = brokenMeta{left.mem}
				_, err := store.Open(root, o)
				require.ErrorIs(t, err, syscall.EIO)
				require.ErrorContains(t, err, "topicmeta: open")
				text, err := left.disk.ReadFile(root + "/abort")
				require.Equal(t, abort, text)
				require.Equal(t, wasThere, err)
			}
			// Whoever dies in the midst of taking it back, or before, is one that died
			// in Open.
			for op, n := range map[crashdisk.Op]int{crashdisk.OpWriteFile: 1, crashdisk.OpRemove: 0, crashdisk.OpFlush: 1} {
				half := newMachine(left.disk.KillClone(), left.mem.CrashClone(vfs.CrashCloneCfg{}))
				half.disk.Inject(crashdisk.Fault{Op: op, After: n})
				o := quiet(half.disk)
				o.MetaFS = brokenMeta{half.mem}
				_, err := store.Open(root, o)
				require.ErrorIs(t, err, syscall.EIO)
				half.disk.ClearFaults()
				s := openStore(t, half.disk, func(o *store.Options) { o.MetaFS = half.mem })
				_, end, err := s.Bounds("orders", 0)
				require.NoError(t, err)
				require.Equal(t, c.max, end, "%v", op)
			}
			s = openStore(t, left.disk, func(o *store.Options) { o.MetaFS = left.mem })
			require.Equal(t, c.kind, s.Stats().Recovery.Kind)
			_, end, err := s.Bounds("orders", 0)
			require.NoError(t, err)
			require.Equal(t, c.max, end)
			off, _, err := s.Offset("g", "orders", 0)
			require.NoError(t, err)
			require.Equal(t, c.max, off)
		})
	}
}
