// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	s := quick(t)
	const wanted = 600_000
	r, err := Recover(t.Context(), RecoverConfig{Schedule: s, Bytes: []int64{wanted}, Size: 200, FileSize: 256 << 10, Child: writeChild})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	require.Len(t, r.Rows, 3)
	require.Equal(t, []string{"kill", "clean close", "queues lost"}, r.Labels)
	for i := range r.Rows {
		for _, column := range []string{"openMs", "floorMs", "ratioToFloor"} {
			v, _ := r.number(i, column)
			require.Positive(t, v, column)
		}
		n, _ := r.number(i, "logBytes")
		require.GreaterOrEqual(t, n, float64(wanted))
		files, _ := r.number(i, "files")
		require.GreaterOrEqual(t, files, 3.0)
	}
	require.EqualValues(t, 0, r.Value(1, "readBytes"), "a clean store is not read")
	require.Equal(t, r.Value(2, "logBytes"), r.Value(2, "readBytes"), "all of the log is read for the queues")
	require.Positive(t, r.Value(2, "readRecords"))

	var page bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	require.Contains(t, page.String(), "Time of Open, ms")
}

func TestRecoverWhatGoesWrong(t *testing.T) {
	t.Parallel()
	_, err := Recover(t.Context(), RecoverConfig{})
	require.ErrorIs(t, err, ErrConfig)
	_, err = Recover(t.Context(), RecoverConfig{Child: writeChild, Bytes: []int64{0}})
	require.ErrorIs(t, err, ErrConfig)
	_, err = Recover(t.Context(), RecoverConfig{Child: writeChild, FileSize: 7})
	require.ErrorIs(t, err, ErrConfig)

	s := quick(t)
	none := errors.New("no child today")
	_, err = Recover(t.Context(), RecoverConfig{Schedule: s, Child: func(context.Context, WriteConfig) (*exec.Cmd, error) { return nil, none }})
	require.ErrorIs(t, err, none)
	_, err = Recover(t.Context(), RecoverConfig{Schedule: s, Child: func(ctx context.Context, _ WriteConfig) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, "true"), nil
	}})
	require.ErrorContains(t, err, "the writing process: EOF")
	requireEmpty(t, s.Dir)

	// The child does not outlive an experiment that is given up.
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = Recover(ctx, RecoverConfig{Schedule: s, Bytes: []int64{1 << 40}, Child: func(ctx context.Context, w WriteConfig) (*exec.Cmd, error) {
		defer cancel(none)
		return writeChild(ctx, w)
	}})
	require.ErrorIs(t, err, none)
	requireEmpty(t, s.Dir)
}

func TestWriteSaysWhenItHasEnough(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	err := Write(ctx, WriteConfig{Dir: dir, Bytes: 10_000, Size: 100, FileSize: 1 << 20}, writerFunc(func(b []byte) (int, error) {
		require.Equal(t, written, string(b))
		cancel()
		return len(b), nil
	}))
	require.ErrorIs(t, err, context.Canceled)
	s, err := store.Open(dir, store.Options{MustExist: true})
	require.NoError(t, err)
	defer s.Close()
	require.GreaterOrEqual(t, int64(s.Stats().Appended), int64(10_000))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestScale(t *testing.T) {
	t.Parallel()
	s := scaleFor(10, 60)
	require.False(t, s.log)
	require.Equal(t, []float64{0, 20, 40, 60}, s.ticks)
	require.InDelta(t, 50, s.at(30), 1e-9)
	s = scaleFor(730, 1.5e6)
	require.True(t, s.log)
	require.Equal(t, []float64{1e2, 1e3, 1e4, 1e5, 1e6, 1e7}, s.ticks)
	require.InDelta(t, 20, s.at(1e3), 1e-9)
	require.Zero(t, s.at(0))
}
