// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"fmt"
	"path"
	"slices"

	"github.com/stelelog/stele/message"
)

// Filter says which messages are wanted. Each field that is set narrows the
// choice; the zero value takes everything.
type Filter struct {
	// Topics are names or patterns in the syntax of path.Match (*, ?, [a-z]);
	// one must match.
	Topics []string
	// Queues are queue ids; one must be the message's.
	Queues []int32
	// Tags are values of the TAGS property; one must be the message's, whole.
	Tags []string
	// Keys are words of the KEYS property; one must be among the message's.
	Keys []string
	// From and To bound the physical offset of the record: From ≤ offset < To.
	// To 0 means the end of the log. From need not be the start of a record.
	From, To message.Offset
	// Since and Until bound the store time: Since ≤ time < Until, in
	// milliseconds since the Unix epoch. 0 means no bound.
	//
	// The iteration begins at the first record, by place, that was stored at Since
	// or later, where the time index of the store tells that; without one, files
	// are passed over whose first records tell that all of them is older, or
	// newer, taking store times to grow from file to file within
	// timeindex.SetBack.
	Since, Until int64
	// Limit ends the iteration after that many messages; 0 means none.
	Limit int64
}

// Validate returns an error for a pattern or a bound that makes no sense.
func (f *Filter) Validate() error {
	for _, p := range f.Topics {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("topic pattern %q: %w", p, err)
		}
	}
	switch {
	case f.From < 0 || f.To < 0:
		return fmt.Errorf("negative offset: from %d to %d", f.From, f.To)
	case f.To > 0 && f.To < f.From:
		return fmt.Errorf("to %d lies before from %d", f.To, f.From)
	case f.Until > 0 && f.Until < f.Since:
		return fmt.Errorf("until lies before since")
	case f.Limit < 0:
		return fmt.Errorf("negative limit %d", f.Limit)
	}
	return nil
}

// matcher is a Filter made ready for one iteration. Topics are few and
// patterns are slow, so it remembers which topics match.
type matcher struct {
	Filter
	topics map[string]bool
}

func newMatcher(f Filter) *matcher {
	return &matcher{Filter: f, topics: make(map[string]bool)}
}

func (f *matcher) match(m *message.Message) bool {
	switch {
	case m.PhysicalOffset < f.From:
		return false
	case f.Since > 0 && m.StoreTimestamp < f.Since, f.Until > 0 && m.StoreTimestamp >= f.Until:
		return false
	case len(f.Queues) > 0 && !slices.Contains(f.Queues, m.QueueID):
		return false
	case len(f.Topics) > 0 && !f.matchTopic(m.Topic):
		return false
	case len(f.Tags) > 0 && !f.matchTag(m):
		return false
	case len(f.Keys) > 0 && !f.matchKey(m):
		return false
	}
	return true
}

func (f *matcher) matchTopic(topic string) bool {
	ok, known := f.topics[topic]
	if known {
		return ok
	}
	for _, p := range f.Topics {
		if ok, _ = path.Match(p, topic); ok {
			break
		}
	}
	f.topics[topic] = ok
	return ok
}

func (f *matcher) matchTag(m *message.Message) bool {
	tags, _ := m.Properties.Lookup(message.PropertyTags)
	for _, want := range f.Tags {
		if string(tags) == want {
			return true
		}
	}
	return false
}

func (f *matcher) matchKey(m *message.Message) bool {
	keys, _ := m.Properties.Lookup(message.PropertyKeys)
	for len(keys) > 0 {
		var key []byte
		key, keys, _ = bytes.Cut(keys, []byte{' '})
		for _, want := range f.Keys {
			if string(key) == want && want != "" {
				return true
			}
		}
	}
	return false
}
