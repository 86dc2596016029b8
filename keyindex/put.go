// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/stelelog/stele/message"
)

// Put enters a record under its UNIQ_KEY and each word of its KEYS, unless it is
// a rollback. Records come in the order of the log, by one writer. What is there
// already is not entered again: a record below the last one, and of the last one
// the keys that it has. So a Put that failed for want of space (it wraps
// mappedfile.ErrDiskFull) can be repeated. Nothing of m is kept.
func (s *Set) Put(m *message.Message) error {
	if m.PhysicalOffset < s.lastOffset || m.SysFlag.Transaction() == message.TransactionRollback {
		return nil
	}
	if !s.recovered {
		return fmt.Errorf("%s: %w", s.o.Dir, ErrNotRecovered)
	}
	n := 0
	if m.PhysicalOffset == s.lastOffset {
		n = s.lastCount
	}
	if m.Topic != s.topic || s.topicHash == 0 { // records come in runs
		s.topic, s.topicHash = strings.Clone(m.Topic), message.HashString(m.Topic+"#")
	}
	return eachKey(m, func(key []byte) error {
		if n > 0 { // it was entered before
			n--
			return nil
		}
		return s.enter(m, key)
	})
}

// eachKey calls do for the keys of a record, in the order of their entries.
func eachKey(m *message.Message, do func(key []byte) error) error {
	_, uniq, keys := m.Properties.Indexed()
	if len(uniq) > 0 {
		if err := do(uniq); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		var key []byte
		if key, keys, _ = bytes.Cut(keys, space); len(key) == 0 {
			continue
		}
		if err := do(key); err != nil {
			return err
		}
	}
	return nil
}

var space = []byte{' '}

// enter puts one key of m, whose topic is s.topic.
func (s *Set) enter(m *message.Message, key []byte) error {
	if s.tail == nil || s.image.Full() {
		if err := s.roll(); err != nil {
			return fmt.Errorf("key index: %w", err)
		}
	}
	if err := s.tail.put(s.image, positive(message.HashOn(s.topicHash, key)), m.PhysicalOffset, m.StoreTimestamp); err != nil {
		return fmt.Errorf("key index: %w", err)
	}
	if m.PhysicalOffset != s.lastOffset {
		s.lastOffset, s.lastCount = m.PhysicalOffset, 0
	}
	s.lastCount++
	return nil
}

// HasKey reports whether a message has a key: as its UNIQ_KEY with unique, else
// as that or as one of its KEYS.
func HasKey(m *message.Message, key string, unique bool) bool {
	if uniq, ok := m.Properties.Lookup(message.PropertyUniqKey); ok && string(uniq) == key {
		return true
	}
	if unique || key == "" {
		return false
	}
	keys, _ := m.Properties.Lookup(message.PropertyKeys)
	for len(keys) > 0 {
		var word []byte
		word, keys, _ = bytes.Cut(keys, space)
		if string(word) == key {
			return true
		}
	}
	return false
}
