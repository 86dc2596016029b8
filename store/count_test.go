// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/store"
)

func TestCount(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_700_000_000_000)
	clock := newHandClock(start)
	s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Clock = clock.Now })
	declare(t, s, "empty", 1, "RW")
	c, err := s.Count("empty", 0)
	require.NoError(t, err)
	require.Equal(t, store.QueueCount{QueueInfo: store.QueueInfo{Topic: "empty"}}, c)
	_, err = s.Count("none", 0)
	require.ErrorIs(t, err, store.ErrNoQueue)

	for i := range 100 {
		clock.set(start.Add(time.Duration(i) * time.Second))
		appendOne(t, s, "orders", 1, "x")
	}
	waitAll(t, s)
	c, err = s.Count("orders", 1)
	require.NoError(t, err)
	require.Equal(t, store.QueueCount{
		QueueInfo: store.QueueInfo{Topic: "orders", QueueID: 1, Max: 100}, Count: 100, First: start, Last: clock.Now(),
	}, c)
	require.NoError(t, s.Close())
	_, err = s.Count("orders", 1)
	require.ErrorIs(t, err, store.ErrClosed)
}

// TestCountOfDamagedQueue: the ends of the span are those of what can be read.
func TestCountOfDamagedQueue(t *testing.T) {
	t.Parallel()
	v := victims["stele/closed"](t)
	first, last := -1, -1
	var times []time.Time
	s := openVictim(t, v)
	for i, k := range v.all {
		if k.topic != "orders" || k.queue != 0 {
			continue
		}
		if m, err := s.Get(k.offset); err == nil {
			times = append(times, time.UnixMilli(m.StoreTimestamp))
		}
		if last = i; first < 0 {
			first = i
		}
	}
	require.NoError(t, s.Close())
	for _, i := range []int{first, last} {
		v.change(t, v.all[i].offset, 8, func(b []byte) { b[5] ^= 1 }) // the magic
	}
	s = openVictim(t, v)
	c, err := s.Count("orders", 0)
	require.NoError(t, err)
	require.EqualValues(t, len(times), c.Count)
	require.Equal(t, times[1], c.First)
	require.Equal(t, times[len(times)-2], c.Last)
}
