// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"math"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// FetchTagged is Fetch of the messages that tags takes. The hash in an entry of
// the queue is compared first, then the tag in the message itself, so no other
// message is returned. In the topic of delayed messages, where entries hold a
// time of delivery instead, the tag alone is.
//
// It looks at Limit.Scan entries at most, and reads at most Limit.Bytes of
// messages whose tag turns out to be another one. So the Batch can be empty
// before the end of the queue: Batch.Next, which is behind from then, is where to
// go on. At the end of the queue Next is Batch.Max.
//
// A damaged entry counts as one that may match: its message is searched for in
// the log, and told by its tag. What nobody can see is an entry in which nothing
// but the hash is damaged: it is passed over, and Fetch returns its message.
func (s *Store) FetchTagged(ctx context.Context, topic string, queue int32, from message.QueueOffset, tags message.TagFilter, limit Limit) (*Batch, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	q, err := s.readable(topic, queue)
	if err != nil {
		return nil, err
	}
	return s.fetch(q, from, tags, limit.withDefaults())
}

// FollowTagged is FetchTagged that waits: it returns once there is a message that
// tags takes at or behind from, or when it has looked at Limit.Scan entries
// without one, those that came while it waited included. Then the Batch is empty,
// and Batch.Next is where to go on: a consumer that commits it does not look at
// those entries again. It also returns with the cause of ctx, or ErrClosed. A
// queue that does not exist yet is waited for.
func (s *Store) FollowTagged(ctx context.Context, topic string, queue int32, from message.QueueOffset, tags message.TagFilter, limit Limit) (*Batch, error) {
	q, err := s.readable(topic, queue)
	if errors.Is(err, ErrNoQueue) && s.o.Topics == TopicsOpen && queue >= 0 && queue <= MaxQueueID {
		if err = message.CheckTopic(topic); err == nil {
			q, err = s.queues.GetOrCreate(topic, queue)
		}
	}
	if err != nil {
		return nil, err
	}
	limit = limit.withDefaults()
	for next := from; ; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b, err := s.fetch(q, next, tags, limit)
		if err != nil {
			return nil, err
		}
		limit.Scan -= int(b.Next - next)
		if b.Len() > 0 || !tags.All() && (limit.Scan <= 0 || b.sieve.spent()) {
			b.From = from
			return b, nil
		}
		next = b.Next
		b.Release()
		if err := q.Wait(ctx, next); err != nil {
			if s.closing.Load() {
				return nil, ErrClosed
			}
			return nil, err
		}
	}
}

// sieve is what a fetch by tag lets through, and how much it may still look at.
type sieve struct {
	tags message.TagFilter
	// noHash says that the entries hold no hash of a tag.
	noHash  bool
	entries int // that may still be looked at
	bytes   int // of records that may still be read for nothing
	probe   *message.Message
}

func newSieve(q *consumequeue.Queue, tags message.TagFilter, limit Limit) sieve {
	if tags.All() {
		return sieve{entries: math.MaxInt, bytes: math.MaxInt}
	}
	return sieve{
		tags: tags, noHash: q.Topic() == consumequeue.DelayTopic, entries: limit.Scan, bytes: limit.Bytes,
		probe: &message.Message{Topic: q.Topic()},
	}
}

// ask returns how many entries to read for so many messages.
func (s *sieve) ask(messages int) int {
	if s.probe == nil {
		return messages
	}
	return s.entries
}

// spent reports whether the fetch has looked at as much as it may.
func (s *sieve) spent() bool { return s.entries <= 0 || s.bytes <= 0 }

func (s *sieve) mayMatch(e consumequeue.Entry) bool {
	return s.probe == nil || s.noHash || s.tags.MayMatch(e.TagsCode)
}

// wanted reports whether a record goes into the batch: it has a wanted tag, or it
// is damaged, so that nobody knows. Then it becomes the one that is meant, if
// that is found, or else the error.
func (b *Batch) wanted(r *record) bool {
	if b.sieve.probe == nil || r.err != nil {
		return true
	}
	m := b.sieve.probe
	if err := b.decodeAt(&message.Decoder{}, r, m); err != nil {
		found, mendErr := b.mend(b.queue, r.at, err)
		if mendErr != nil || b.decodeAt(&message.Decoder{Check: message.CheckIntact}, &found, m) != nil {
			r.err = err
			return true
		}
		*r = found
	}
	if b.sieve.tags.Match(m) {
		return true
	}
	// It may be the tag that is damaged, and not another one.
	r.err = b.decodeAt(&message.Decoder{Check: message.CheckIntact}, r, m)
	return r.err != nil
}
