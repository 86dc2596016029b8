// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/message"
)

// ImportOptions say what an import does with what is there already.
type ImportOptions struct {
	// Overwrite lets an imported value replace another one; otherwise the Store's
	// value is kept. Nothing is ever deleted.
	Overwrite bool
}

// ImportReport says what an import did.
type ImportReport struct {
	Topics  ImportCount
	Offsets ImportCount // one per group, topic and queue
	Delays  ImportCount // one per delay level
	// Skipped lists what the broker's files hold and the Store cannot.
	// It is sorted by What.
	Skipped []Skipped
	// Sources are the files that were read, by ImportDir only. An entry with
	// Passed set means that a .bak stood in.
	Sources []brokerconfig.Source
}

// ImportCount counts the values of one kind.
type ImportCount struct {
	Added    int
	Replaced int
	Kept     int // the Store had one already: the same, or Overwrite is not set
}

// Skipped is one entry that was not imported.
type Skipped struct {
	What   string // as it stands in the file
	Reason error  // wraps ErrInvalid
}

func (r *ImportReport) skip(reason error, format string, args ...any) {
	r.Skipped = append(r.Skipped, Skipped{fmt.Sprintf(format, args...), reason})
}

// count decides about one value and counts it.
func (c *ImportCount) count(there, same bool, o ImportOptions) (take bool) {
	switch {
	case !there:
		c.Added++
		return true
	case same || !o.Overwrite:
		c.Kept++
		return false
	}
	c.Replaced++
	return true
}

// ImportDir imports topics.json, consumerOffset.json and delayOffset.json from a
// broker's config directory, or their .bak files where the broker would take
// those. A file that is missing imports nothing. All files are read before
// anything is changed, and all changes are durable, together, when ImportDir
// returns nil. The files are not changed.
func (s *Store) ImportDir(configDir string, o ImportOptions) (ImportReport, error) {
	topics, source1, err1 := brokerconfig.ReadTopics(configDir)
	offsets, source2, err2 := brokerconfig.ReadConsumerOffsets(configDir)
	delays, source3, err3 := brokerconfig.ReadDelayOffsets(configDir)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return ImportReport{}, fmt.Errorf("topicmeta: import: %w", err)
		}
	}
	r, err := s.importAll(&topics, &offsets, &delays, o)
	for _, source := range []brokerconfig.Source{source1, source2, source3} {
		if source.Path != "" {
			r.Sources = append(r.Sources, source)
		}
	}
	return r, err
}

// ImportTopics imports a topic table. It is durable when ImportTopics returns
// nil.
func (s *Store) ImportTopics(t brokerconfig.Topics, o ImportOptions) (ImportReport, error) {
	return s.importAll(&t, nil, nil, o)
}

// ImportOffsets imports consumer offsets. It is durable when ImportOffsets
// returns nil.
func (s *Store) ImportOffsets(t brokerconfig.ConsumerOffsets, o ImportOptions) (ImportReport, error) {
	return s.importAll(nil, &t, nil, o)
}

// ImportDelayOffsets imports delay progress. It is durable when
// ImportDelayOffsets returns nil.
func (s *Store) ImportDelayOffsets(t brokerconfig.DelayOffsets, o ImportOptions) (ImportReport, error) {
	return s.importAll(nil, nil, &t, o)
}

func (s *Store) importAll(topics *brokerconfig.Topics, offsets *brokerconfig.ConsumerOffsets,
	delays *brokerconfig.DelayOffsets, o ImportOptions) (ImportReport, error) {
	var r ImportReport
	err := s.update(func() {
		if topics != nil {
			s.importTopics(topics, o, &r)
		}
		if offsets != nil {
			s.importOffsets(offsets, o, &r)
		}
		if delays != nil {
			s.importDelays(delays, o, &r)
		}
	})
	if err != nil {
		return ImportReport{}, err
	}
	slices.SortFunc(r.Skipped, func(a, b Skipped) int { return strings.Compare(a.What, b.What) })
	return r, s.Sync()
}

// The three below run under mu.

func (s *Store) importTopics(in *brokerconfig.Topics, o ImportOptions, r *ImportReport) {
	topics := *s.topics.Load()
	var list []*Topic
	for name, entry := range in.Table {
		t, err := fromBroker(name, entry)
		if err != nil {
			r.skip(err, "topic %q", name)
			continue
		}
		old := topics[name]
		if r.Topics.count(old != nil, old != nil && old.equal(t), o) {
			list = append(list, t.own())
		}
	}
	if len(list) > 0 {
		s.putTopics(list...)
	}
	for name := range in.Extra {
		r.skip(invalid("unknown field"), "field %q of the topic table", name)
	}
}

func (s *Store) importOffsets(in *brokerconfig.ConsumerOffsets, o ImportOptions, r *ImportReport) {
	for gt, queues := range in.Table {
		for queue, off := range queues {
			err := checkOffsetKey(gt.Group, gt.Topic, queue)
			if err == nil && off < 0 {
				err = invalid("offset %d is negative", off)
			}
			if err != nil {
				r.skip(err, "offset %d of %q queue %d", off, gt.Topic+"@"+gt.Group, queue)
				continue
			}
			k := offsetKey{gt.Group, queueKey{gt.Topic, queue}}
			p := s.offsets[k.group][k.queueKey]
			if !r.Offsets.count(p != nil, p != nil && int64(p.off) == off, o) {
				continue
			}
			if p == nil {
				p = s.setProgress(k, 0)
			}
			p.off = message.QueueOffset(off)
			s.dirty.offset(p)
		}
	}
	for key := range in.Other {
		r.skip(invalid("not one topic and one group"), "offsets of %q", key)
	}
	for name := range in.Extra {
		r.skip(invalid("unknown field"), "field %q of the consumer offsets", name)
	}
}

func (s *Store) importDelays(in *brokerconfig.DelayOffsets, o ImportOptions, r *ImportReport) {
	for level, off := range in.Table {
		if err := checkDelay(int(level), message.QueueOffset(off)); err != nil {
			r.skip(err, "offset %d of delay level %d", off, level)
			continue
		}
		old, there := s.delays[level]
		if r.Delays.count(there, int64(old) == off, o) {
			s.setDelay(level, message.QueueOffset(off))
		}
	}
	for name := range in.Extra {
		r.skip(invalid("unknown field"), "field %q of the delay offsets", name)
	}
}

func fromBroker(name string, b brokerconfig.Topic) (Topic, error) {
	filter, err := parseFilterType(b.FilterType)
	if err != nil {
		return Topic{}, err
	}
	if b.Perm < 0 || b.Perm > math.MaxUint8 {
		return Topic{}, invalid("permission %d", b.Perm)
	}
	t := Topic{name, b.ReadQueues, b.WriteQueues, Perm(b.Perm), filter, b.SysFlag, b.Order, b.Attributes, b.Extra}
	return t, t.check()
}

func toBroker(t Topic) brokerconfig.Topic {
	return brokerconfig.Topic{
		Name: t.Name, ReadQueues: t.ReadQueues, WriteQueues: t.WriteQueues, Perm: int32(t.Perm),
		FilterType: t.FilterType.String(), SysFlag: t.SysFlag, Order: t.Order,
		Attributes: t.Attributes, Extra: t.Extra,
	}
}
