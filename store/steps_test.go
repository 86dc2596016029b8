// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

const declaredTopic = "declared"

var playTopics = []string{"orders", "payments", "x", declaredTopic}

// plainBody is the length of the bodies of messages that are all alike.
const plainBody = 100

// newMessage draws a message.
func (p *player) newMessage(rng *rand.Rand) *message.Message {
	m := &message.Message{Topic: "x", Body: randomBytes(rng, plainBody), BornTimestamp: 1 + rng.Int64N(1e12)}
	if p.plain {
		return m
	}
	m.Topic, m.QueueID = playTopics[rng.IntN(len(playTopics))], int32(rng.IntN(3))
	switch rng.IntN(6) {
	case 0:
	case 1, 2:
		// Over several pages, that a power cut may take one by one.
		m.Body = randomBytes(rng, min(int(p.sizes[0])-600, 2000+rng.IntN(6000)))
	default:
		m.Body = randomBytes(rng, rng.IntN(500))
	}
	if rng.IntN(2) == 0 {
		return m
	}
	m.Flag, m.ReconsumeTimes = int32(rng.Uint32()), int32(rng.IntN(3))
	m.SysFlag = []message.SysFlag{
		0, 0, message.TransactionPrepared, message.TransactionCommit, message.TransactionRollback,
	}[rng.IntN(5)]
	m.PreparedTransactionOffset = message.Offset(rng.Int64N(1e9))
	if rng.IntN(2) == 0 {
		m.SetTags("red")
		m.SetKeys("k1", "k2")
	}
	if rng.IntN(3) == 0 {
		m.Properties.Set(message.PropertyUniqKey, fmt.Sprintf("U%x", rng.Uint64()))
	}
	if rng.IntN(4) == 0 {
		m.Properties.Set("long", string(slices.Repeat([]byte("p"), rng.IntN(300)+1)))
	}
	if rng.IntN(4) == 0 {
		m.BornHost = netip.MustParseAddrPort("[2001:db8::1]:4711")
	}
	return m
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// note enters what an append did into the ledger. Whatever the error, a message
// with a place is in the log's memory, and may be on disk.
func (p *player) note(m *message.Message, r store.AppendResult) {
	if r.Size == 0 {
		return
	}
	c := *m
	if !c.BornHost.IsValid() {
		c.BornHost = r.StoreHost
	}
	p.add(entry{AppendResult: r, body: m.Body, keep: m.QueueStep() > 0, msg: &c})
}

// settled judges the error of something that was asked of the store, which
// must not have been poisoned before if there is none.
func (p *player) settled(what string, poisoned bool, err error) {
	p.t.Helper()
	if err == nil {
		require.False(p.t, poisoned, "%s was acknowledged after a failure", what)
		return
	}
	require.True(p.t, p.hurt, "%s: %v", what, err)
}

func (p *player) appendOne(m *message.Message, wait bool) {
	if !wait {
		m.Properties.Set(message.PropertyWait, "false")
	}
	poisoned := p.s.Err() != nil
	r, err := p.s.Append(context.Background(), m)
	p.note(m, r)
	p.say("append %s/%d: %d bytes at %d, number %d, wait %v: %v", m.Topic, m.QueueID, r.Size, r.Offset, r.QueueOffset, wait, err)
	if p.refused(m, err) {
		return
	}
	p.settled("append", poisoned, err)
	if err == nil && wait && p.o.Flush == store.FlushSync {
		p.ack(r.Offset + message.Offset(r.Size))
	}
}

// refused reports whether a declaration forbids the append.
func (p *player) refused(m *message.Message, err error) bool {
	return m.Topic == declaredTopic && errors.Is(err, store.ErrNoQueue)
}

func (p *player) doAppend(rng *rand.Rand) {
	m := p.newMessage(rng)
	p.appendOne(m, p.plain || rng.IntN(6) > 0)
}

func (p *player) doBatch(rng *rand.Rand) {
	msgs := make([]*message.Message, 1+rng.IntN(5))
	wait := false
	for i := range msgs {
		msgs[i] = p.newMessage(rng)
		if !p.plain && rng.IntN(4) == 0 {
			msgs[i].Properties.Set(message.PropertyWait, "false")
		}
		if len(msgs[i].Body) > 500 {
			msgs[i].Body = msgs[i].Body[:500]
		}
		wait = wait || msgs[i].WaitStored()
	}
	poisoned := p.s.Err() != nil
	results, err := p.s.AppendBatch(context.Background(), msgs)
	for i, r := range results {
		p.note(msgs[i], r)
	}
	p.say("batch of %d, wait %v: %+v: %v", len(msgs), wait, results, err)
	if slices.ContainsFunc(msgs, func(m *message.Message) bool { return p.refused(m, err) }) {
		return
	}
	p.settled("batch", poisoned, err)
	if err == nil && wait && p.o.Flush == store.FlushSync {
		last := results[len(results)-1]
		p.ack(last.Offset + message.Offset(last.Size))
	}
}

// doBurst has several goroutines append at a time, which share flushes.
func (p *player) doBurst(rng *rand.Rand) {
	type result struct {
		m   *message.Message
		r   store.AppendResult
		err error
	}
	all := make([]result, 2+rng.IntN(6))
	for i := range all {
		all[i].m = p.newMessage(rng)
	}
	poisoned := p.s.Err() != nil
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			a := &all[i]
			a.r, a.err = p.s.Append(context.Background(), a.m)
			if a.err == nil && p.o.Flush == store.FlushSync {
				p.ack(a.r.Offset + message.Offset(a.r.Size))
			}
		})
		if p.trap != nil && p.trap.kill {
			wg.Wait() // see machine.alone: they share the append lock
		}
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.r.Offset, b.r.Offset) })
	for _, a := range all {
		p.note(a.m, a.r)
		p.say("one of a burst: append %s/%d: %d bytes at %d: %v", a.m.Topic, a.m.QueueID, a.r.Size, a.r.Offset, a.err)
		if !p.refused(a.m, a.err) {
			p.settled("append", poisoned, a.err)
		}
	}
}

