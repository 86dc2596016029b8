// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/internal/brokerconfig"
)

// version is the data version of a table that was just made from the Store's,
// next after prev.
func (s *Store) version(prev brokerconfig.DataVersion) brokerconfig.DataVersion {
	return brokerconfig.DataVersion{
		Counter:      prev.Counter + 1,
		StateVersion: prev.StateVersion,
		Timestamp:    s.now().UnixMilli(),
	}
}

// ExportTopics returns the topic table as a broker keeps it, with data version
// 1. The maps inside the topics are the Store's: read-only. The only error is
// ErrClosed.
func (s *Store) ExportTopics() (brokerconfig.Topics, error) {
	list, err := s.Topics()
	if err != nil {
		return brokerconfig.Topics{}, err
	}
	out := brokerconfig.Topics{
		DataVersion: s.version(brokerconfig.DataVersion{}),
		Table:       make(map[string]brokerconfig.Topic, len(list)),
	}
	for _, t := range list {
		out.Table[t.Name] = toBroker(t)
	}
	return out, nil
}

// ExportOffsets returns the consumer offsets as a broker keeps them, with data
// version 1. The only error is ErrClosed.
func (s *Store) ExportOffsets() (brokerconfig.ConsumerOffsets, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return brokerconfig.ConsumerOffsets{}, ErrClosed
	}
	out := brokerconfig.ConsumerOffsets{
		DataVersion: s.version(brokerconfig.DataVersion{}),
		Table:       make(map[brokerconfig.GroupTopic]map[int32]int64),
	}
	for group, queues := range s.offsets {
		for k, p := range queues {
			gt := brokerconfig.GroupTopic{Group: group, Topic: k.topic}
			if out.Table[gt] == nil {
				out.Table[gt] = make(map[int32]int64)
			}
			out.Table[gt][k.queue] = int64(p.off)
		}
	}
	return out, nil
}

// ExportDelayOffsets returns the delay progress as a broker keeps it, with data
// version 1. The only error is ErrClosed.
func (s *Store) ExportDelayOffsets() (brokerconfig.DelayOffsets, error) {
	delays, err := s.DelayOffsets()
	if err != nil {
		return brokerconfig.DelayOffsets{}, err
	}
	out := brokerconfig.DelayOffsets{
		DataVersion: s.version(brokerconfig.DataVersion{}),
		Table:       make(map[int32]int64, len(delays)),
	}
	for level, off := range delays {
		out.Table[int32(level)] = int64(off)
	}
	return out, nil
}

// ExportDir writes topics.json, consumerOffset.json and delayOffset.json into a
// broker's config directory, so that a broker can start on it. What the files
// there hold and the Store does not, topics and offsets too, stays: to lose them
// would cut a broker off from its messages. The data versions go on from the
// files'. Each file is replaced durably and as a whole, its predecessor stays as
// .bak; the three are not replaced together. A file that is malformed is
// replaced as if it were missing.
//
// more are topics to write that the Store does not hold; for one that it does,
// its own word counts.
func (s *Store) ExportDir(configDir string, more ...Topic) error {
	topics, err1 := s.ExportTopics()
	offsets, err2 := s.ExportOffsets()
	delays, err3 := s.ExportDelayOffsets()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	oldTopics, _, err1 := brokerconfig.ReadTopics(configDir)
	oldOffsets, _, err2 := brokerconfig.ReadConsumerOffsets(configDir)
	oldDelays, _, err3 := brokerconfig.ReadDelayOffsets(configDir)
	for _, err := range []error{err1, err2, err3} {
		if err != nil && !errors.Is(err, brokerconfig.ErrMalformed) {
			return fmt.Errorf("topicmeta: export: %w", err)
		}
	}
	for _, t := range more {
		add(topics.Table, t.Name, toBroker(t))
	}
	keep(topics.Table, oldTopics.Table)
	keep(delays.Table, oldDelays.Table)
	for gt, old := range oldOffsets.Table {
		add(offsets.Table, gt, map[int32]int64{})
		keep(offsets.Table[gt], old)
	}
	topics.DataVersion, topics.Extra = s.version(oldTopics.DataVersion), oldTopics.Extra
	offsets.DataVersion, offsets.Extra = s.version(oldOffsets.DataVersion), oldOffsets.Extra
	offsets.Other = oldOffsets.Other
	delays.DataVersion, delays.Extra = s.version(oldDelays.DataVersion), oldDelays.Extra
	err := errors.Join(
		brokerconfig.WriteTopics(configDir, topics),
		brokerconfig.WriteConsumerOffsets(configDir, offsets),
		brokerconfig.WriteDelayOffsets(configDir, delays),
	)
	if err != nil {
		return fmt.Errorf("topicmeta: export: %w", err)
	}
	return nil
}

// add puts v in a table that has nothing under k.
func add[K comparable, V any](table map[K]V, k K, v V) {
	if _, ok := table[k]; !ok {
		table[k] = v
	}
}

// keep adds what only the old table has.
func keep[K comparable, V any](table, old map[K]V) {
	for k, v := range old {
		add(table, k, v)
	}
}
