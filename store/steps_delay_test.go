// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// laterTopic is where messages are delivered to that wait. Nothing else goes
// there.
const laterTopic = "later"

// waiting is a message that was appended to be delivered later.
type waiting struct {
	store.AppendResult
	body  string
	queue int32 // of laterTopic
	// cancelled says that Cancel said so, and mark where the log ended then. doubt
	// says that a crash may have taken that back, or kept what nobody was told of.
	cancelled, doubt bool
	mark             message.Offset
}

func (w *waiting) end() message.Offset { return w.Offset + message.Offset(w.Size) }

// waits reports whether a history has messages for later. Then the store appends
// on its own, and a part of what the other histories are held to can't be.
func (sc script) waits() bool {
	return slices.ContainsFunc(sc, func(st step) bool { return st.do == doDelay })
}

// doDelay appends a message for later.
func (p *player) doDelayed(rng *rand.Rand) {
	m := &message.Message{Topic: laterTopic, QueueID: int32(rng.IntN(2)), Body: randomBytes(rng, 20+rng.IntN(200)), BornTimestamp: 1}
	if rng.IntN(2) == 0 {
		m.SetDelayLevel(1 + rng.IntN(3))
	} else {
		m.SetDeliverAt(time.Now().Add(time.Duration(1+rng.IntN(4000)) * time.Millisecond))
	}
	if rng.IntN(3) == 0 {
		m.SetKeys("k1")
	}
	wait := rng.IntN(6) > 0
	if !wait {
		m.Properties.Set(message.PropertyWait, "false")
	}
	poisoned := p.s.Err() != nil
	r, err := p.s.Append(context.Background(), m)
	p.say("delayed until %d: %s/%d, %d bytes at %d, number %d: %v", r.DeliverAt, r.Topic, r.QueueID, r.Size, r.Offset, r.QueueOffset, err)
	if r.Size > 0 {
		p.metaMu.Lock()
		p.waiting[r.Offset] = &waiting{AppendResult: r, body: string(m.Body), queue: m.QueueID}
		p.metaMu.Unlock()
		c := *m
		c.Topic, c.QueueID = r.Topic, r.QueueID
		if r.Topic == message.TimerTopic {
			c.Properties.Set(message.PropertyTimerOutMS, strconv.FormatInt(r.DeliverAt, 10))
		}
		c.Properties.Set(message.PropertyRealTopic, m.Topic)
		c.Properties.Set(message.PropertyRealQueueID, strconv.Itoa(int(m.QueueID)))
		c.BornHost = r.StoreHost
		p.add(entry{AppendResult: r, body: m.Body, keep: true, msg: &c})
	}
	p.settled("append for later", poisoned, err)
	if err == nil && wait && p.o.Flush == store.FlushSync {
		p.ack(r.Offset + message.Offset(r.Size))
	}
}

// doCancel cancels a message, which may have been delivered.
func (p *player) doCancelled(rng *rand.Rand) {
	offs := make([]message.Offset, 0, len(p.waiting))
	for off := range p.waiting {
		offs = append(offs, off)
	}
	if len(offs) == 0 {
		return
	}
	slices.Sort(offs)
	w := p.waiting[offs[rng.IntN(len(offs))]]
	poisoned := p.s.Err() != nil
	now := time.Now().UnixMilli()
	res, err := p.s.Cancel(context.Background(), w.ID())
	p.say("cancel %d: %v, %v", w.Offset, res, err)
	if err != nil || res == store.Cancelled {
		w.mark = p.s.Stats().Appended
		w.doubt = w.doubt || err != nil
		w.cancelled = w.cancelled || err == nil
	}
	if err != nil {
		require.True(p.t, p.hurt, "cancel: %v", err)
		return
	}
	p.settled("cancel", poisoned && res == store.Cancelled && !w.cancelled, nil)
	switch {
	case p.blind: // what can't be read is unknown
	case w.Topic == message.DelayTopic:
		require.Equal(p.t, store.CancelUnknown, res, "a message with a level")
	case w.DeliverAt <= now:
		require.Equal(p.t, store.CancelTooLate, res)
	default:
		require.Equal(p.t, store.Cancelled, res)
	}
}

// doLater lets some time pass, in which messages are delivered.
func (p *player) doLater(rng *rand.Rand) {
	d := time.Duration(1+rng.IntN(1500)) * time.Millisecond
	p.say("%v pass", d)
	<-time.After(d)
}

// recovered forgets what an opening did not find, before the store delivers
// anything, and requires that it may be gone.
func (p *player) recovered(end message.Offset) {
	p.mu.Lock()
	kept, acked := max(p.kept, p.acked), p.acked
	left := p.entries[:0]
	for _, e := range p.entries {
		if e.end() > end {
			require.LessOrEqual(p.t, kept, e.Offset, "lost: the log ends at %d", end)
			continue
		}
		left = append(left, e)
	}
	p.entries = left
	p.mu.Unlock()
	p.metaMu.Lock()
	defer p.metaMu.Unlock()
	for off, w := range p.waiting {
		if w.end() > end {
			delete(p.waiting, off)
		} else if w.mark > min(end, acked) {
			// The cancellation may have been behind the end.
			w.cancelled, w.doubt, w.mark = false, true, 0
		}
	}
}