func (p *player) doFlush(*rand.Rand) {
	poisoned, end := p.s.Err() != nil, p.s.Stats().Appended
	err := p.s.Flush(context.Background())
	p.say("flush to %d: %v", end, err)
	p.settled("flush", poisoned, err)
	if err == nil {
		p.ack(end)
	}
}

// at returns what the ledger has at a place in a queue.
func (p *player) at(m *message.Message) (entry, bool) {
	for _, e := range slices.Backward(p.entries) {
		if e.Offset == m.PhysicalOffset {
			return e, e.keep
		}
	}
	return entry{}, false
}

// compareBatch requires that a batch holds what was appended, in order, and in
// synchronous mode only what is on disk.
func (p *player) compareBatch(b *store.Batch) {
	next := b.From
	for m, err := range b.All() {
		require.NoError(p.t, err)
		e, ok := p.at(m)
		require.True(p.t, ok, "queue %s/%d has a message that was never appended: %d at %d", b.Topic, b.QueueID, m.QueueOffset, m.PhysicalOffset)
		e.same(p.t, m)
		if p.holed || p.stale {
			require.GreaterOrEqual(p.t, m.QueueOffset, next)
		} else {
			require.Equal(p.t, next, m.QueueOffset)
		}
		next = m.QueueOffset + 1
		if p.o.Flush == store.FlushSync {
			require.LessOrEqual(p.t, e.end(), p.s.Stats().Flushed, "a message is seen that is not on disk")
		}
	}
}

// anyQueue draws a queue that holds something, and an offset in it.
func (p *player) anyQueue(rng *rand.Rand) (q store.QueueInfo, from message.QueueOffset, ok bool) {
	all := p.s.Queues()
	if len(all) == 0 {
		return q, 0, false
	}
	q = all[rng.IntN(len(all))]
	return q, q.Min + message.QueueOffset(rng.Int64N(int64(q.Max-q.Min)+1)), true
}

