// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// entry is a message as it was appended.
type entry struct {
	store.AppendResult
	body []byte
	keep bool             // it has a place in its queue
	msg  *message.Message // all of it, if more than the body is compared
}

func (e entry) end() message.Offset { return e.Offset + message.Offset(e.Size) }

func (e entry) queue() string { return fmt.Sprintf("%s/%d", e.Topic, e.QueueID) }

// same requires that got is the message in every field.
func (e entry) same(t testing.TB, got *message.Message) {
	t.Helper()
	require.Equal(t, e.Topic, got.Topic, "topic at %d", e.Offset)
	require.Equal(t, e.QueueID, got.QueueID, "queue at %d", e.Offset)
	require.Equal(t, e.Offset, got.PhysicalOffset, "queue %s, offset %d", e.queue(), e.QueueOffset)
	require.Equal(t, e.QueueOffset, got.QueueOffset, "queue offset at %d", e.Offset)
	require.Equal(t, e.Size, got.Size, "size at %d", e.Offset)
	require.Equal(t, e.StoreTime, got.StoreTimestamp, "store time at %d", e.Offset)
	require.Equal(t, e.StoreHost, got.StoreHost, "store host at %d", e.Offset)
	require.True(t, bytes.Equal(e.body, got.Body), "body at %d", e.Offset)
	if e.msg == nil {
		return
	}
	require.Equal(t, e.msg.Flag, got.Flag, "flag at %d", e.Offset)
	const hosts = message.BornHostV6 | message.StoreHostV6 // follow from the hosts
	require.Equal(t, e.msg.SysFlag&^hosts, got.SysFlag&^hosts, "system flag at %d", e.Offset)
	require.Equal(t, e.msg.BornTimestamp, got.BornTimestamp, "born timestamp at %d", e.Offset)
	require.Equal(t, e.msg.BornHost, got.BornHost, "born host at %d", e.Offset)
	require.Equal(t, e.msg.ReconsumeTimes, got.ReconsumeTimes, "reconsume times at %d", e.Offset)
	require.Equal(t, e.msg.PreparedTransactionOffset, got.PreparedTransactionOffset, "prepared offset at %d", e.Offset)
	want, have := e.msg.Properties, got.Properties
	have.Delete(message.PropertyCRC32)
	require.Equal(t, string(want.Encoded()), string(have.Encoded()), "properties at %d", e.Offset)
}

// model is what a store must hold: everything that was appended, in the order of
// the log, and up to where it was acknowledged as durable.
type model struct {
	mu      sync.Mutex
	entries []entry
	acked   message.Offset
	kept    message.Offset // behind what a kill left in the page cache; 0 after a power cut
	before  message.Offset // acked, when the store was opened
	expiry
}

// expiry is what a model knows of messages that expired.
type expiry struct {
	// limbo are messages that went with their file; a crash may bring it back
	// while its removal was not durable.
	limbo []entry
	// cut is the offset below which files were ever to go, and gone the one below
	// which they are gone durably.
	cut, gone message.Offset
	// floors are the offsets behind the last expired message of each queue.
	floors map[string]message.QueueOffset
	// forgot says that the queues were taken away, or lost what a failed flush
	// dropped: one that has no message left goes on from what is left of it.
	forgot bool
}

// expire moves the messages below off to limbo.
func (m *model) expire(off message.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.entries) && m.entries[n].Offset < off {
		n++
	}
	m.limbo = append(m.limbo, m.entries[:n]...)
	m.entries = m.entries[n:]
}

// mayGo and went note what an Expire is about to remove, and what it has.
func (m *model) mayGo(off message.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = max(m.cut, off)
}

func (m *model) went(off message.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = max(m.gone, off)
}

// left returns what of the messages is not expired in a log that begins at min,
// and what of the expiry is left.
func (m *model) left(t testing.TB, min message.Offset) ([]entry, expiry) {
	t.Helper()
	require.LessOrEqual(t, min, m.cut, "more expired than the policy lets go")
	require.GreaterOrEqual(t, min, m.gone, "what expired is back")
	x := expiry{cut: min, gone: min, floors: maps.Clone(m.floors)}
	if x.floors == nil {
		x.floors = map[string]message.QueueOffset{}
	}
	var kept []entry
	for _, e := range slices.Concat(m.limbo, m.entries) {
		if e.Offset >= min {
			kept = append(kept, e)
		} else if e.keep {
			x.floors[e.queue()] = e.QueueOffset + 1
		}
	}
	return kept, x
}

func (m *model) add(e entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = append(m.entries, e)
}

// ack notes that everything below off is durable.
func (m *model) ack(off message.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = max(m.acked, off)
}

func (m *model) ackedUpTo() message.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked
}

func (m *model) goneUpTo() message.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

var modelTopics = []string{"orders", "payments", "x"}

// step appends a few messages to s and adds them.
func (m *model) step(t testing.TB, s *store.Store, rng *rand.Rand) error {
	t.Helper()
	n := 1
	if rng.IntN(4) == 0 {
		n = 1 + rng.IntN(5)
	}
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = &message.Message{
			Topic: modelTopics[rng.IntN(len(modelTopics))], QueueID: int32(rng.IntN(3)),
			Body: randomBody(rng, n),
		}
		if rng.IntN(10) == 0 {
			msgs[i].SysFlag = message.TransactionPrepared
		}
		if rng.IntN(3) == 0 {
			msgs[i].SetTags("red")
		}
	}
	results, err := s.AppendBatch(context.Background(), msgs)
	if err != nil {
		return err
	}
	for i, r := range results {
		m.add(entry{AppendResult: r, body: msgs[i].Body, keep: msgs[i].SysFlag&message.TransactionPrepared == 0})
	}
	return nil
}

