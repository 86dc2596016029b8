// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// quick is a schedule of one round in a directory of the test's.
func quick(t *testing.T) Schedule {
	t.Helper()
	return Schedule{Dir: t.TempDir(), Rounds: 1, Discard: -1}
}

// fixedNames are what whoever reads the JSON of a row counts on.
var fixedNames = strings.Fields(`experiment messages size producers batch flush writePath warmup msgsPerSec mbPerSec
	dispatchedMsgsPerSec p50us p99us p999us p9999us maxus allocsPerOp floorMsgsPerSec ratioToFloor`)

func requireRow(t *testing.T, r *Report, row int) map[string]any {
	t.Helper()
	var names []string
	for _, c := range r.Columns[:len(fixedNames)] {
		names = append(names, c.Name)
	}
	require.Equal(t, fixedNames, names)
	var got map[string]any
	require.NoError(t, json.Unmarshal(r.AppendRow(nil, row), &got))
	for _, name := range []string{"msgsPerSec", "mbPerSec", "dispatchedMsgsPerSec", "p50us", "p99us", "maxus", "floorMsgsPerSec", "ratioToFloor"} {
		require.Greater(t, got[name], 0.0, name)
	}
	require.GreaterOrEqual(t, got["p99us"], got["p50us"])
	require.GreaterOrEqual(t, got["maxus"], got["p9999us"])
	require.LessOrEqual(t, got["dispatchedMsgsPerSec"], got["msgsPerSec"])
	return got
}

// requireEmpty holds that nothing of an experiment is left.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestAppend(t *testing.T) {
	t.Parallel()
	s := quick(t)
	s.Rounds, s.Discard = 2, 1
	var steps []Progress
	s.Progress = func(p Progress) { steps = append(steps, p) }
	r, err := Append(t.Context(), AppendConfig{
		Schedule: s, Messages: 500, FileSize: 1 << 20, Matrix: Matrix{Sizes: []int{300}, Producers: []int{1, 3}, Batches: []int{4}},
	})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	require.Len(t, r.Rows, 2)
	require.Len(t, r.Distributions, 2)
	for i := range r.Rows {
		row := requireRow(t, r, i)
		require.Equal(t, "append", row["experiment"])
		require.Equal(t, "async", row["flush"])
		require.InEpsilon(t, 500, row["messages"], 0.02, "whole batches")
		require.Equal(t, i, r.Distributions[i].Row)
	}

	// The cases take turns, forwards and backwards, and the first round does not count.
	one, three := "1 producer", "3 producers"
	require.Equal(t, []Progress{
		{0, 6, one, 0}, {1, 6, three, 0}, {2, 6, three, 1}, {3, 6, one, 1}, {4, 6, one, 2}, {5, 6, three, 2}, {6, 6, "", 2},
	}, steps)
	require.Equal(t, one, r.Distributions[0].Name)
	require.EqualValues(t, 2, r.Value(0, "rounds"))
}

// TestAppendRate holds that the messages come at the rate and not faster.
func TestAppendRate(t *testing.T) {
	t.Parallel()
	s := quick(t)
	r, err := Append(t.Context(), AppendConfig{Schedule: s, Messages: 400, Rate: 4000, FileSize: 1 << 20, Matrix: Matrix{Sizes: []int{100}, Producers: []int{2}}})
	require.NoError(t, err)
	row := requireRow(t, r, 0)
	require.LessOrEqual(t, row["msgsPerSec"], 4100.0)
	require.Len(t, r.Distributions, 2)
	require.Equal(t, "no append", r.Distributions[1].Name)
	require.Equal(t, -1, r.Distributions[1].Row)
	require.Positive(t, r.Distributions[1].Count)
	requireEmpty(t, s.Dir)
}

