// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"maps"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// ledger is the reference model of a whole store: its messages, consumer offsets
// and topics, and what of them was acknowledged as durable.
type ledger struct {
	*model
	metaMu  *sync.Mutex
	offsets map[offsetOf]*versions[message.QueueOffset]
	wild    map[offsetOf]bool           // one was beyond its queue when it was committed
	topics  map[string]*versions[int32] // write queues
}

// offsetOf names one consumer offset.
type offsetOf struct {
	group, topic string
	queue        int32
}

// versions are the values of one thing since the last opening, oldest first.
type versions[T comparable] struct {
	all     []T
	from    int // the number of the first one
	durable int // the number of the newest one that is acknowledged as durable; -1: none
}

func (v *versions[T]) add(x T) { v.all = append(v.all, x) }

func (v *versions[T]) last() int { return v.from + len(v.all) - 1 }

// become makes x, which an opening found, the one that is durable.
func (v *versions[T]) become(x T) {
	v.from += len(v.all)
	v.all, v.durable = append(v.all[:0], x), v.from
}

// possible reports whether a store may have x after a crash.
func (v *versions[T]) possible(x T, ok bool) bool {
	if !ok {
		return v.durable < 0
	}
	return slices.Contains(v.all[max(v.durable-v.from, 0):], x)
}

func newLedger() ledger {
	l := ledger{model: &model{}, metaMu: &sync.Mutex{}}
	l.forgetMeta()
	return l
}

func (l *ledger) forgetMeta() {
	l.offsets = map[offsetOf]*versions[message.QueueOffset]{}
	l.wild = map[offsetOf]bool{}
	l.topics = map[string]*versions[int32]{}
}

// durable is what was acknowledged as durable at one moment.
type durable struct {
	acked   message.Offset
	kept    message.Offset // see model
	gone    message.Offset
	offsets map[offsetOf]int
	topics  map[string]int
}

// acknowledged may be called beside everything else.
func (l *ledger) acknowledged() durable {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	d := durable{acked: l.ackedUpTo(), gone: l.goneUpTo(), offsets: map[offsetOf]int{}, topics: map[string]int{}}
	for k, v := range l.offsets {
		d.offsets[k] = v.durable
	}
	for k, v := range l.topics {
		d.topics[k] = v.durable
	}
	return d
}

// survivesKill is acknowledged, and what the page cache holds: everything that is
// committed. The process must stand still.
func (p *player) survivesKill() durable {
	d := p.acknowledged()
	d.kept = p.kept // as the last kill left it, until a store is open again
	if p.s != nil {
		d.kept = p.s.Log().Committed()
	}
	return d
}

// restore goes back to what was acknowledged at a moment.
func (l *ledger) restore(d durable) {
	l.acked, l.kept, l.gone = d.acked, d.kept, d.gone
	for k, v := range l.offsets {
		if was, ok := d.offsets[k]; ok {
			v.durable = was
		} else {
			v.durable = -1
		}
	}
	for k, v := range l.topics {
		if was, ok := d.topics[k]; ok {
			v.durable = was
		} else {
			v.durable = -1
		}
	}
}

// committed notes a consumer offset.
func (l *ledger) committed(k offsetOf, off message.QueueOffset) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.offsets[k] == nil {
		l.offsets[k] = &versions[message.QueueOffset]{durable: -1}
	}
	l.offsets[k].add(off)
}

// declared notes the declaration of a topic.
func (l *ledger) declared(name string, queues int32) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if l.topics[name] == nil {
		l.topics[name] = &versions[int32]{durable: -1}
	}
	l.topics[name].add(queues)
}

// ackTopic notes that the last declaration of a topic is durable.
func (l *ledger) ackTopic(name string) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	v := l.topics[name]
	v.durable = v.last()
}

// ackMeta notes that everything in the metadata is durable.
func (l *ledger) ackMeta() {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	for _, v := range l.offsets {
		v.durable = v.last()
	}
	for _, v := range l.topics {
		v.durable = v.last()
	}
}

// become makes the ledger hold the messages that an opening found.
func (l *ledger) become(left *model) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.acked, l.before, l.kept, l.expiry = left.entries, left.acked, left.before, 0, left.expiry
}

