// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
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
	// UniqKeys are values of the UNIQ_KEY property, the id that the producer
	// gave; one must be the message's.
	UniqKeys []string
	// Grep are expressions of which one must match the topic, the value of a
	// property, or the body as the producer wrote it. BodyGrep look at the body
	// alone. A body that can't be decompressed is taken as it is stored.
	Grep, BodyGrep []*regexp.Regexp
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
	//
	// Until ends nothing: a clock may have jumped ahead and come back. Files are passed
	// over whose first record, and that of the next file, were stored at Until plus
	// timeindex.SetBack or later. Only Tail, where it follows, ends at the first record
	// of then.
	Since, Until int64
	// Reverse yields the last message first. Everything between the bounds is
	// read twice then, file by file, up to where Limit is reached.
	Reverse bool
	// Limit ends the iteration after that many messages; 0 means none.
	Limit int64
}

// setBack is how much older than a record those behind it may be.
const setBack = int64(timeindex.SetBack / time.Millisecond)

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
	behind int64 // a record stored then or later ends Tail
}

func newMatcher(f Filter) *matcher {
	m := &matcher{Filter: f, topics: make(map[string]bool), behind: math.MaxInt64}
	if f.Until > 0 && f.Until < math.MaxInt64-setBack {
		m.behind = f.Until + setBack
	}
	return m
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
	case len(f.UniqKeys) > 0 && !f.matchUniqKey(m):
		return false
	case len(f.Grep) > 0 || len(f.BodyGrep) > 0:
		return f.matchText(m)
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

func (f *matcher) matchUniqKey(m *message.Message) bool {
	key, _ := m.Properties.Lookup(message.PropertyUniqKey)
	for _, want := range f.UniqKeys {
		if string(key) == want && want != "" {
			return true
		}
	}
	return false
}

// matchText looks into what people wrote. The body comes last: it may have to be
// decompressed.
func (f *matcher) matchText(m *message.Message) bool {
	found := len(f.Grep) == 0 || matchAny(f.Grep, []byte(m.Topic))
	for rest := m.Properties.Encoded(); len(rest) > 0 && !found; {
		var value []byte
		_, value, rest = cutPair(rest)
		found = value != nil && matchAny(f.Grep, value)
	}
	if found && len(f.BodyGrep) == 0 {
		return true
	}
	body := Row{Message: m, Body: BodyPlain}.bytes()
	return (found || matchAny(f.Grep, body)) && (len(f.BodyGrep) == 0 || matchAny(f.BodyGrep, body))
}

func matchAny(patterns []*regexp.Regexp, text []byte) bool {
	for _, p := range patterns {
		if p.Match(text) {
			return true
		}
	}
	return false
}
