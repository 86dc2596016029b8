// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

func TestWaitsInWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, store.StageNone, store.Waits{}.Dominant())
	require.Equal(t, "no append waited for anything", store.Waits{}.String())
	for stage, want := range map[store.Stage]string{
		store.StageLock: "the append lock", store.StageRoll: "the next file", store.StageCopy: "Options.Warmup",
		store.StageCommit: "writing to the log's file", store.StageFlush: "to be durable",
	} {
		w := store.Waits{
			Lock: store.Wait{Count: 1, Total: time.Second}, Roll: store.Wait{Count: 1, Total: time.Second},
			Copy: store.Wait{Count: 1, Total: time.Second}, Commit: store.Wait{Count: 1, Total: time.Second},
			Flush: store.Wait{Count: 1, Total: time.Second},
		}
		at := map[store.Stage]*store.Wait{
			store.StageLock: &w.Lock, store.StageRoll: &w.Roll, store.StageCopy: &w.Copy, store.StageCommit: &w.Commit, store.StageFlush: &w.Flush,
		}[stage]
		*at = store.Wait{Count: 17, Total: 16 * time.Second, P50: 123456, P99: 2 * time.Millisecond, P999: 3 * time.Millisecond, Max: 15 * time.Second}
		require.Equal(t, stage, w.Dominant())
		require.Equal(t, *at, w.Of(stage))
		require.Contains(t, w.String(), "appends waited 20s in all, 80 % of it for ")
		require.Contains(t, w.String(), want)
		require.Contains(t, w.String(), "("+stage.String()+"): 17 times, half of them 123µs at most, one in a hundred 2ms or more, the longest 15s")
	}
	require.Equal(t, "Stage(9)", store.Stage(9).String())
	require.Zero(t, store.Waits{}.Of(store.Stage(9)))
}

// Every synchronous append waits for the disk, and says so.
func TestSlowAppends(t *testing.T) {
	t.Parallel()
	var slow []store.SlowAppend
	s, err := store.Open(t.TempDir(), store.Options{
		Flush: store.FlushSync, FileSize: mib, SlowAppend: 1,
		Events: store.Events{SlowAppend: func(a store.SlowAppend) { slow = append(slow, a) }},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	ctx := context.Background()
	r, err := s.Append(ctx, &message.Message{Topic: "t", QueueID: 3, Body: []byte("x")})
	require.NoError(t, err)
	_, err = s.AppendBatch(ctx, []*message.Message{{Topic: "u", Body: []byte("x")}, {Topic: "v"}})
	require.NoError(t, err)

	require.Len(t, slow, 2)
	a := slow[0]
	require.Positive(t, a.Flush)
	require.Positive(t, a.Roll, "it made the first file")
	require.Equal(t, a.Waited, a.Lock+a.Roll+a.Copy+a.Commit+a.Flush)
	require.Equal(t, []any{"t", int32(3), r.Offset, 1, int64(r.Size), nil}, []any{a.Topic, a.QueueID, a.Offset, a.Messages, a.Bytes, nil})
	require.NoError(t, a.Err)
	require.Regexp(t, `^append of \d+ bytes to t/3 waited [^ ]+: (lock [^ ]+ )?roll [^ ]+ (copy [^ ]+ )?flush [^ ]+$`, a.String())
	require.Equal(t, 2, slow[1].Messages)
	require.Equal(t, "u", slow[1].Topic)
	require.Equal(t, r.Offset+message.Offset(r.Size), slow[1].Offset)

	w := s.Stats().Waits
	require.EqualValues(t, 2, w.Flush.Count)
	require.EqualValues(t, 1, w.Roll.Count)
	require.Equal(t, slow[0].Flush+slow[1].Flush, w.Flush.Total)
	require.Equal(t, max(slow[0].Flush, slow[1].Flush), w.Flush.Max)
	require.LessOrEqual(t, w.Flush.P50, w.Flush.P99)
	require.LessOrEqual(t, w.Flush.P99, w.Flush.Max)
	require.NotEqual(t, store.StageNone, w.Dominant())
}

// An append that could not be is told about with its error.
func TestSlowAppendThatFailed(t *testing.T) {
	t.Parallel()
	var slow []store.SlowAppend
	s, err := store.Open(t.TempDir(), store.Options{
		Flush: store.FlushSync, FlushTimeout: 1, FileSize: mib, SlowAppend: 1,
		Events: store.Events{SlowAppend: func(a store.SlowAppend) { slow = append(slow, a) }},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = s.Append(context.Background(), &message.Message{Topic: "t", Body: []byte("x")})
	require.Len(t, slow, 1)
	if err != nil { // a nanosecond may be enough
		require.ErrorIs(t, err, store.ErrFlushTimeout)
	}
	require.Equal(t, err, slow[0].Err)
}

func TestNoAppendIsSlowWhenNobodyAsks(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.TempDir(), store.Options{
		Flush: store.FlushSync, FileSize: mib, SlowAppend: -1,
		Events: store.Events{SlowAppend: func(store.SlowAppend) { t.Error("told") }},
	})
	require.NoError(t, err)
	_, err = s.Append(context.Background(), &message.Message{Topic: "t", Body: []byte("x")})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.EqualValues(t, 1, s.Stats().Waits.Flush.Count, "it is counted all the same")
}
