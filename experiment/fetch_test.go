// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	s := quick(t)
	r, err := Fetch(t.Context(), FetchConfig{Schedule: s, Messages: 1003, Size: 100, Queues: 5, Batches: []int{1, 32}})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	require.Equal(t, []string{"sequential, 1 a fetch", "sequential, 32 a fetch", "random, 1 a fetch", "random, 32 a fetch"}, r.Labels)
	for i := range r.Rows {
		for _, column := range []string{"msgsPerSec", "mbPerSec", "p50us", "floorMsgsPerSec", "ratioToFloor"} {
			v, _ := r.number(i, column)
			require.Positive(t, v, column)
		}
		want := int64(5 * 200)
		if i%2 == 1 {
			want = 5 * 6 * 32 // whole batches
		}
		require.Equal(t, want, r.Value(i, "messages"))
		require.EqualValues(t, 5, r.Value(i, "queues"))
		require.Equal(t, i, r.Distributions[i].Row)
		require.Equal(t, want/r.Value(i, "batch").(int64)*int64(r.Rounds), r.Distributions[i].Count, "one latency for each fetch")
	}
	var page bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	require.Contains(t, page.String(), "Throughput, messages/s")
}

// TestFetchPlaces holds that a sequential pass reads each message once, and that a
// random one stays in its queue.
func TestFetchPlaces(t *testing.T) {
	t.Parallel()
	e := &fetches{config: FetchConfig{Messages: 100, Queues: 4}}
	seen := map[place]int{}
	for _, p := range e.places(fetchCase{order: Sequential, batch: 5}) {
		for i := range int64(5) {
			seen[place{p.queue, p.from + i}]++
		}
	}
	require.Len(t, seen, 100)
	random := e.places(fetchCase{order: Random, batch: 5})
	require.Len(t, random, 20)
	require.Equal(t, random, e.places(fetchCase{order: Random, batch: 5}), "the same each time")
	for _, p := range random {
		require.True(t, p.queue >= 0 && p.queue < 4 && p.from >= 0 && p.from+5 <= 25, "%v", p)
	}
}

func TestFetchWhatGoesWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []FetchConfig{
		{Messages: -1}, {Messages: 3, Queues: 4}, {Messages: 1 << 30}, {Size: -1}, {Size: 1 << 30}, {Queues: -1},
		{Batches: []int{0}}, {Messages: 10, Queues: 5, Batches: []int{3}}, {Orders: []string{"backwards"}}, {Schedule: Schedule{Rounds: -1}},
	} {
		_, err := Fetch(t.Context(), c)
		require.ErrorIs(t, err, ErrConfig)
	}
	s := quick(t)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s.Progress = func(Progress) { cancel(enough) }
	_, err := Fetch(ctx, FetchConfig{Schedule: s, Messages: 1000, Size: 100})
	require.ErrorIs(t, err, enough)
	requireEmpty(t, s.Dir)
}