// verify holds a store that was just opened to everything that was promised.
func (p *player) verify() {
	st := p.s.Stats()
	if p.blind {
		p.say("  what made reads fail ends here")
		p.on.disk.ClearFaults()
		p.blind = false
	}
	// See drops: what a queue whose messages expired loses, the log can't give back.
	p.forgot = p.forgot || p.rebuilds
	left := p.compare(p.t, p.s, p.holed)
	p.say("  %d of %d messages, to %d; acknowledged was %d", len(left.entries), len(p.entries), left.acked, p.acked)
	if !p.rebuilds && !p.hurt && !p.holed {
		require.False(p.t, st.Recovery.Rebuilt, "a crash alone must not cost a rebuild")
	}
	require.Zero(p.t, st.Recovery.Lost, "bytes below the durable mark")
	if p.o.Flush == store.FlushSync {
		require.Equal(p.t, st.Appended, st.Flushed, "what an opening keeps is durable")
	}
	require.Equal(p.t, st.Appended, st.Dispatched)
	require.Empty(p.t, p.on.disk.Unreserved(), "pages without blocks")
	p.become(left)
	p.verifyFinds()
	p.metaMu.Lock()
	defer p.metaMu.Unlock()
	p.verifyMeta()
}

// cutLog reports whether the recovery that just ended may have found messages
// gone that were seen before.
func (p *player) cutLog() bool {
	r := p.s.Stats().Recovery
	return r.Kind == store.PowerCut || r.Kind == store.ForeignCrash || r.Rebuilt || r.Torn != nil || r.Lost > 0
}

// queueEnd is the offset of the next message of a queue.
func (p *player) queueEnd(topic string, queue int32) message.QueueOffset {
	for _, q := range p.s.Queues() {
		if q.Topic == topic && q.QueueID == queue {
			return q.Max
		}
	}
	return 0
}

// setBack reports whether a consumer offset is the end of its queue because one
// that the group may have had stood beyond it. An opening that a crash ended may
// have done that, so it need not be what the last one says it was.
func (p *player) setBack(k offsetOf, v *versions[message.QueueOffset], off message.QueueOffset) bool {
	if !p.cutLog() && !p.afterCut && !p.rebuilds && !p.unmarked && !p.hurt {
		return false
	}
	return off == p.queueEnd(k.topic, k.queue) &&
		slices.ContainsFunc(v.all[max(v.durable-v.from, 0):], func(x message.QueueOffset) bool { return x > off })
}

func (p *player) verifyMeta() {
	for k, v := range p.offsets {
		off, ok, err := p.s.Offset(k.group, k.topic, k.queue)
		require.NoError(p.t, err)
		possible := v.possible(off, ok) || ok && p.setBack(k, v, off)
		require.True(p.t, possible, "offset of %v: %d, %v; of %v number %d was durable, the first is %d", k, off, ok, v.all, v.durable, v.from)
		if ok {
			if p.cutLog() || !p.wild[k] {
				require.LessOrEqual(p.t, off, p.queueEnd(k.topic, k.queue), "offset of %v stands beyond the queue's end", k)
			}
			v.become(off)
		} else {
			delete(p.offsets, k)
		}
	}
	all, err := p.s.Topics()
	require.NoError(p.t, err)
	for _, name := range slices.Sorted(maps.Keys(p.topics)) {
		v := p.topics[name]
		i := slices.IndexFunc(all, func(t topicmeta.Topic) bool { return t.Name == name })
		queues := int32(0)
		if i >= 0 {
			queues = all[i].WriteQueues
		}
		if v.durable >= 0 {
			require.GreaterOrEqual(p.t, i, 0, "topic %q is gone", name)
			require.True(p.t, v.possible(queues, true), "topic %q has %d queues, of %v", name, queues, v.all)
			v.become(queues)
		} else {
			delete(p.topics, name) // it may be there, or be known by its queues only
		}
	}
}

// watermarks holds the marks in their order.
func (p *player) watermarks() {
	if p.s == nil {
		return
	}
	st := p.s.Stats()
	require.LessOrEqual(p.t, st.Min, st.Flushed)
	require.LessOrEqual(p.t, st.Flushed, st.Committed)
	require.LessOrEqual(p.t, st.Committed, st.Appended)
	require.LessOrEqual(p.t, st.Dispatched, st.Committed)
	// What was flushed before a kill may have to be flushed again.
	require.LessOrEqual(p.t, p.ackedUpTo(), max(st.Flushed, p.before), "acknowledged and not flushed")
}