// randomBody is for one of n messages that must fit in one file.
func randomBody(rng *rand.Rand, n int) []byte {
	body := make([]byte, rng.IntN(400))
	if n == 1 && rng.IntN(4) == 0 {
		body = make([]byte, 2000+rng.IntN(3000))
	}
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return body
}

// check requires that s holds what was appended: all that was acknowledged, of
// the rest a prefix, nothing else, and no queue with a hole. It returns the
// model of what s holds, acknowledged as far as that is durable.
func (m *model) check(t testing.TB, s *store.Store) *model {
	t.Helper()
	left := m.checkWrecked(t, s)
	require.False(t, s.Stats().Recovery.Rebuilt, "a crash alone must not cost a rebuild")
	return left
}

// checkWrecked is check for a store of which more was damaged than a crash does.
func (m *model) checkWrecked(t testing.TB, s *store.Store) *model {
	t.Helper()
	return m.compare(t, s, false)
}

// compare requires that s holds what was appended, and returns that. With holes
// what was not acknowledged may be missing anywhere, else only at the end.
func (m *model) compare(t testing.TB, s *store.Store, holes bool) *model {
	t.Helper()
	end := s.Stats().Appended
	kept, x := m.left(t, s.Stats().Min)
	acked := m.durableIn(t, s)
	left := &model{acked: acked, before: acked, expiry: x}
	want := map[string][]entry{}
	for i, e := range kept {
		lost := e.end() > end
		if !lost {
			got, err := s.Get(e.Offset)
			if lost = err != nil && holes && e.end() > m.acked; !lost {
				require.NoError(t, err, "record at %d", e.Offset)
				e.same(t, got)
			}
		}
		if lost {
			require.LessOrEqual(t, m.kept, e.Offset, "lost: the log ends at %d, a kill had left all up to %d", end, m.kept)
			require.LessOrEqual(t, m.acked, e.Offset, "lost: the log ends at %d, acknowledged was up to %d", end, m.acked)
			if !holes {
				require.GreaterOrEqual(t, e.Offset, end, "record %d straddles the end of the log", i)
				break
			}
			continue
		}
		left.entries = append(left.entries, e)
		if e.keep {
			want[e.queue()] = append(want[e.queue()], e)
		}
	}
	if m.forgot {
		maxima := map[string]message.QueueOffset{}
		for _, q := range s.Queues() {
			maxima[fmt.Sprintf("%s/%d", q.Topic, q.QueueID)] = q.Max
		}
		for k, floor := range x.floors {
			if len(want[k]) == 0 {
				require.LessOrEqual(t, maxima[k], floor, "queue %s goes on from where it never was", k)
				x.floors[k] = maxima[k]
			}
		}
	}
	found := 0
	for _, q := range s.Queues() {
		k := fmt.Sprintf("%s/%d", q.Topic, q.QueueID)
		all := fetchWhole(t, s, q.Topic, q.QueueID)
		require.Len(t, all, len(want[k]), "queue %s", k)
		if !holes {
			require.Equal(t, x.floors[k], q.Min, "minimum of queue %s", k)
			require.EqualValues(t, len(all), q.Max-q.Min, "queue %s", k)
		}
		for i, e := range want[k] {
			e.same(t, all[i])
			if !holes {
				require.EqualValues(t, i, e.QueueOffset-q.Min, "a hole in queue %s", k)
			}
		}
		if len(want[k]) > 0 {
			found++
		}
	}
	require.Equal(t, len(want), found, "queues")
	st := s.Stats()
	if !holes {
		require.Empty(t, st.Recovery.Damage)
		require.Zero(t, st.SkippedRecords)
	}
	require.LessOrEqual(t, st.Flushed, st.Committed)
	require.LessOrEqual(t, st.Committed, st.Appended)
	require.LessOrEqual(t, st.Dispatched, st.Committed)
	return left
}

// durableIn returns up to where what a store found when it was opened is durable:
// all of it, but after a kill of a store that flushes asynchronously.
func (m *model) durableIn(t testing.TB, s *store.Store) message.Offset {
	t.Helper()
	st := s.Stats()
	end := st.Recovery.End
	if st.Recovery.Kind != store.ProcessKilled {
		require.LessOrEqual(t, end, st.Flushed, "what an opening keeps is durable")
	}
	return min(end, max(m.acked, st.Flushed))
}

// fetchWhole returns every message of a queue, as copies, whether there are
// holes between them or not.
func fetchWhole(t testing.TB, s *store.Store, topic string, queue int32) (all []*message.Message) {
	t.Helper()
	lo, hi, err := s.Bounds(topic, queue)
	require.NoError(t, err)
	for from := lo; from < hi; {
		b, err := s.Fetch(context.Background(), topic, queue, from, store.Limit{Messages: 100})
		require.NoError(t, err)
		require.Greater(t, b.Next, from, "queue %s/%d stands still in [%d, %d)", topic, queue, lo, hi)
		for m, err := range b.All() {
			require.NoError(t, err)
			all = append(all, m.Clone())
		}
		from = b.Next
		b.Release()
	}
	return all
}
