// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/json"
	"maps"
	"slices"
)

// What the Java class gives a topic whose entry leaves a field out
// (TopicConfig.java).
const (
	defaultQueues     = 16
	defaultPerm       = 6
	defaultFilterType = "SINGLE_TAG"
)

// DataVersion is the change counter that every file carries (DataVersion.java).
type DataVersion struct {
	Counter      int64
	StateVersion int64
	Timestamp    int64 // milliseconds since the Unix epoch
}

// Topics is config/topics.json (TopicConfigManager.java).
type Topics struct {
	DataVersion DataVersion
	Table       map[string]Topic // by name
	Extra       map[string]json.RawMessage
}

// Topic is one entry of the topic table (TopicConfig.java).
type Topic struct {
	// Name is the key of the entry. The topicName field inside the entry, which
	// the broker does not look at either when it looks a topic up, is ignored
	// on reading and written as Name.
	Name        string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32  // bits: 8 priority, 4 read, 2 write, 1 inherit
	FilterType  string // SINGLE_TAG or MULTI_TAG
	SysFlag     int32  // bits: 1 unit, 2 unit-sub
	Order       bool
	Attributes  map[string]string
	Extra       map[string]json.RawMessage // fields of a newer broker
}

// DecodeTopics reads the text of a topics.json. An error is an *Error.
func DecodeTopics(data []byte) (Topics, error) {
	t := Topics{Table: map[string]Topic{}}
	err := decodeBean(data, &t.DataVersion, &t.Extra, "topicConfigTable", func(r *reader) error {
		t.Table = map[string]Topic{}
		return r.object(func(name string, at int) error {
			if name == "" {
				return r.fail(at, "topic without a name")
			}
			topic, err := r.topic(name)
			t.Table[name] = topic
			return err
		})
	})
	if err != nil {
		return Topics{}, err
	}
	return t, nil
}

// Encode returns the text of the file, in the shape that the broker writes.
func (t Topics) Encode() []byte {
	w := &writer{}
	table := make([]property, 0, len(t.Table))
	for _, name := range slices.Sorted(maps.Keys(t.Table)) {
		table = append(table, property{name, func(w *writer) { w.topic(name, t.Table[name]) }})
	}
	w.bean([]property{
		{"dataVersion", t.DataVersion.write},
		{"topicConfigTable", func(w *writer) { w.object(table) }},
	}, t.Extra)
	return w.b
}

func (r *reader) topic(name string) (Topic, error) {
	t := Topic{
		Name: name, ReadQueues: defaultQueues, WriteQueues: defaultQueues,
		Perm: defaultPerm, FilterType: defaultFilterType,
	}
	err := r.object(func(key string, _ int) (err error) {
		if r.null() { // leaves the Java field as the constructor set it
			return nil
		}
		switch key {
		case "attributes":
			t.Attributes, err = r.attributes()
		case "order":
			t.Order, err = r.boolean()
		case "perm":
			t.Perm, err = r.int32()
		case "readQueueNums":
			t.ReadQueues, err = r.int32()
		case "topicFilterType":
			t.FilterType, err = r.str()
		case "topicName":
			_, err = r.str()
		case "topicSysFlag":
			t.SysFlag, err = r.int32()
		case "writeQueueNums":
			t.WriteQueues, err = r.int32()
		default:
			err = r.keepAs(&t.Extra, key)
		}
		return err
	})
	return t, err
}

func (w *writer) topic(name string, t Topic) {
	attributes := make([]property, 0, len(t.Attributes))
	for _, k := range slices.Sorted(maps.Keys(t.Attributes)) {
		attributes = append(attributes, text(k, t.Attributes[k]))
	}
	w.bean([]property{
		{"attributes", func(w *writer) { w.object(attributes) }},
		boolean("order", t.Order),
		number("perm", int64(t.Perm)),
		number("readQueueNums", int64(t.ReadQueues)),
		text("topicFilterType", t.FilterType),
		text("topicName", name),
		number("topicSysFlag", int64(t.SysFlag)),
		number("writeQueueNums", int64(t.WriteQueues)),
	}, t.Extra)
}

func (r *reader) attributes() (map[string]string, error) {
	m := make(map[string]string)
	err := r.object(func(key string, at int) (err error) {
		if key == "$ref" {
			// fastjson's way to say "the same object as there". The broker never
			// shares a map between topics, so this is not resolved, only noticed.
			return r.fail(at, "attributes refer to another object ($ref)")
		}
		m[key], err = r.str()
		return err
	})
	return m, err
}

func (r *reader) int32() (int32, error) {
	v, err := r.integer(32)
	return int32(v), err
}

func (r *reader) keepAs(extra *map[string]json.RawMessage, key string) error {
	value, err := r.keep()
	if err != nil {
		return err
	}
	if *extra == nil {
		*extra = make(map[string]json.RawMessage)
	}
	(*extra)[key] = value
	return nil
}

// decodeBean reads a whole text: an object with a data version, one table, and
// fields to keep. A table that is null is refused as the broker refuses it.
func decodeBean(data []byte, v *DataVersion, extra *map[string]json.RawMessage,
	tableName string, table func(*reader) error) error {
	r := &reader{b: data}
	r.word("\ufeff") // fastjson skips a byte order mark
	err := r.object(func(key string, _ int) error {
		switch key {
		case "dataVersion":
			return r.dataVersion(v)
		case tableName:
			return table(r)
		default:
			return r.keepAs(extra, key)
		}
	})
	if err != nil {
		return err
	}
	return r.end()
}

func (r *reader) dataVersion(v *DataVersion) error {
	if r.null() {
		return nil
	}
	return r.object(func(key string, _ int) (err error) {
		switch key {
		case "counter":
			v.Counter, err = r.integer(64)
		case "stateVersion":
			v.StateVersion, err = r.integer(64)
		case "timestamp":
			v.Timestamp, err = r.integer(64)
		default:
			_, err = r.keep()
		}
		return err
	})
}

func (v DataVersion) write(w *writer) {
	w.object([]property{
		number("counter", v.Counter),
		number("stateVersion", v.StateVersion),
		number("timestamp", v.Timestamp),
	})
}