// verifyDelays holds a store that was just opened to what was promised about
// messages that wait, and the others beside them.
func (p *player) verifyDelays() {
	st := p.s.Stats()
	if p.blind {
		p.on.disk.ClearFaults()
		p.blind = false
	}
	end, acked := st.Recovery.End, p.durableIn(p.t, p.s)
	left := &model{acked: acked, before: acked, expiry: expiry{floors: map[string]message.QueueOffset{}}}
	for _, e := range p.entries {
		got, err := p.s.Get(e.Offset)
		if err != nil && (p.holed || p.unmarked && p.everHurt) && e.end() > p.acked {
			p.holed = true
			continue
		}
		require.NoError(p.t, err, "record at %d", e.Offset)
		e.same(p.t, got)
		if e.keep {
			b, err := p.s.Fetch(context.Background(), e.Topic, e.QueueID, e.QueueOffset, store.Limit{Messages: 1})
			require.NoError(p.t, err, "number %d of %s", e.QueueOffset, e.queue())
			for m, err := range b.All() {
				require.NoError(p.t, err)
				e.same(p.t, m)
			}
			b.Release()
		}
		left.entries = append(left.entries, e)
	}
	p.metaMu.Lock()
	for off := range p.waiting {
		if _, err := p.s.Get(off); err != nil {
			delete(p.waiting, off) // a hole
		}
	}
	p.metaMu.Unlock()
	p.say("  %d of %d messages, to %d; acknowledged was %d; %d for later", len(left.entries), len(p.entries), end, p.acked, len(p.waiting))
	p.become(left)
	p.checkDeliveries(-1)
	p.metaMu.Lock()
	defer p.metaMu.Unlock()
	p.verifyMeta()
}

// checkDeliveries requires that what is delivered was appended for later, is not
// early, in order, not cancelled, and there once; and that what was due by a time
// is delivered.
func (p *player) checkDeliveries(by int64) {
	var all []*message.Message
	for _, q := range p.s.Queues() {
		if q.Topic == laterTopic {
			all = append(all, fetchWhole(p.t, p.s, q.Topic, q.QueueID)...)
		}
	}
	slices.SortFunc(all, func(a, b *message.Message) int { return cmp.Compare(a.PhysicalOffset, b.PhysicalOffset) })
	times := map[message.Offset]int{}
	last := map[int32]message.QueueOffset{}
	for _, m := range all {
		mark, _ := m.Properties.Get(message.PropertyDelayed)
		off, err := strconv.ParseInt(mark, 10, 64)
		require.NoError(p.t, err, "delivered at %d without a mark", m.PhysicalOffset)
		w := p.waiting[message.Offset(off)]
		if w == nil && p.holed {
			continue
		}
		require.NotNil(p.t, w, "delivered at %d, and never appended: %d", m.PhysicalOffset, off)
		times[w.Offset]++
		require.Equal(p.t, w.body, string(m.Body), "delivery of %d", off)
		require.Equal(p.t, w.queue, m.QueueID, "delivery of %d", off)
		require.GreaterOrEqual(p.t, m.StoreTimestamp, w.DeliverAt, "delivery of %d is early", off)
		require.False(p.t, w.cancelled, "%d was cancelled, and is delivered at %d", off, m.PhysicalOffset)
		if w.Topic == message.DelayTopic && !p.holed { // what was lost in the middle comes again
			if at, ok := last[w.QueueID]; ok && times[w.Offset] == 1 {
				require.Greater(p.t, w.QueueOffset, at, "level %d is out of order", w.QueueID+1)
			}
			last[w.QueueID] = max(last[w.QueueID], w.QueueOffset)
		}
	}
	for off, w := range p.waiting {
		if !p.everHurt {
			require.LessOrEqual(p.t, times[off], 1, "%d is delivered more than once", off)
		}
		if w.DeliverAt <= by && !w.cancelled && !w.doubt {
			require.NotZero(p.t, times[off], "%d was due at %d, and at %d is not delivered: %+v", off, w.DeliverAt, by, p.s.Stats().Delay)
		}
	}
}

// restDelays is for a store at rest: without anything that fails, whatever is due
// is delivered.
func (p *player) restDelays() {
	if !p.waits || p.s == nil || p.hurt || p.faulty || p.blind || p.s.Err() != nil {
		return
	}
	p.checkDeliveries(time.Now().UnixMilli())
}

// finishDelays lets everything be delivered.
func (p *player) finishDelays() {
	if !p.waits || p.s == nil {
		return
	}
	<-time.After(10 * time.Second)
	synctest.Wait()
	require.NoError(p.t, p.s.Err())
	p.checkDeliveries(time.Now().UnixMilli())
	st := p.s.Stats().Delay
	require.Zero(p.t, st.Timers, "nothing waits any more")
	require.Empty(p.t, st.Pending, "nothing waits any more")
	require.NoError(p.t, st.Stalled)
	p.say("  %d messages for later: delivered here %d, found in the log %d", len(p.waiting), st.Delivered, st.Avoided)
}
