// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"maps"
	"slices"
)

// Topic returns a topic's settings, and false if there is no such topic. It is
// made for the append path: no lock, no allocation. The only error is ErrClosed.
func (s *Store) Topic(name string) (Topic, bool, error) {
	if s.closed.Load() {
		return Topic{}, false, ErrClosed
	}
	t := (*s.topics.Load())[name]
	if t == nil {
		return Topic{}, false, nil
	}
	return *t, true, nil
}

// Topics returns all topics, sorted by name. The only error is ErrClosed.
func (s *Store) Topics() ([]Topic, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	topics := *s.topics.Load()
	list := make([]Topic, 0, len(topics))
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		list = append(list, *topics[name])
	}
	return list, nil
}

// Put creates or replaces a topic. It is visible at once, and durable when Put
// returns nil. The error wraps ErrInvalid if t breaks a limit (nothing changed),
// or ErrFailed if it could not be made durable.
func (s *Store) Put(t Topic) error {
	if err := t.checkNew(); err != nil {
		return err
	}
	if err := s.update(func() { s.putTopics(t.own()) }); err != nil {
		return err
	}
	return s.Sync()
}

// Ensure returns the topic, and creates it if it is missing, with so many read
// and write queues, permission to read and write, and the defaults otherwise. It
// never waits for the disk: a topic that it created is durable after the next
// Sync. The error wraps ErrInvalid if the name or queues break a limit.
func (s *Store) Ensure(name string, queues int32) (t Topic, created bool, err error) {
	if t, ok, err := s.Topic(name); ok || err != nil {
		return t, false, err
	}
	t = Topic{Name: name, ReadQueues: queues, WriteQueues: queues, Perm: PermRead | PermWrite}
	if err := t.checkNew(); err != nil {
		return Topic{}, false, err
	}
	err = s.update(func() {
		if other := (*s.topics.Load())[name]; other != nil {
			t = *other // somebody was faster
			return
		}
		mine := t.own()
		s.putTopics(mine)
		t, created = *mine, true
	})
	if err != nil {
		return Topic{}, false, err
	}
	return t, created, nil
}

// Delete removes a topic. The offsets of its consumers stay; see DeleteOffsets.
// It is durable when Delete returns nil. To delete what is not there is no error.
func (s *Store) Delete(name string) error {
	err := s.update(func() {
		topics := *s.topics.Load()
		if topics[name] == nil {
			return
		}
		topics = maps.Clone(topics)
		s.dirty.topic(topics[name].Name)
		delete(topics, name)
		s.topics.Store(&topics)
	})
	if err != nil {
		return err
	}
	return s.Sync()
}

// update runs change under mu, unless changes are refused.
func (s *Store) update(change func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	change()
	return nil
}

// putTopics publishes topics that the Store owns. The caller holds mu.
func (s *Store) putTopics(list ...*Topic) {
	topics := maps.Clone(*s.topics.Load())
	for _, t := range list {
		topics[t.Name] = t
		s.dirty.topic(t.Name)
	}
	s.topics.Store(&topics)
}
