// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stelelog/stele/message"
)

// progress is a group's next queue offset on one queue. It has its own key
// because the names that a caller passes may be views into a mapped file.
type progress struct {
	key     offsetKey
	off     message.QueueOffset
	dirty   bool // is in dirty.offsets
	deleted bool // is no longer in the table
}

// GroupOffset is a group's progress on one queue.
type GroupOffset struct {
	Topic  string
	Queue  int32
	Offset message.QueueOffset // read next
}

// CommitOffset sets the queue offset that the group reads next. It may go back.
// It is visible at once, never waits for the disk, and allocates only for a
// queue's first commit. It is durable after the next Sync: until then a crash of
// the process undoes it. The error wraps ErrInvalid if a name, the queue or the
// offset breaks a limit; otherwise it is why the Store takes no changes.
func (s *Store) CommitOffset(group, topic string, queue int32, off message.QueueOffset) error {
	if off < 0 {
		return invalid("offset %d is negative", off)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	p := s.offsets[group][queueKey{topic, queue}]
	if p == nil {
		if err := checkOffsetKey(group, topic, queue); err != nil {
			return err
		}
		p = s.setProgress(offsetKey{strings.Clone(group), queueKey{strings.Clone(topic), queue}}, off)
	} else if p.off == off {
		return nil
	}
	p.off = off
	s.dirty.offset(p)
	return nil
}

func checkOffsetKey(group, topic string, queue int32) error {
	if queue < 0 {
		return invalid("queue %d is negative", queue)
	}
	if err := checkName("group", group); err != nil {
		return err
	}
	return checkName("topic", topic)
}

// setProgress makes an entry of the table. k must be the Store's own.
func (s *Store) setProgress(k offsetKey, off message.QueueOffset) *progress {
	queues := s.offsets[k.group]
	if queues == nil {
		queues = make(map[queueKey]*progress)
		s.offsets[k.group] = queues
	}
	p := &progress{key: k, off: off}
	queues[k.queueKey] = p
	return p
}

// Offset returns the queue offset that the group reads next, and false if it
// never committed one. The only error is ErrClosed.
func (s *Store) Offset(group, topic string, queue int32) (message.QueueOffset, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return 0, false, ErrClosed
	}
	p := s.offsets[group][queueKey{topic, queue}]
	if p == nil {
		return 0, false, nil
	}
	return p.off, true, nil
}

// Offsets returns a group's progress, sorted by topic and queue. The only error
// is ErrClosed.
func (s *Store) Offsets(group string) ([]GroupOffset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	list := make([]GroupOffset, 0, len(s.offsets[group]))
	for k, p := range s.offsets[group] {
		list = append(list, GroupOffset{k.topic, k.queue, p.off})
	}
	slices.SortFunc(list, func(a, b GroupOffset) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	return list, nil
}

// Groups returns the names of the groups that committed an offset, sorted. The
// only error is ErrClosed.
func (s *Store) Groups() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	return slices.Sorted(maps.Keys(s.offsets)), nil
}

// DeleteGroup forgets a group's progress on all topics. It is durable when
// DeleteGroup returns nil.
func (s *Store) DeleteGroup(group string) error {
	return s.deleteOffsets(func(k offsetKey) bool { return k.group == group })
}

// DeleteOffsets forgets the progress of all groups on a topic. It is durable
// when DeleteOffsets returns nil.
func (s *Store) DeleteOffsets(topic string) error {
	return s.deleteOffsets(func(k offsetKey) bool { return k.topic == topic })
}

func (s *Store) deleteOffsets(match func(offsetKey) bool) error {
	err := s.update(func() {
		for group, queues := range s.offsets {
			for k, p := range queues {
				if !match(p.key) {
					continue
				}
				delete(queues, k)
				p.deleted = true
				s.dirty.offset(p)
			}
			if len(queues) == 0 {
				delete(s.offsets, group)
			}
		}
	})
	if err != nil {
		return err
	}
	return s.Sync()
}

// SetDelayOffset sets the next queue offset of a delay level, from 1, in the
// queue of the delay topic that the level has. It behaves as CommitOffset.
func (s *Store) SetDelayOffset(level int, off message.QueueOffset) error {
	if err := checkDelay(level, off); err != nil {
		return err
	}
	return s.update(func() { s.setDelay(int32(level), off) })
}

func checkDelay(level int, off message.QueueOffset) error {
	switch {
	case level < 1 || level > MaxQueues:
		return invalid("delay level %d, limits 1 and %d", level, MaxQueues)
	case off < 0:
		return invalid("offset %d of delay level %d is negative", off, level)
	}
	return nil
}

func (s *Store) setDelay(level int32, off message.QueueOffset) {
	if old, ok := s.delays[level]; ok && old == off {
		return
	}
	s.delays[level] = off
	s.dirty.delay(level)
}

// DelayOffsets returns the progress of the delay levels, as a copy. The only
// error is ErrClosed.
func (s *Store) DelayOffsets() (map[int]message.QueueOffset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	m := make(map[int]message.QueueOffset, len(s.delays))
	for level, off := range s.delays {
		m[int(level)] = off
	}
	return m, nil
}
