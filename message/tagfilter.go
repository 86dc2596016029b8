// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"slices"
	"strings"
)

// TagFilter is a choice of messages by their tag. The zero value takes every message, also
// one without a tag. It is immutable and safe for concurrent use.
type TagFilter struct {
	tags  []string // sorted; none takes everything
	codes []int32  // their hashes, in the same order
}

// ParseTagFilter reads a tag expression: tags with `||` between them, a message matches one
// of them. `*` and the empty text take every message. Blanks around a tag and parts that
// are blank don't count, as in RocketMQ's FilterAPI.java.
//
// The error wraps ErrTagExpression and names the part. Three things that RocketMQ takes for
// tags, or for an expression that nothing matches, are errors, since nobody who writes them
// gets what he means: a `*` beside tags, a single `|`, and blanks alone. FilterTags has no
// such rules.
func ParseTagFilter(expression string) (TagFilter, error) {
	blank := func(r rune) bool { return r <= ' ' } // String.trim of Java
	switch expression {
	case "", "*":
		return TagFilter{}, nil
	}
	bad := func(format string, args ...any) (TagFilter, error) {
		return TagFilter{}, fmt.Errorf("%w %q: %s", ErrTagExpression, expression, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(expression, "||")
	tags := make([]string, 0, len(parts))
	for i, part := range parts {
		tag := strings.TrimFunc(part, blank)
		switch {
		case tag == "":
			continue
		case tag == "*" && len(parts) == 1:
			return TagFilter{}, nil
		case tag == "*":
			return bad("part %d is a *, which takes everything and stands alone", i+1)
		case strings.Contains(tag, "|"):
			return bad("part %d, %q, has a single |; between tags stands ||", i+1, tag)
		case strings.ContainsRune(tag, valueEnd):
			return bad("part %d, %q, has a byte 0x02, which no tag can have", i+1, tag)
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return bad("it names no tag; * takes everything")
	}
	return FilterTags(tags...), nil
}

// FilterTags is a TagFilter that takes the messages whose tag is one of tags, whole; with
// none, every message. No message has an empty tag.
func FilterTags(tags ...string) TagFilter {
	if len(tags) == 0 {
		return TagFilter{}
	}
	tags = slices.Clone(tags)
	slices.Sort(tags)
	f := TagFilter{tags: slices.Compact(tags)}
	for _, tag := range f.tags {
		f.codes = append(f.codes, HashString(tag))
	}
	return f
}

// All reports whether every message is taken.
func (f TagFilter) All() bool { return len(f.tags) == 0 }

// Tags returns the tags that are taken, sorted; none when All. The slice must not be
// changed.
func (f TagFilter) Tags() []string { return f.tags }

// String returns an expression for the filter.
func (f TagFilter) String() string {
	if f.All() {
		return "*"
	}
	return strings.Join(f.tags, " || ")
}

// MayMatch reports whether the message of a queue entry with that tags code can be one that
// is taken. Different tags can have the same code, so Match has the last word. A code that
// is no 32-bit number is no hash: RocketMQ's consume queue extension keeps an address there
// and its delay topic a time of delivery. Then only the message tells.
func (f TagFilter) MayMatch(code int64) bool {
	return f.All() || code != int64(int32(code)) || slices.Contains(f.codes, int32(code))
}

// Match reports whether m is taken: its whole TAGS property is one of the tags. It does not
// allocate.
func (f TagFilter) Match(m *Message) bool {
	if f.All() {
		return true
	}
	tag, ok := m.Properties.Lookup(PropertyTags)
	if !ok {
		return false
	}
	for _, want := range f.tags {
		if string(tag) == want {
			return true
		}
	}
	return false
}
