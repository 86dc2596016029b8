// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// keyOf is what messages are asked for by.
type keyOf struct{ topic, key string }

// keysOf are the keys of a message, each once.
func keysOf(m *message.Message) (keys []string) {
	if m.SysFlag.Transaction() == message.TransactionRollback {
		return nil
	}
	keys = m.Keys()
	if uniq, ok := m.Properties.Get(message.PropertyUniqKey); ok {
		keys = append(keys, uniq)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// byKey are the messages of the model by their keys, newest first.
func (p *player) byKey() map[keyOf][]entry {
	all := map[keyOf][]entry{}
	for _, e := range slices.Backward(p.entries) {
		for _, k := range keysOf(e.msg) {
			at := keyOf{e.Topic, k}
			all[at] = append(all[at], e)
		}
	}
	return all
}

// doQuery asks for a key while messages come in: what is found has it, newest
// first.
func (p *player) doQuery(rng *rand.Rand) {
	k := keyOf{playTopics[rng.IntN(len(playTopics))], []string{"k1", "k2", "k3"}[rng.IntN(3)]}
	all, err := p.s.Query(context.Background(), k.topic, k.key, store.QueryOptions{Max: 1 + rng.IntN(20)})
	p.say("query %v: %d, %v", k, len(all), err)
	if p.blind && err != nil {
		return
	}
	p.queried(err, "query %v", k)
	for i, m := range all {
		e, ok := p.find(m.PhysicalOffset)
		require.True(p.t, ok, "a message that was never appended: %d", m.PhysicalOffset)
		require.Contains(p.t, keysOf(e.msg), k.key)
		e.same(p.t, m)
		if i > 0 {
			require.Less(p.t, m.PhysicalOffset, all[i-1].PhysicalOffset)
		}
	}
}

// queried requires that a query had no error. In a log with a hole the index can
// know a record that is damaged now: then the query says so, beside what it found.
func (p *player) queried(err error, format string, args ...any) {
	var damaged *commitlog.CorruptError
	if p.holed && errors.As(err, &damaged) {
		return
	}
	require.NoErrorf(p.t, err, format, args...)
}

func (p *player) find(off message.Offset) (entry, bool) {
	i := slices.IndexFunc(p.entries, func(e entry) bool { return e.Offset == off })
	if i < 0 {
		return entry{}, false
	}
	return p.entries[i], true
}

// verifyKeys requires that each message is found by each of its keys, once, and
// that no other is.
func (p *player) verifyKeys() {
	for k, want := range p.byKey() {
		got, err := p.s.Query(context.Background(), k.topic, k.key, store.QueryOptions{Max: len(want) + 1})
		p.queried(err, "query %v", k)
		require.Len(p.t, got, len(want), "query %v", k)
		for i, e := range want {
			e.same(p.t, got[i])
		}
	}
	got, err := p.s.Query(context.Background(), "x", "never", store.QueryOptions{})
	require.NoError(p.t, err)
	require.Empty(p.t, got)
}
