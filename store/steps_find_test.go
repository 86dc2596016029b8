// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"math/rand/v2"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// red is the only tag that messages of a history have.
var red = message.FilterTags("red")

// doTagged fetches by tag.
func (p *player) doTagged(rng *rand.Rand) {
	q, from, ok := p.anyQueue(rng)
	if !ok {
		return
	}
	limit := store.Limit{Messages: 1 + rng.IntN(5), Bytes: 1 + rng.IntN(5000), Scan: 1 + rng.IntN(20)}
	b, err := p.s.FetchTagged(context.Background(), q.Topic, q.QueueID, from, red, limit)
	p.say("fetch by tag %+v from %d: %v", q, from, err)
	if err != nil {
		require.True(p.t, p.blind, "fetch by tag: %v", err)
		return
	}
	defer b.Release()
	if from < q.Max {
		require.Greater(p.t, b.Next, from, "a fetch by tag stands still")
	}
	p.compareTagged(b)
}

// compareTagged requires that a batch holds the messages with the tag between
// where it began and where it ended, and no other ones.
func (p *player) compareTagged(b *store.Batch) {
	want := map[message.Offset]entry{}
	for _, e := range p.entries {
		if e.keep && e.Topic == b.Topic && e.QueueID == b.QueueID && e.QueueOffset >= b.From && e.QueueOffset < b.Next &&
			e.msg.Tags() == "red" {
			want[e.Offset] = e
		}
	}
	for m, err := range b.All() {
		require.NoError(p.t, err)
		e, ok := want[m.PhysicalOffset]
		require.True(p.t, ok, "queue %s/%d: number %d at %d has not the tag", b.Topic, b.QueueID, m.QueueOffset, m.PhysicalOffset)
		e.same(p.t, m)
		delete(want, m.PhysicalOffset)
	}
	if !p.holed {
		require.Empty(p.t, want, "a fetch by tag passed messages over")
	}
}

// verifyFinds holds what finds messages in a store that was just opened to what
// the store holds.
func (p *player) verifyFinds() {
	for _, q := range p.s.Queues() {
		for from := q.Min; from < q.Max; {
			b, err := p.s.FetchTagged(context.Background(), q.Topic, q.QueueID, from, red, store.Limit{Scan: 7})
			require.NoError(p.t, err)
			require.Greater(p.t, b.Next, from)
			p.compareTagged(b)
			from = b.Next
			b.Release()
		}
	}
}