// TestWhatWasWarmedUp holds that a row says what the store did.
func TestWhatWasWarmedUp(t *testing.T) {
	t.Parallel()
	r, err := Append(t.Context(), AppendConfig{Schedule: quick(t), Messages: 500, FileSize: 256 << 10, Matrix: Matrix{
		Sizes: []int{1000}, WritePaths: []store.WritePath{store.WriteMmap, store.WritePool},
		Warmups: []store.WarmupOptions{{Mode: warmup.Off}, {Mode: warmup.Touch}, {Mode: warmup.Populate}, {}},
	}})
	require.NoError(t, err)
	var names []any
	for i := range r.Rows {
		names = append(names, requireRow(t, r, i)["warmup"])
	}
	require.Equal(t, []any{"off", "touch", "populate", "window", "off"}, names)
}

// TestDue holds that the producers share the rate and take turns.
func TestDue(t *testing.T) {
	t.Parallel()
	l := load{Case: Case{Producers: 2, Batch: 5}, rate: 1000, messages: 100, timed: true}
	a, b := newProducer(nil, l, 0), newProducer(nil, l, 1)
	require.Equal(t, 10, a.batches)
	require.Equal(t, []time.Duration{0, 5 * time.Millisecond, 10 * time.Millisecond, 15 * time.Millisecond},
		[]time.Duration{a.due(0), b.due(0), a.due(1), b.due(1)})
}

// TestLatenessCounts holds that an append that begins late because the one
// before it was slow counts from when it was due.
func TestLatenessCounts(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.TempDir(), store.Options{FileSize: 1 << 20})
	require.NoError(t, err)
	defer s.Close()
	l := load{Case: Case{Size: 10, Producers: 1, Batch: 1}, rate: 1000, messages: 3, timed: true}
	p := newProducer(s, l, 0)
	// Everything is due a second ago.
	require.NoError(t, p.produce(t.Context(), time.Now().Add(-time.Second)))
	require.EqualValues(t, 3, p.latency.TotalCount())
	require.GreaterOrEqual(t, time.Duration(p.latency.Min()), 990*time.Millisecond)
}

func TestFlush(t *testing.T) {
	t.Parallel()
	s := quick(t)
	r, err := Flush(t.Context(), FlushConfig{Schedule: s, Messages: 200, FileSize: 1 << 20, Matrix: Matrix{
		Sizes: []int{100}, Producers: []int{8}, WritePaths: []store.WritePath{store.WriteMmap, store.WritePool, store.WriteFile},
	}})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	require.Len(t, r.Rows, 6)
	for i, path := range []string{"mmap", "pool", "file", "mmap", "pool", "file"} {
		require.Equal(t, path, requireRow(t, r, i)["writePath"])
	}
	sync, async := requireRow(t, r, 0), requireRow(t, r, 3)
	require.Equal(t, "sync", sync["flush"])
	require.Equal(t, "async", async["flush"])
	require.Equal(t, "flush", sync["experiment"])
	require.Equal(t, "flush", sync["waitedFor"])
	require.Positive(t, sync["flushWaitUs"])
	require.NotEqual(t, "flush", async["waitedFor"])
	require.Zero(t, async["flushWaitUs"])
	// One flush takes what all eight have appended, at most, and one at least.
	require.GreaterOrEqual(t, sync["bytesPerSync"], 190.0)
	require.Greater(t, async["bytesPerSync"], sync["bytesPerSync"])
}

