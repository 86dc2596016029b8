// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

func TestSetDelays(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s := open(t, "meta", Options{FS: mem})
	_, ok, err := s.Timers()
	require.NoError(t, err)
	require.False(t, ok)
	want := TimerProgress{Low: 2, Next: 9, Due: 0x19aac5b3c00, At: 5, End: 1 << 16}
	require.NoError(t, s.SetDelays(map[int]message.QueueOffset{1: 3, 18: 4}, want))
	for name, p := range map[string]TimerProgress{
		"low": {Low: -1}, "next": {Low: 2, Next: 1}, "due": {Due: -1}, "at": {At: -1}, "end": {End: -1},
	} {
		require.ErrorIs(t, s.SetDelays(nil, p), ErrInvalid, name)
	}
	require.ErrorIs(t, s.SetDelays(map[int]message.QueueOffset{0: 1}, TimerProgress{}), ErrInvalid)
	check := func(s *Store) {
		got, ok, err := s.Timers()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, got)
		levels, err := s.DelayOffsets()
		require.NoError(t, err)
		require.Equal(t, map[int]message.QueueOffset{1: 3, 18: 4}, levels)
	}
	check(s)
	lost := open(t, "meta", Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	_, ok, err = lost.Timers()
	require.NoError(t, err)
	require.False(t, ok, "it was not synced")
	require.NoError(t, s.Sync())
	check(open(t, "meta", Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})}))
	check(open(t, "meta", Options{FS: mem.CrashClone(vfs.CrashCloneCfg{}), ReadOnly: true}))
	require.NoError(t, s.Close())
	_, _, err = s.Timers()
	require.ErrorIs(t, err, ErrClosed)
}

// The example in docs/format/topicmeta.md.
func TestTimerGolden(t *testing.T) {
	t.Parallel()
	p := TimerProgress{Low: 2, Next: 9, Due: 0x19aac5b3c00, At: 5, End: 1 << 16}
	const want = "\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x01\x9a\xac\x5b\x3c\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x01\x00\x00"
	require.Equal(t, want, string(p.append(nil)))
	got, err := decodeTimer(nil, []byte(want))
	require.NoError(t, err)
	require.Equal(t, p, got)
}

// A directory of version 1 is read as it is, and becomes one of version 2 when it
// is opened for writing.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	require.NoError(t, s.Put(Topic{Name: "t"}))
	require.NoError(t, s.Close())
	marker := filepath.Join(dir, markerName)
	require.NoError(t, os.WriteFile(marker, []byte("stele topicmeta 1\n"), 0o600))
	for _, readOnly := range []bool{true, false} {
		s = open(t, dir, Options{ReadOnly: readOnly})
		_, ok, err := s.Topic("t")
		require.NoError(t, err)
		require.True(t, ok)
		text, err := os.ReadFile(marker)
		require.NoError(t, err)
		require.Equal(t, map[bool]string{true: "stele topicmeta 1\n", false: "stele topicmeta 2\n"}[readOnly], string(text))
		require.NoError(t, s.Close())
	}
}
