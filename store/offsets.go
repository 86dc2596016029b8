// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/topicmeta"
)

// CommitOffset records that a group of consumers has worked through a queue up
// to off: the next message that it wants. It is visible at once and durable
// after Options.OffsetInterval, or SyncOffsets, or Close; a crash in between
// takes the group back to what was durable, and it sees messages again.
//
// With FlushAsync a power cut can take messages that were committed already. Then
// the next Open sets the offset back to the end of its queue, and the group sees
// the messages that take the offsets of the lost ones: see Recovery.Offsets. The
// same happens then to an offset that was committed beyond its queue's end.
func (s *Store) CommitOffset(group, topic string, queue int32, off message.QueueOffset) error {
	return metaError(s.meta.CommitOffset(group, topic, queue, off))
}

// Offset returns what a group committed last, and false when it never did.
func (s *Store) Offset(group, topic string, queue int32) (message.QueueOffset, bool, error) {
	off, ok, err := s.meta.Offset(group, topic, queue)
	return off, ok, metaError(err)
}

// SyncOffsets returns once every offset that was committed before is durable.
func (s *Store) SyncOffsets() error { return metaError(s.meta.Sync()) }

// metaError is an error of the metadata in the store's words.
func metaError(err error) error {
	switch {
	case errors.Is(err, topicmeta.ErrClosed):
		return ErrClosed
	case topicmeta.IsFull(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// Meta is the store's metadata: groups and their offsets, import from and
// export to a broker's files. It belongs to the Store, which closes it. Declare
// topics with PutTopic instead of there, so that appends heed it at once; after
// an import call TopicsChanged.
func (s *Store) Meta() *topicmeta.Store { return s.meta }

// TopicsChanged makes appends heed declarations that were changed through Meta.
func (s *Store) TopicsChanged() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.table.version.Add(1)
	clear(s.table.states)
}

// mergeTopics adds what only has queues to what is declared.
func mergeTopics(declared []topicmeta.Topic, queues []*consumequeue.Queue) []topicmeta.Topic {
	known := make(map[string]bool, len(declared))
	for _, t := range declared {
		known[t.Name] = true
	}
	count := map[string]int32{}
	for _, q := range queues {
		if q.Max() > 0 && !known[q.Topic()] {
			count[q.Topic()] = max(count[q.Topic()], q.ID()+1)
		}
	}
	all := slices.Clone(declared)
	for name, n := range count {
		all = append(all, topicmeta.Topic{
			Name: name, ReadQueues: n, WriteQueues: n, Perm: topicmeta.PermRead | topicmeta.PermWrite,
		})
	}
	slices.SortFunc(all, func(a, b topicmeta.Topic) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ExportConfig writes topics.json, consumerOffset.json, delayOffset.json and, when
// messages have waited for a time of their own, timercheck for a broker into dir;
// see topicmeta.Store.ExportDir. Topics that were never declared are written with
// as many queues as they have: a broker does not serve a topic that its file
// doesn't name, so one of which messages only wait must have been declared.
//
// The log is flushed first, and what was delivered until then is told. What is
// delivered between that and Close, a broker delivers again: to exclude that, export
// from a store that was closed in order and opened again with DelayOptions.Off.
func (s *Store) ExportConfig(dir string) error {
	if d := s.delayed.Load(); d != nil {
		if err := s.keepLatestDelay(d); err != nil {
			return s.storeError(err)
		}
	}
	topics, err := s.Topics()
	if err != nil {
		return err
	}
	if err := s.meta.ExportDir(dir, topics...); err != nil {
		return err
	}
	return s.exportTimers(dir)
}
