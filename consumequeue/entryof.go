// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"strconv"
	"time"

	"github.com/stelelog/stele/message"
)

// DelayTopic is where RocketMQ keeps messages that are delivered later, by
// delay level (TopicValidator.RMQ_SYS_SCHEDULE_TOPIC). An entry of its queues
// holds the time of delivery instead of a tags code.
const DelayTopic = "SCHEDULE_TOPIC_XXXX"

// delayLevels are RocketMQ's default levels, 1 to 18
// (MessageStoreConfig.messageDelayLevel). A broker that was configured
// otherwise wrote other times.
var delayLevels = [...]time.Duration{
	time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute,
	6 * time.Minute, 7 * time.Minute, 8 * time.Minute, 9 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

// EntryOf returns the entry of a stored message, as CommitLog.java's
// checkMessageAndReturnSize computes it: position, size, and the hash of its
// tags, or in DelayTopic the time of delivery in milliseconds.
func EntryOf(m *message.Message) Entry {
	e := Entry{Offset: m.PhysicalOffset, Size: m.Size}
	if m.Topic == DelayTopic {
		if level := delayLevel(m); level > 0 {
			e.TagsCode = m.StoreTimestamp + delayLevels[level-1].Milliseconds()
			return e
		}
	}
	if tags, ok := m.Properties.Lookup(message.PropertyTags); ok {
		e.TagsCode = message.TagsCode(tags)
	}
	return e
}

// delayLevel returns the message's level, at most the highest, or 0.
func delayLevel(m *message.Message) int {
	v, ok := m.Properties.Lookup(message.PropertyDelayLevel)
	if !ok {
		return 0
	}
	level, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || level < 0 {
		return 0
	}
	return int(min(level, int64(len(delayLevels))))
}
