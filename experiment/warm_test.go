// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

func TestWarmup(t *testing.T) {
	t.Parallel()
	s := quick(t)
	const fileSize = 512 << 10
	r, err := Warmup(t.Context(), WarmupConfig{
		Schedule: s, FileSize: fileSize, Files: 3, Size: 200,
		Warmups: []store.WarmupOptions{{Mode: warmup.Off}, {Mode: warmup.Touch}, {Mode: warmup.Populate, Lock: true}, {Window: 64 << 10, Mode: warmup.Populate}},
	})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	require.Equal(t, []string{"off", "touch", "populate+lock", "window"}, r.Labels)
	prepared := []int64{0, fileSize, fileSize, 64 << 10}
	for i := range r.Rows {
		require.EqualValues(t, prepared[i], r.Value(i, "preparedBytes"))
		require.Equal(t, r.Labels[i], r.Value(i, "warmup"))
		for _, column := range []string{"msgsPerSec", "p50us", "maxus", "longestRollUs", "floorMsgsPerSec", "ratioToFloor"} {
			v, _ := r.number(i, column)
			require.Positive(t, v, column)
		}
		rolls, _ := r.number(i, "rolls")
		require.GreaterOrEqual(t, rolls, 2.0)
		longest, _ := r.number(i, "longestRollUs")
		most, _ := r.number(i, "maxus")
		require.LessOrEqual(t, longest, most*1.01)
	}
	require.Empty(t, r.Value(0, "prepareMs"))
	require.NotZero(t, r.Value(1, "prepareMs"))
}

func TestWarmupWhatGoesWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []WarmupConfig{{Files: -1}, {Size: -1}, {FileSize: 100}, {Schedule: Schedule{Rounds: -1}}} {
		_, err := Warmup(t.Context(), c)
		require.ErrorIs(t, err, ErrConfig)
	}
	_, err := Warmup(t.Context(), WarmupConfig{Schedule: quick(t), Warmups: []store.WarmupOptions{{Mode: 77}}})
	require.ErrorIs(t, err, store.ErrOptions)

	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := quick(t)
	s.Progress = func(Progress) { time.AfterFunc(20*time.Millisecond, func() { cancel(enough) }) }
	_, err = Warmup(ctx, WarmupConfig{Schedule: s, Files: 1000})
	require.ErrorIs(t, err, enough)
	requireEmpty(t, s.Dir)
}

func TestDefaultWarmupsHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, w := range defaultWarmups() {
		names[warmupName(w)] = true
	}
	require.Len(t, names, len(defaultWarmups()))
	require.Equal(t, "touch-window", warmupName(store.WarmupOptions{Mode: warmup.Touch, Window: 1}))
}
