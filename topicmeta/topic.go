// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/stelelog/stele/message"
)

// Perm says what a topic's queues allow (PermName.java).
type Perm uint8

// The bits of Perm.
const (
	PermInherit  Perm = 1 // a new topic may copy this one's settings
	PermWrite    Perm = 2
	PermRead     Perm = 4
	PermPriority Perm = 8

	permAll = PermInherit | PermWrite | PermRead | PermPriority
)

// String returns the bits as "PRWX" with '-' for a bit that is not set.
func (p Perm) String() string {
	b := [4]byte{'P', 'R', 'W', 'X'}
	for i, bit := range []Perm{PermPriority, PermRead, PermWrite, PermInherit} {
		if p&bit == 0 {
			b[i] = '-'
		}
	}
	return string(b[:])
}

// FilterType says how many tags a message of the topic has (TopicFilterType.java).
type FilterType uint8

// The filter types.
const (
	SingleTag FilterType = iota
	MultiTag
)

var filterNames = [...]string{SingleTag: "SINGLE_TAG", MultiTag: "MULTI_TAG"}

// String returns RocketMQ's name of the type.
func (f FilterType) String() string {
	if int(f) < len(filterNames) {
		return filterNames[f]
	}
	return fmt.Sprintf("FilterType(%d)", uint8(f))
}

func parseFilterType(name string) (FilterType, error) {
	for f, n := range filterNames {
		if n == name {
			return FilterType(f), nil
		}
	}
	return 0, invalid("filter type %q", name)
}

const (
	// MaxNameLen is the longest name of a topic or group, in bytes: a topic
	// becomes the name of a directory, and the key layout has one byte for it.
	MaxNameLen = 255
	// MaxQueues is the largest number of read or write queues of a topic. Each
	// queue is a directory with at least one mapped file.
	MaxQueues = 65536
)

// Topic is one topic's settings (TopicConfig.java). A Topic that the Store
// returned shares Attributes and Extra with the Store: they are read-only.
type Topic struct {
	Name        string
	ReadQueues  int32 // queues 0..ReadQueues-1 may be fetched from
	WriteQueues int32 // queues 0..WriteQueues-1 may be appended to
	Perm        Perm
	FilterType  FilterType
	SysFlag     int32 // bits: 1 unit, 2 unit-sub
	Order       bool
	Attributes  map[string]string
	// Extra holds the fields of a broker's topics.json that this version does
	// not know, for the way back.
	Extra map[string]json.RawMessage
}

// check says what is wrong with a topic that is to be stored. The rules for the
// name are those of checkName; Put and Ensure ask for more.
func (t Topic) check() error {
	if err := checkName("topic", t.Name); err != nil {
		return err
	}
	switch {
	case t.ReadQueues < 0 || t.ReadQueues > MaxQueues:
		return invalid("topic %q: %d read queues, limits 0 and %d", t.Name, t.ReadQueues, MaxQueues)
	case t.WriteQueues < 0 || t.WriteQueues > MaxQueues:
		return invalid("topic %q: %d write queues, limits 0 and %d", t.Name, t.WriteQueues, MaxQueues)
	case t.Perm&^permAll != 0:
		return invalid("topic %q: permission %d has bits outside %d", t.Name, t.Perm, permAll)
	case int(t.FilterType) >= len(filterNames):
		return invalid("topic %q: %v", t.Name, t.FilterType)
	}
	for k, v := range t.Attributes {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("topic %q: attribute %q=%q is empty or not UTF-8", t.Name, k, v)
		}
	}
	return nil
}

// checkName holds what every name must be that is kept here: brokers create
// topics of their own that CheckTopic would refuse (the broker's name is one),
// and they must survive an import. '@' divides topic and group in a broker's
// file, '/' divides directories.
func checkName(kind, name string) error {
	switch {
	case name == "":
		return invalid("%s without a name", kind)
	case len(name) > MaxNameLen:
		return invalid("%s name of %d bytes, limit %d", kind, len(name), MaxNameLen)
	case !utf8.ValidString(name) || strings.ContainsAny(name, "@/\x00") || name == "." || name == "..":
		return invalid("%s name %q", kind, name)
	}
	return nil
}

// checkNew holds what a topic must be that is created here.
func (t Topic) checkNew() error {
	if err := message.CheckTopic(t.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return t.check()
}

// own returns a copy that shares nothing with the caller: names can be views
// into a mapped file.
func (t Topic) own() *Topic {
	t.Name = strings.Clone(t.Name)
	t.Attributes = maps.Clone(t.Attributes)
	t.Extra = maps.Clone(t.Extra)
	return &t
}

func (t Topic) equal(o Topic) bool {
	return t.Name == o.Name && t.ReadQueues == o.ReadQueues && t.WriteQueues == o.WriteQueues &&
		t.Perm == o.Perm && t.FilterType == o.FilterType && t.SysFlag == o.SysFlag && t.Order == o.Order &&
		maps.Equal(t.Attributes, o.Attributes) &&
		maps.EqualFunc(t.Extra, o.Extra, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// topicValue is the stored form of a topic. The name is the key.
type topicValue struct {
	ReadQueues  int32                      `json:"readQueues"`
	WriteQueues int32                      `json:"writeQueues"`
	Perm        Perm                       `json:"perm"`
	FilterType  FilterType                 `json:"filterType"`
	SysFlag     int32                      `json:"sysFlag"`
	Order       bool                       `json:"order"`
	Attributes  map[string]string          `json:"attributes,omitempty"`
	Extra       map[string]json.RawMessage `json:"extra,omitempty"`
}

func encodeTopic(t *Topic) ([]byte, error) {
	return json.Marshal(topicValue{t.ReadQueues, t.WriteQueues, t.Perm, t.FilterType,
		t.SysFlag, t.Order, t.Attributes, t.Extra})
}

func decodeTopic(name string, value []byte) (*Topic, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	// A field that is not known would be lost when the topic is written again; a
	// layout that has more fields has another version in the marker.
	d.DisallowUnknownFields()
	var v topicValue
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one value")
	}
	t := &Topic{name, v.ReadQueues, v.WriteQueues, v.Perm, v.FilterType, v.SysFlag, v.Order, v.Attributes, v.Extra}
	return t, t.check()
}
