// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

func TestOffsetByTime(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_700_000_000_000)
	clock := newHandClock(start)
	s, err := store.Open(t.TempDir(), store.Options{FileSize: 64 << 10, Clock: clock.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for i := range 1000 { // ten a second, over several files
		clock.set(start.Add(time.Duration(i/10) * time.Second))
		_, err := s.Append(t.Context(), &message.Message{Topic: "T", Body: make([]byte, 200)})
		require.NoError(t, err)
	}
	require.NoError(t, s.WaitDispatched(t.Context(), s.Log().Appended()))

	for _, tt := range []struct {
		name         string
		at           time.Duration
		lower, upper message.QueueOffset
	}{
		{"before all", -time.Second, 0, 0},
		{"the first", 0, 0, 9},
		{"in the middle", 42 * time.Second, 420, 429},
		{"between two", 42*time.Second + time.Millisecond, 430, 429},
		{"the last", 99 * time.Second, 990, 999},
		{"after all", time.Hour, 1000, 999},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lower, err := s.OffsetByTime("T", 0, start.Add(tt.at), consumequeue.Lower)
			require.NoError(t, err)
			require.Equal(t, tt.lower, lower)
			upper, err := s.OffsetByTime("T", 0, start.Add(tt.at), consumequeue.Upper)
			require.NoError(t, err)
			require.Equal(t, tt.upper, upper)
		})
	}
	_, err = s.OffsetByTime("T", 7, start, consumequeue.Lower)
	require.ErrorIs(t, err, store.ErrNoQueue)
}
