// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stelelog/stele/message"
)

// dirty names what changed in memory since the last commit. What it became is
// read from the tables when the commit is made: a queue that was committed a
// thousand times is one entry to write.
type dirty struct {
	topics  map[string]struct{}
	offsets []*progress // in the order of the changes; one deleted may have a successor
	delays  map[int32]struct{}
	timer   bool
}

func (d *dirty) topic(name string) {
	if d.topics == nil {
		d.topics = make(map[string]struct{})
	}
	d.topics[name] = struct{}{}
}

func (d *dirty) offset(p *progress) {
	if !p.dirty {
		p.dirty = true
		d.offsets = append(d.offsets, p)
	}
}

func (d *dirty) delay(level int32) {
	if d.delays == nil {
		d.delays = make(map[int32]struct{})
	}
	d.delays[level] = struct{}{}
}

// changes are the values of what was dirty, taken under mu, so that they can be
// encoded and written without it.
type changes struct {
	topics  map[string]*Topic // nil: deleted
	offsets []offsetChange
	delays  map[int32]message.QueueOffset
	timer   *TimerProgress
}

type offsetChange struct {
	key     offsetKey
	off     message.QueueOffset
	deleted bool
}

// take moves what is dirty, or all there is, into changes.
func (s *Store) take(all bool) changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	topics := *s.topics.Load()
	if all {
		s.soil()
	}
	c := changes{
		topics:  make(map[string]*Topic, len(s.dirty.topics)),
		offsets: make([]offsetChange, 0, len(s.dirty.offsets)),
		delays:  make(map[int32]message.QueueOffset, len(s.dirty.delays)),
	}
	for name := range s.dirty.topics {
		c.topics[name] = topics[name]
	}
	for _, p := range s.dirty.offsets {
		p.dirty = false
		c.offsets = append(c.offsets, offsetChange{p.key, p.off, p.deleted})
	}
	for level := range s.dirty.delays {
		c.delays[level] = s.delays[level]
	}
	if s.dirty.timer && s.timer != nil {
		t := *s.timer
		c.timer = &t
	}
	s.dirty.timer = false
	clear(s.dirty.topics)
	clear(s.dirty.delays)
	clear(s.dirty.offsets) // lets go of what was deleted
	s.dirty.offsets = s.dirty.offsets[:0]
	return c
}

// write puts the changes into a batch.
func (c changes) write(b *pebble.Batch) error {
	var key, value []byte
	for name, t := range c.topics {
		key = appendTopicKey(key[:0], name)
		if t == nil {
			if err := b.Delete(key, nil); err != nil {
				return err
			}
			continue
		}
		text, err := encodeTopic(t)
		if err != nil {
			return err
		}
		if err := b.Set(key, text, nil); err != nil {
			return err
		}
	}
	for _, o := range c.offsets {
		key = appendOffsetKey(key[:0], o.key)
		var err error
		if o.deleted {
			err = b.Delete(key, nil)
		} else {
			value = appendOffset(value[:0], o.off)
			err = b.Set(key, value, nil)
		}
		if err != nil {
			return err
		}
	}
	for level, off := range c.delays {
		value = appendOffset(value[:0], off)
		if err := b.Set(appendDelayKey(key[:0], level), value, nil); err != nil {
			return err
		}
	}
	if c.timer != nil {
		return b.Set([]byte{kindTimer}, c.timer.append(value[:0]), nil)
	}
	return nil
}

// Sync makes every change durable that was made before the call: all of them,
// or after a crash none of those that an earlier Sync did not cover. It costs one
// write and one fsync, or nothing if nothing changed. An error wraps ErrFailed:
// it is not known what is durable, and the Store refuses changes from then on.
//
// When what failed was a write for which there was no room, the next Sync that
// finds some writes everything again, and changes are accepted as before.
func (s *Store) Sync() error {
	if err := s.writable(); err != nil && !IsFull(err) {
		return err
	}
	return s.commit()
}

// commit writes what is dirty. commitMu orders commits, and makes a caller wait
// for a commit under way that took its changes along.
func (s *Store) commit() error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.failure(); err != nil {
		if err = s.resume(err); err != nil {
			return err
		}
	}
	if s.db == nil {
		return nil // Close came between, and committed everything
	}
	b := s.db.NewBatch()
	c := s.take(s.rewrite)
	var err error
	if s.rewrite {
		err = b.DeleteRange([]byte{kindTopic}, []byte{kindEnd}, nil)
	}
	if err == nil {
		err = c.write(b)
	}
	if err == nil && !b.Empty() {
		err = b.Commit(pebble.Sync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		s.fail(err)
	}
	if s.fuse.blown.Load() {
		s.fail(errBlown) // unless it has said so itself
	}
	// Pebble reports a commit whose write failed to the logger, not here.
	if err = s.failure(); err == nil {
		s.rewrite = false
	}
	return err
}
