// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
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
	keep bool // it has a place in its queue
}

func (e entry) end() message.Offset { return e.Offset + message.Offset(e.Size) }

// model is what a store must hold: everything that was appended, in the order of
// the log, and up to where it was acknowledged as durable.
type model struct {
	mu      sync.Mutex
	entries []entry
	acked   message.Offset
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
// model of what s holds, all of it acknowledged: Open makes durable what it
// keeps.
func (m *model) check(t testing.TB, s *store.Store) *model {
	t.Helper()
	left := m.checkWrecked(t, s)
	require.False(t, s.Stats().Recovery.Rebuilt, "a crash alone must not cost a rebuild")
	return left
}

// checkWrecked is check for a store of which more was damaged than a crash does.
func (m *model) checkWrecked(t testing.TB, s *store.Store) *model {
	t.Helper()
	end := s.Stats().Appended
	left := &model{acked: end}
	want := map[string][]entry{}
	for _, e := range m.entries {
		if e.end() > end {
			break
		}
		left.entries = append(left.entries, e)
		if e.keep {
			k := fmt.Sprintf("%s/%d", e.Topic, e.QueueID)
			want[k] = append(want[k], e)
		}
		got, err := s.Get(e.Offset)
		require.NoError(t, err, "record at %d", e.Offset)
		require.Equal(t, e.Topic, got.Topic)
		require.True(t, bytes.Equal(e.body, got.Body), "body at %d", e.Offset)
	}
	if n := len(left.entries); n < len(m.entries) {
		lost := m.entries[n]
		require.LessOrEqual(t, m.acked, lost.Offset, "lost: the log ends at %d, acknowledged was up to %d", end, m.acked)
	}
	found := 0
	for _, q := range s.Queues() {
		k := fmt.Sprintf("%s/%d", q.Topic, q.QueueID)
		require.Zero(t, q.Min, "queue %s", k)
		all := fetchAll(t, s, q.Topic, q.QueueID)
		require.Len(t, all, len(want[k]), "queue %s", k)
		for i, e := range want[k] {
			require.Equal(t, e.Offset, all[i].PhysicalOffset, "queue %s, offset %d", k, i)
			require.Equal(t, e.QueueOffset, all[i].QueueOffset)
			require.True(t, bytes.Equal(e.body, all[i].Body))
		}
		found++
	}
	require.Equal(t, len(want), found, "queues")
	st := s.Stats()
	require.Empty(t, st.Recovery.Damage)
	require.Zero(t, st.SkippedRecords)
	require.LessOrEqual(t, st.Flushed, st.Appended)
	require.LessOrEqual(t, st.Dispatched, st.Appended)
	return left
}
