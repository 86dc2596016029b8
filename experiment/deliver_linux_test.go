// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deliverNames are what whoever reads the JSON of a row counts on.
var deliverNames = strings.Fields(`experiment method size chunk consumers pattern cache reader gbPerSec cpuUserSecPerGB cpuSysSecPerGB
	syscallsPerGB ctxSwitchesPerGB theoryCPUCopies theoryDMACopies theoryModeSwitches kernelPath`)

// readerChild is DeliverConfig.Child of the tests.
func readerChild(ctx context.Context, address string, consumers int) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, exe)
	c.Env = append(os.Environ(), readVariable+"="+fmt.Sprint(address, " ", consumers))
	return c, nil
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	s := quick(t)
	const size, chunk = 1 << 20, 32 << 10
	r, err := Deliver(t.Context(), DeliverConfig{
		Schedule: s, Size: size, Chunks: []int{chunk}, Consumers: []int{1, 2}, Patterns: []string{Contiguous, Scattered},
		Readers: []string{ReaderCopy, ReaderDiscard}, Caches: []string{Warm, Cold}, Child: readerChild,
	})
	require.NoError(t, err)
	requireEmpty(t, s.Dir)
	for i, name := range deliverNames {
		require.Equal(t, name, r.Columns[i].Name)
	}
	require.Len(t, r.Rows, 2*2*2*(2*len(DeliverMethods)-1), "a range is never scattered")
	require.Equal(t, "lo", r.Environment.Interface)
	require.NotEmpty(t, r.Environment.Congestion)
	for i := range r.Rows {
		method, label := r.Value(i, "method"), r.Labels[i]
		for _, column := range []string{"gbPerSec", "syscallsPerGB", "ratioToFloor", "floorGBPerSec"} {
			v, _ := r.number(i, column)
			require.Positive(t, v, label+" "+column)
		}
		// So many calls at least as the method makes for its chunks: nothing went
		// another way.
		runs := 1.0
		if r.Value(i, "pattern") == Scattered {
			runs = scatter
		}
		calls, _ := r.number(i, "syscallsPerGB")
		chunks := 1e9 / chunk
		least := map[any]float64{
			wayReadWrite: runs + 1, wayWrite: runs, wayWritev: 1, waySendfile: runs, wayBare: runs, waySplice: 2 * runs,
			wayCopy: 1, wayIOCopy: 2 * runs, wayZerocopy: runs, wayRange: 1, wayBatch: 1,
			wayBatchAlone: 1, wayFetchCopy: 1,
		}[method] * chunks
		require.GreaterOrEqual(t, calls, least*0.99, label)
		path := r.Value(i, "kernelPath")
		switch {
		case method == wayIOCopy, method == wayRange, (method == wayBatch || method == wayBatchAlone) && runs == 1:
			require.Equal(t, "sendfile", path, label)
		case method == wayBatch, method == wayBatchAlone:
			require.Equal(t, "copy+write", path, label)
		case method == wayZerocopy:
			require.Regexp(t, `^copied [0-9]+ of [1-9][0-9]*$`, path, label)
		}
	}
	var page bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	require.Contains(t, page.String(), "Throughput, GB/s")
}

func TestDeliverWhatGoesWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []DeliverConfig{
		{Size: 1}, {Size: 1 << 40}, {Chunks: []int{0}}, {Chunks: []int{64<<10 + 1}}, {Chunks: []int{1 << 30}},
		{Consumers: []int{0}}, {Patterns: []string{"diagonal"}}, {Caches: []string{"tepid"}}, {Readers: []string{"nobody"}},
		{Methods: []string{"pigeon"}}, {Schedule: Schedule{Rounds: -1}},
	} {
		_, err := Deliver(t.Context(), c)
		require.ErrorIs(t, err, ErrConfig)
	}
	s := quick(t)
	none := errors.New("no child today")
	small := DeliverConfig{Schedule: s, Size: 1 << 20, Consumers: []int{2}}
	small.Child = func(context.Context, string, int) (*exec.Cmd, error) { return nil, none }
	_, err := Deliver(t.Context(), small)
	require.ErrorIs(t, err, none)

	// A child that goes without a word must not be waited for.
	small.Child = func(ctx context.Context, _ string, _ int) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, "false"), nil
	}
	_, err = Deliver(t.Context(), small)
	require.ErrorContains(t, err, "the reading process: exit status 1")
	requireEmpty(t, s.Dir)

	// Nor does the child outlive an experiment that is given up.
	ctx, cancel := context.WithCancelCause(t.Context())
	small = DeliverConfig{Schedule: s, Size: 512 << 20, Child: readerChild}
	small.Schedule.Progress = func(Progress) { time.AfterFunc(20*time.Millisecond, func() { cancel(none) }) }
	_, err = Deliver(ctx, small)
	require.ErrorIs(t, err, none)
	requireEmpty(t, s.Dir)
}

// TestDeliverInOneProcess has no child, and says what that means.
func TestDeliverInOneProcess(t *testing.T) {
	t.Parallel()
	r, err := Deliver(t.Context(), DeliverConfig{Schedule: quick(t), Size: 1 << 20, Consumers: []int{1}, Methods: []string{wayWrite}})
	require.NoError(t, err)
	require.Len(t, r.Rows, 1)
	require.Nil(t, r.Value(0, "ratioToFloor"), "no floor was asked for")
	require.Contains(t, r.Warnings[0], "the readers ran in the sending process")
}

func TestTheory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		runs   int
		gather bool
		want   theory
	}{
		{wayReadWrite, 1, true, theory{2, 2, 4}},
		{wayWrite, 1, true, theory{1, 2, 4}},
		{waySendfile, 1, true, theory{0, 2, 2}},
		{waySendfile, 1, false, theory{1, 2, 2}},
		{waySendfile, 32, true, theory{0, 2, 64}},
		{waySplice, 1, true, theory{0, 2, 4}},
		{wayCopy, 32, true, theory{2, 2, 2}},
		{wayBatch, 32, true, theory{2, 2, 2}},
		{wayBatch, 1, true, theory{0, 2, 2}},
	} {
		require.Equal(t, c.want, theoryOf(c.method, c.runs, c.gather), "%s, %d runs", c.method, c.runs)
	}
}
