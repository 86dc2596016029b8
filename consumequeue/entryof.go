// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"strconv"

	"github.com/stelelog/stele/message"
)

// DelayTopic is message.DelayTopic.
const DelayTopic = message.DelayTopic

// ownLevels are RocketMQ's.
var ownLevels, _ = message.ParseDelayLevels(message.DefaultDelayLevels)

// EntryOf returns the entry of a stored message, as CommitLog.java's
// checkMessageAndReturnSize computes it: position, size, and the hash of its
// tags, or in DelayTopic the time of delivery in milliseconds, by the levels that
// are given, RocketMQ's own for nil. A level above the last one counts as that.
func EntryOf(m *message.Message, levels message.DelayLevels) Entry {
	tags, _ := m.Properties.Lookup(message.PropertyTags)
	return EntryWith(m, tags, levels)
}

// EntryWith is EntryOf for who has the value of the message's TAGS at hand, nil for
// none.
func EntryWith(m *message.Message, tags []byte, levels message.DelayLevels) Entry {
	e := Entry{Offset: m.PhysicalOffset, Size: m.Size}
	if m.Topic == DelayTopic {
		if levels == nil {
			levels = ownLevels
		}
		if level := delayLevel(m, len(levels)); level > 0 {
			e.TagsCode = m.StoreTimestamp + levels[level-1].Milliseconds()
			return e
		}
	}
	e.TagsCode = message.TagsCode(tags)
	return e
}

// delayLevel returns the message's level, at most the highest, or 0.
func delayLevel(m *message.Message, highest int) int {
	v, ok := m.Properties.Lookup(message.PropertyDelayLevel)
	if !ok {
		return 0
	}
	level, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || level < 0 {
		return 0
	}
	return int(min(level, int64(highest)))
}
