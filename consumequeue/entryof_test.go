// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

func TestEntryOf(t *testing.T) {
	const stored = 1700000000000
	levels, err := message.ParseDelayLevels(message.DefaultDelayLevels)
	require.NoError(t, err)
	for _, tt := range []struct {
		name, topic, tags, delay string
		want                     int64
	}{
		{"no tags", "T", "", "", 0},
		{"tags", "T", "TagA", "", 2598919},
		{"delay level in another topic", "T", "TagA", "3", 2598919},
		{"first level", DelayTopic, "TagA", "1", stored + 1000},
		{"last level", DelayTopic, "", "18", stored + 2*3600*1000},
		{"level above the last", DelayTopic, "", "99", stored + 2*3600*1000},
		{"level zero", DelayTopic, "TagA", "0", 2598919},
		{"no level", DelayTopic, "TagA", "", 2598919},
		{"level that is no number", DelayTopic, "TagA", "x", 2598919},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message.Message{Topic: tt.topic, PhysicalOffset: 4096, Size: 200, StoreTimestamp: stored}
			m.SetTags(tt.tags)
			if tt.delay != "" {
				m.Properties.Set(message.PropertyDelayLevel, tt.delay)
			}
			require.Equal(t, Entry{Offset: 4096, Size: 200, TagsCode: tt.want}, EntryOf(&m, levels))
		})
	}
}
