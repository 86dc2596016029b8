// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// selfProving returns the body of a message that says what it is: whoever finds
// it knows that it was appended, to this queue, and with these bytes.
func selfProving(topic string, queue int32, id string, pad int) []byte {
	text := fmt.Sprintf("%s|%s|%d|%s", id, topic, queue, strings.Repeat("x", pad))
	return fmt.Appendf(nil, "%s|%08x", text, crc32.ChecksumIEEE([]byte(text)))
}

// proven returns the id of a message with such a body.
func proven(m *message.Message) (string, error) {
	text := string(m.Body)
	at := strings.LastIndexByte(text, '|')
	parts := strings.Split(text, "|")
	if at < 0 || len(parts) != 5 {
		return "", fmt.Errorf("the body of the message at %d was never appended: %.80q", m.PhysicalOffset, m.Body)
	}
	sum, err := strconv.ParseUint(text[at+1:], 16, 32)
	if err != nil || sum != uint64(crc32.ChecksumIEEE([]byte(text[:at]))) || parts[1] != m.Topic || parts[2] != fmt.Sprint(m.QueueID) {
		return "", fmt.Errorf("the message at %d of %s/%d was never appended there: %.80q", m.PhysicalOffset, m.Topic, m.QueueID, m.Body)
	}
	return parts[0], nil
}

// pledges are what was promised about the messages of one store over many lives.
type pledges struct {
	mu       sync.Mutex
	promises map[string]*promise // by id
	gone     map[string]bool     // what a crash took must not come back
	known    map[string]bool     // nil, or every id that an append was begun with
}

// promise is a message whose append returned.
type promise struct {
	store.AppendResult
	since int64 // when it was known to be durable, on the clock of fusefs; never is MaxInt64
}

const never = math.MaxInt64

func newPledges() *pledges {
	return &pledges{promises: map[string]*promise{}, gone: map[string]bool{}}
}

// begin notes that a message is about to be appended.
func (l *pledges) begin(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]bool{}
	}
	l.known[id] = true
}

// answered notes that an append returned, and since when its message is durable.
func (l *pledges) answered(id string, r store.AppendResult, since int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promises[id] = &promise{r, since}
}

// flushed notes that everything below end is durable.
func (l *pledges) flushed(end message.Offset, since int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.promises {
		if p.Offset+message.Offset(p.Size) <= end {
			p.since = min(p.since, since)
		}
	}
}

// check requires of a store that was opened after a crash at a time: what was
// durable by then is there and equal; of the rest a first part, in the order of
// the log; nothing that was not appended, nothing twice, and nothing that an
// earlier crash took; queues without holes. From now on what is there is durable
// (since), and what is not is gone.
func (l *pledges) check(t testing.TB, s *store.Store, crash, since int64) {
	t.Helper()
	st := s.Stats()
	require.Empty(t, st.Recovery.Damage)
	require.False(t, st.Recovery.Rebuilt, "a crash alone must not cost a rebuild")
	require.Zero(t, st.Recovery.Lost)
	held := map[string]*message.Message{}
	for _, q := range s.Queues() {
		require.Zero(t, q.Min)
		for _, m := range fetchAll(t, s, q.Topic, q.QueueID) {
			id, err := proven(m)
			require.NoError(t, err)
			require.Nil(t, held[id], "message %s is there twice", id)
			held[id] = m
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, m := range held {
		require.False(t, l.gone[id], "message %s at %d came back", id, m.PhysicalOffset)
		require.True(t, l.known == nil || l.known[id], "message %s was invented", id)
	}
	for id, p := range l.promises {
		m := held[id]
		if p.Offset+message.Offset(p.Size) <= st.Appended {
			require.NotNil(t, m, "%s at %d is lost, though the log ends at %d", id, p.Offset, st.Appended)
			require.Equal(t, p.Offset, m.PhysicalOffset)
			require.Equal(t, p.QueueOffset, m.QueueOffset)
			p.since = min(p.since, since)
			continue
		}
		require.Nil(t, m)
		require.GreaterOrEqual(t, p.since, crash, "%s at %d is lost, the log ends at %d: it was durable", id, p.Offset, st.Appended)
		delete(l.promises, id)
		l.gone[id] = true
	}
	// What was appended and never answered is a promise as well once it is found.
	for id, m := range held {
		if l.promises[id] == nil {
			l.promises[id] = &promise{store.AppendResult{
				Topic: m.Topic, QueueID: m.QueueID, QueueOffset: m.QueueOffset, Offset: m.PhysicalOffset, Size: m.Size,
			}, since}
		}
	}
}

// randomPad is how many bytes a message is padded with: mostly few, at times
// enough to roll a file soon.
func randomPad(rng *rand.Rand) int {
	if rng.IntN(8) == 0 {
		return 2000 + rng.IntN(3000)
	}
	return rng.IntN(400)
}
