// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// GroupTopic names a consumer group's progress on one topic. On disk it is one
// string, "topic@group" (ConsumerOffsetManager.java).
type GroupTopic struct {
	Group string
	Topic string
}

// ConsumerOffsets is config/consumerOffset.json (ConsumerOffsetManager.java).
type ConsumerOffsets struct {
	DataVersion DataVersion
	// Table maps a queue id to the queue offset that the group reads next.
	Table map[GroupTopic]map[int32]int64
	// Other holds the entries whose key is not one topic and one group: the
	// broker only acts on keys that split at '@' into exactly two parts, and
	// neither name may hold an '@' (TopicValidator.java). Such entries exist
	// (broadcast consumers of a proxy have a third part), so they are kept and
	// written back, but belong to no group here.
	Other map[string]map[int32]int64
	Extra map[string]json.RawMessage
}

// DelayOffsets is config/delayOffset.json (DelayOffsetSerializeWrapper.java).
type DelayOffsets struct {
	DataVersion DataVersion
	// Table maps a delay level, from 1, to the next offset in queue level - 1 of
	// the delay topic.
	Table map[int32]int64
	Extra map[string]json.RawMessage
}

// SplitGroupTopic splits "topic@group". ok is false unless there is exactly one
// '@' with a name on either side.
func SplitGroupTopic(key string) (gt GroupTopic, ok bool) {
	topic, group, found := strings.Cut(key, "@")
	if !found || topic == "" || group == "" || strings.Contains(group, "@") {
		return GroupTopic{}, false
	}
	return GroupTopic{Group: group, Topic: topic}, true
}

// DecodeConsumerOffsets reads the text of a consumerOffset.json. groupTopicMap,
// which the broker derives from the table, is not kept. An error is an *Error.
func DecodeConsumerOffsets(data []byte) (ConsumerOffsets, error) {
	o := ConsumerOffsets{Table: map[GroupTopic]map[int32]int64{}}
	err := decodeBean(data, &o.DataVersion, &o.Extra, "offsetTable", func(r *reader) error {
		o.Table, o.Other = map[GroupTopic]map[int32]int64{}, nil
		return r.object(func(key string, _ int) error {
			queues, err := r.int64s()
			if gt, ok := SplitGroupTopic(key); ok {
				o.Table[gt] = queues
				return err
			}
			if o.Other == nil {
				o.Other = make(map[string]map[int32]int64)
			}
			o.Other[key] = queues
			return err
		})
	})
	if err != nil {
		return ConsumerOffsets{}, err
	}
	delete(o.Extra, "groupTopicMap")
	if len(o.Extra) == 0 {
		o.Extra = nil
	}
	return o, nil
}

// Encode returns the text of the file, in the shape that the broker writes.
// A Table key with an '@' in either name would not survive the way back; the
// caller keeps such names out (see SplitGroupTopic).
func (o ConsumerOffsets) Encode() []byte {
	all := make(map[string]map[int32]int64, len(o.Table)+len(o.Other))
	topics := make(map[string][]string)
	for key, queues := range o.Other {
		all[key] = queues
	}
	for gt, queues := range o.Table {
		all[gt.Topic+"@"+gt.Group] = queues
		topics[gt.Group] = append(topics[gt.Group], gt.Topic)
	}
	var table, groups []property
	for _, key := range slices.Sorted(maps.Keys(all)) {
		table = append(table, property{key, func(w *writer) { w.int64s(all[key]) }})
	}
	for _, group := range slices.Sorted(maps.Keys(topics)) {
		slices.Sort(topics[group])
		groups = append(groups, property{group, func(w *writer) { w.strings(topics[group]) }})
	}
	w := &writer{}
	w.bean([]property{
		{"dataVersion", o.DataVersion.write},
		{"groupTopicMap", func(w *writer) { w.object(groups) }},
		{"offsetTable", func(w *writer) { w.object(table) }},
	}, o.Extra)
	return w.b
}

// DecodeDelayOffsets reads the text of a delayOffset.json. An error is an
// *Error.
func DecodeDelayOffsets(data []byte) (DelayOffsets, error) {
	o := DelayOffsets{Table: map[int32]int64{}}
	err := decodeBean(data, &o.DataVersion, &o.Extra, "offsetTable", func(r *reader) (err error) {
		o.Table, err = r.int64s()
		return err
	})
	if err != nil {
		return DelayOffsets{}, err
	}
	return o, nil
}

// Encode returns the text of the file, in the shape that the broker writes.
func (o DelayOffsets) Encode() []byte {
	w := &writer{}
	w.bean([]property{
		{"dataVersion", o.DataVersion.write},
		{"offsetTable", func(w *writer) { w.int64s(o.Table) }},
	}, o.Extra)
	return w.b
}
