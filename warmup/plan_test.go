// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edsrzf/mmap-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/warmup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mapped is a mapping of a new file of n bytes.
func mapped(tb testing.TB, n int) []byte {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "f"))
	require.NoError(tb, err)
	defer f.Close()
	require.NoError(tb, f.Truncate(int64(n)))
	data, err := mmap.MapRegion(f, n, mmap.RDWR, 0, 0)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, data.Unmap()) })
	return data
}

func TestRunChangesNoByte(t *testing.T) {
	t.Parallel()
	const n = 256<<10 + 4097
	for _, mode := range []warmup.Mode{warmup.Default, warmup.Off, warmup.Touch, warmup.Populate} {
		for _, cut := range [][2]int{{0, n}, {4096, n}, {1, n - 1}, {4095, 4097}, {100, 101}, {4093, 8195}, {7, 7}} {
			data := mapped(t, n)
			for i := range data {
				data[i] = byte(i % 251)
			}
			want := bytes.Clone(data)
			r, err := warmup.Plan{Mode: mode, Advise: warmup.Sequential, Slice: 64 << 10}.Run(context.Background(), data[cut[0]:cut[1]])
			require.NoError(t, err)
			require.EqualValues(t, cut[1]-cut[0], r.Bytes)
			require.True(t, bytes.Equal(want, data), "%v %v", mode, cut)
		}
	}
}

// A writer stores beside a touch, in the very words that are touched. What it
// stored must be there afterwards.
func TestTouchLosesNoStore(t *testing.T) {
	t.Parallel()
	const n, rounds = 64 << 10, 300
	data := mapped(t, n)
	var stop atomic.Bool
	var touching sync.WaitGroup
	defer func() { // before data is unmapped
		stop.Store(true)
		touching.Wait()
	}()
	for range 2 {
		touching.Go(func() {
			for !stop.Load() {
				_, err := warmup.Plan{Mode: warmup.Touch}.Run(context.Background(), data)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range uint32(rounds) {
		for at := 0; at < n; at += 4096 {
			// In halves, as a copy of bytes may be.
			binary.LittleEndian.PutUint16(data[at:], uint16(round))
			binary.LittleEndian.PutUint16(data[at+2:], uint16(at>>12))
		}
		for at := 0; at < n; at += 4096 {
			require.Equal(t, uint16(round), binary.LittleEndian.Uint16(data[at:]))
			require.Equal(t, uint16(at>>12), binary.LittleEndian.Uint16(data[at+2:]))
		}
	}
}

func TestRunIsCancelledBetweenSlices(t *testing.T) {
	t.Parallel()
	data := mapped(t, 1<<20)
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	r, err := warmup.Plan{Mode: warmup.Touch}.Run(ctx, data)
	require.ErrorIs(t, err, cause)
	require.Zero(t, r.Bytes)

	// The third look at it is behind the second slice.
	r, err = warmup.Plan{Mode: warmup.Touch, Slice: 4096}.Run(&endsAfter{Context: context.Background(), looks: 2}, data)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 2*4096, r.Bytes)
}

// endsAfter is cancelled after so many looks.
type endsAfter struct {
	context.Context
	looks int
}

func (e *endsAfter) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

func (e *endsAfter) Value(any) any { return nil }

func TestResultsAddUp(t *testing.T) {
	t.Parallel()
	refused := func(step string) []warmup.Refusal {
		return []warmup.Refusal{{Step: step, Cause: errors.ErrUnsupported}}
	}
	r := warmup.Result{Mode: warmup.Populate, Bytes: 1, Locked: 2, Resident: 3, MinorFaults: 4, MajorFaults: 5, Took: 6, Refused: refused("lock")}
	r.Add(warmup.Result{Mode: warmup.Touch, Bytes: 10, Locked: 20, Resident: 30, MinorFaults: 40, MajorFaults: 50, Took: 60, Refused: refused("lock")})
	r.Add(warmup.Result{Refused: refused("cold")})
	require.Equal(t, warmup.Result{
		Mode: warmup.Touch, Bytes: 11, Locked: 22, Resident: 33, MinorFaults: 44, MajorFaults: 55, Took: 66,
		Refused: append(refused("lock"), refused("cold")...),
	}, r)
	require.EqualError(t, r.Refused[0], "lock: unsupported operation")
	require.ErrorIs(t, r.Refused[0], errors.ErrUnsupported)
}

func TestLimitError(t *testing.T) {
	t.Parallel()
	cause := errors.New("no")
	e := &warmup.LimitError{Need: 100, Limit: 10, Cause: cause}
	require.ErrorIs(t, e, cause)
	require.ErrorContains(t, e, "100 bytes")
	require.ErrorContains(t, e, "limit is 10 bytes (RLIMIT_MEMLOCK")
	e.Limit = -1
	require.EqualError(t, e, "can't lock 100 bytes in memory: no")
}
