// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/topicmeta"
)

func TestCutOffsets(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s, err := topicmeta.Open("meta", topicmeta.Options{FS: mem})
	require.NoError(t, err)
	defer s.Close()
	for _, o := range []struct {
		group, topic string
		queue        int32
		off          message.QueueOffset
	}{
		{"h", "a", 0, 10}, {"g", "a", 0, 11}, {"g", "a", 1, 7}, {"g", "gone", 2, 1}, {"h", "gone", 2, 0},
	} {
		require.NoError(t, s.CommitOffset(o.group, o.topic, o.queue, o.off))
	}
	require.NoError(t, s.SetDelayOffset(1, 5))
	require.NoError(t, s.SetDelayOffset(3, 4))
	require.NoError(t, s.Sync())

	ends := map[string]message.QueueOffset{"a": 10, "delays": 4}
	end := func(topic string, queue int32) message.QueueOffset {
		if topic == "delays" {
			require.Contains(t, []int32{0, 2}, queue)
		}
		return ends[topic]
	}
	cut, err := s.CutOffsets("delays", end)
	require.NoError(t, err)
	require.Equal(t, []topicmeta.CutOffset{
		{"", "delays", 0, 5, 4}, {"g", "a", 0, 11, 10}, {"g", "gone", 2, 1, 0},
	}, cut)
	cut, err = s.CutOffsets("delays", end)
	require.NoError(t, err)
	require.Empty(t, cut, "there is nothing left to cut")

	// It is durable.
	after, err := topicmeta.Open("meta", topicmeta.Options{FS: mem.CrashClone(vfs.CrashCloneCfg{}), ReadOnly: true})
	require.NoError(t, err)
	defer after.Close()
	for _, s := range []*topicmeta.Store{s, after} {
		got, err := s.Offsets("g")
		require.NoError(t, err)
		require.Equal(t, []topicmeta.GroupOffset{{"a", 0, 10}, {"a", 1, 7}, {"gone", 2, 0}}, got)
		got, err = s.Offsets("h")
		require.NoError(t, err)
		require.Equal(t, []topicmeta.GroupOffset{{"a", 0, 10}, {"gone", 2, 0}}, got)
		delays, err := s.DelayOffsets()
		require.NoError(t, err)
		require.Equal(t, map[int]message.QueueOffset{1: 4, 3: 4}, delays)
	}
}
