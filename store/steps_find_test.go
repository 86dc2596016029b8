// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"math/rand/v2"
	"path"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/timeindex"
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
	p.verifyKeys()
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
	ends := p.s.Stats()
	for i, e := range p.entries {
		if i%7 == 0 || i == len(p.entries)-1 {
			p.offsetAt(e.StoreTime)
			p.offsetAt(e.StoreTime + 1)
		}
	}
	p.offsetAt(0)
	if ends.TimeIndex.Entries > 0 && ends.Appended-ends.Min <= timeindex.DefaultRebuild {
		require.LessOrEqual(p.t, ends.TimeIndex.From, p.entries[0].Offset, "the time index lacks the beginning")
	}
}

// doAt searches the log by time.
func (p *player) doAt(rng *rand.Rand) {
	if len(p.entries) > 0 {
		p.offsetAt(p.entries[rng.IntN(len(p.entries))].StoreTime + rng.Int64N(3) - 1)
	}
}

// offsetAt requires that a search by time finds the first message that was stored
// then or later, if it is in its queue already.
func (p *player) offsetAt(ms int64) {
	before := p.s.Dispatched()
	at, err := p.s.OffsetAt(time.UnixMilli(ms))
	if err != nil {
		require.True(p.t, p.blind, "offset at %d: %v", ms, err)
		return
	}
	i := slices.IndexFunc(p.entries, func(e entry) bool { return e.StoreTime >= ms })
	switch {
	case i >= 0 && p.entries[i].end() <= before:
		require.Equal(p.t, p.entries[i].Offset, at, "offset at %d", ms)
	case i >= 0:
		require.LessOrEqual(p.t, at, p.entries[i].Offset, "offset at %d", ms)
		fallthrough
	default:
		require.GreaterOrEqual(p.t, at, before, "offset at %d", ms)
	}
}

// removeTimes takes the time index away, or damages it.
func (p *player) removeTimes(rng *rand.Rand) {
	dir := root + "/stele/" + timeindex.DirName
	files, err := p.on.disk.List(dir)
	if err != nil || p.faulty || len(files) == 0 {
		return
	}
	p.disarm()
	if rng.IntN(2) == 0 {
		p.say("remove %s", dir)
		removeTree(p.t, p.on.disk, dir)
		return
	}
	chosen := files[rng.IntN(len(files))]
	if chosen.Size < 8 {
		return // a crash came while it was made
	}
	file := path.Join(dir, chosen.Name)
	r, err := p.on.disk.Open(file, mappedfile.Mapping{})
	require.NoError(p.t, err)
	at := rng.IntN(len(r.Bytes()) / 4)
	p.say("damage %s from %d on", file, at)
	require.NoError(p.t, r.Reserve(0, int64(len(r.Bytes()))))
	for i := range r.Bytes()[at:] {
		r.Bytes()[at+i] ^= byte(rng.Uint32())
	}
	require.NoError(p.t, r.Flush(0, int64(len(r.Bytes()))))
	require.NoError(p.t, r.Close())
}