func (p *player) doFetch(rng *rand.Rand) {
	q, from, ok := p.anyQueue(rng)
	if !ok {
		return
	}
	b, err := p.s.Fetch(context.Background(), q.Topic, q.QueueID, from, store.Limit{Messages: 1 + rng.IntN(40), Bytes: 1 + rng.IntN(20000)})
	p.say("fetch %+v from %d: %v", q, from, err)
	if err != nil {
		require.True(p.t, p.blind, "fetch: %v", err)
		return
	}
	defer b.Release()
	if from < q.Max && !p.holed && !p.stale {
		require.NotZero(p.t, b.Len(), "queue %+v from %d", q, from)
	}
	p.compareBatch(b)
}

func (p *player) doFollow(rng *rand.Rand) {
	q, from, ok := p.anyQueue(rng)
	if !ok {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Millisecond)
	defer stop()
	b, err := p.s.Follow(ctx, q.Topic, q.QueueID, from, store.Limit{})
	p.say("follow %+v from %d: %v", q, from, err)
	if err != nil {
		if from < q.Max && !p.holed && !p.stale {
			require.True(p.t, p.blind, "follow: %v", err)
		}
		return
	}
	defer b.Release()
	p.compareBatch(b)
}

func (p *player) doGet(rng *rand.Rand) {
	if len(p.entries) == 0 {
		return
	}
	e := p.entries[rng.IntN(len(p.entries))]
	committed := p.s.Stats().Committed
	got, err := p.s.Get(e.Offset)
	if err != nil && e.end() > committed {
		return // it waits in the pool
	}
	if err != nil {
		require.True(p.t, p.blind, "get %d: %v", e.Offset, err)
		return
	}
	e.same(p.t, got)
}

func (p *player) doCommit(rng *rand.Rand) {
	k := offsetOf{[]string{"g", "h"}[rng.IntN(2)], playTopics[rng.IntN(2)], int32(rng.IntN(2))}
	// Mostly the end of the queue, as of a group that keeps up; seldom nonsense.
	off, end := message.QueueOffset(rng.Int64N(100)), p.queueEnd(k.topic, k.queue)
	if rng.IntN(8) > 0 {
		off = max(0, end-message.QueueOffset(rng.IntN(3)))
	}
	p.wild[k] = p.wild[k] || off > end
	err := p.s.CommitOffset(k.group, k.topic, k.queue, off)
	p.say("commit %v: %d: %v", k, off, err)
	if err == nil {
		p.committed(k, off)
		return
	}
	require.True(p.t, p.hurt, "commit: %v", err)
}

func (p *player) doOffsets(*rand.Rand) {
	err := p.s.SyncOffsets()
	p.say("sync offsets: %v", err)
	if err == nil {
		p.ackMeta()
		return
	}
	require.True(p.t, p.hurt, "sync offsets: %v", err)
}

func (p *player) doTopic(rng *rand.Rand) {
	queues := int32(1 + rng.IntN(4))
	p.declared(declaredTopic, queues)
	err := p.s.PutTopic(topicmeta.Topic{
		Name: declaredTopic, ReadQueues: 4, WriteQueues: queues, Perm: topicmeta.PermRead | topicmeta.PermWrite,
	})
	p.say("topic with %d queues: %v", queues, err)
	if err == nil {
		p.ackTopic(declaredTopic)
		return
	}
	require.True(p.t, p.hurt, "put topic: %v", err)
}

func (p *player) doWriteback(rng *rand.Rand) {
	p.say("writeback")
	p.on.disk.Writeback(rng.Uint64())
}

func (p *player) doPass(rng *rand.Rand) {
	d := time.Duration(1+rng.IntN(6)) * time.Millisecond
	p.say("%v pass", d)
	<-time.After(d)
}