// TestCasesAndLabels holds the order of the cases, and that a case is named by
// what tells it from the others.
func TestCasesAndLabels(t *testing.T) {
	t.Parallel()
	m := Matrix{
		Sizes: []int{10, 2048}, Producers: []int{1, 2}, Batches: []int{8}, Flush: []store.FlushMode{store.FlushSync, store.FlushAsync},
		WritePaths: []store.WritePath{store.WriteMmap},
	}.or(Matrix{})
	var labels []string
	for _, c := range m.cases() {
		labels = append(labels, m.label(c))
	}
	require.Equal(t, []string{
		"sync, 10 B, 1 producer", "sync, 10 B, 2 producers", "sync, 2 KiB, 1 producer", "sync, 2 KiB, 2 producers",
		"async, 10 B, 1 producer", "async, 10 B, 2 producers", "async, 2 KiB, 1 producer", "async, 2 KiB, 2 producers",
	}, labels)
	one := Matrix{Sizes: []int{10}, Producers: []int{1}, Batches: []int{1}, Flush: []store.FlushMode{store.FlushSync}}
	one.WritePaths = []store.WritePath{store.WritePool}
	one = one.or(Matrix{})
	require.Equal(t, "10 B", one.label(one.cases()[0]))
	require.Equal(t, store.WritePool, one.cases()[0].WritePath)

	// What only the mapping knows makes no more cases of the others.
	warm := Matrix{
		Sizes: []int{10}, Producers: []int{1}, Batches: []int{1}, Flush: []store.FlushMode{store.FlushSync},
		WritePaths: []store.WritePath{store.WriteMmap, store.WriteFile},
		Warmups:    []store.WarmupOptions{{Mode: warmup.Off}, {Mode: warmup.Populate, Lock: true, Advise: warmup.Random}, {}},
	}
	labels = nil
	for _, c := range warm.cases() {
		labels = append(labels, warm.label(c))
	}
	require.Equal(t, []string{"mmap, off", "mmap, populate+lock+random", "mmap, window", "file"}, labels)
}

func TestDurationEndsAPass(t *testing.T) {
	t.Parallel()
	s := quick(t)
	r, err := Flush(t.Context(), FlushConfig{
		Schedule: s, Duration: 100 * time.Millisecond, FileSize: 1 << 20, Matrix: Matrix{Sizes: []int{10}, Producers: []int{1}, Flush: []store.FlushMode{store.FlushSync}},
	})
	require.NoError(t, err)
	n, _ := r.number(0, "messages")
	require.Positive(t, n)
	require.Less(t, n, 1e5)
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		c    AppendConfig
		want string
	}{
		{"rounds", AppendConfig{Schedule: Schedule{Rounds: -1}}, "-1 rounds"},
		{"messages", AppendConfig{Messages: -2}, "-2 messages"},
		{"duration", AppendConfig{Duration: -time.Second}, "duration -1s"},
		{"rate", AppendConfig{Rate: math.NaN()}, "rate NaN"},
		{"file size", AppendConfig{FileSize: 100}, "file size 100"},
		{"size", AppendConfig{Matrix: Matrix{Sizes: []int{1 << 30}}}, "size 1073741824"},
		{"producers", AppendConfig{Matrix: Matrix{Producers: []int{0}}}, "producers 0"},
		{"batch", AppendConfig{Matrix: Matrix{Batches: []int{-1}}}, "batch -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Append(t.Context(), c.c)
			require.ErrorIs(t, err, ErrConfig)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Append(t.Context(), AppendConfig{Schedule: Schedule{Dir: "/does/not/exist"}})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestCancel holds that an experiment ends soon, with the cause, and leaves
// nothing; goleak that it leaves no goroutine.
func TestCancel(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	for _, c := range []struct {
		name string
		run  func(context.Context, Schedule) error
	}{
		{"append", func(ctx context.Context, s Schedule) error {
			_, err := Append(ctx, AppendConfig{Schedule: s, Messages: 1 << 30, FileSize: 64 << 20})
			return err
		}},
		{"append at a rate", func(ctx context.Context, s Schedule) error {
			_, err := Append(ctx, AppendConfig{Schedule: s, Messages: 1 << 30, Rate: 1, FileSize: 64 << 20})
			return err
		}},
		{"flush", func(ctx context.Context, s Schedule) error {
			_, err := Flush(ctx, FlushConfig{Schedule: s, Duration: time.Hour, FileSize: 64 << 20})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			s := quick(t)
			s.Progress = func(Progress) { time.AfterFunc(50*time.Millisecond, func() { cancel(cause) }) }
			require.ErrorIs(t, c.run(ctx, s), cause)
			requireEmpty(t, s.Dir)
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	e := Look(t.TempDir())
	require.Positive(t, e.CPUs)
	require.NotEmpty(t, e.Go)
	for _, f := range e.Facts() {
		require.NotEmpty(t, f[1], f[0])
	}
}
