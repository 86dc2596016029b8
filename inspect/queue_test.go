// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// entries runs an iteration over a queue and keeps copies.
func entries(t testing.TB, dir, topic string, id int32, r inspect.QueueRange) (es []inspect.Entry, last error) {
	t.Helper()
	for e, err := range open(t, dir).Queue(context.Background(), topic, id, r) {
		if err != nil {
			require.NoError(t, last)
			last = err
			continue
		}
		if e.Message != nil {
			e.Message = e.Message.Clone()
		}
		es = append(es, e)
	}
	return es, last
}

func queueFile(dir, topic, id string) string {
	return filepath.Join(dir, "consumequeue", topic, id, mappedfile.FileName(0))
}

func TestQueueOfABroker(t *testing.T) {
	t.Parallel()
	for _, name := range []string{closed, killed} {
		dir := sample(t, name)
		msgs, errs := collect(t, open(t, dir), inspect.Filter{Topics: []string{"topic-1"}, Queues: []int32{2}})
		require.Empty(t, errs)
		es, err := entries(t, dir, "topic-1", 2, inspect.QueueRange{})
		require.NoError(t, err)
		require.Len(t, es, len(msgs))
		for i, e := range es {
			require.NoError(t, e.Err)
			require.False(t, e.IsDamage())
			require.Equal(t, message.QueueOffset(i), e.At)
			require.Equal(t, msgs[i], e.Message)
			require.Equal(t, consumequeue.Entry{
				Offset: e.Message.PhysicalOffset, Size: e.Message.Size, TagsCode: message.TagsCode([]byte(e.Message.Tags())),
			}, e.Entry)
		}
	}
}

func TestQueueRange(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	all, err := entries(t, dir, "topic-1", 2, inspect.QueueRange{})
	require.NoError(t, err)
	n := message.QueueOffset(len(all))
	for _, tt := range []struct {
		r     inspect.QueueRange
		first message.QueueOffset
		n     int
	}{
		{inspect.QueueRange{From: 3}, 3, int(n) - 3},
		{inspect.QueueRange{From: 3, Limit: 2}, 3, 2},
		{inspect.QueueRange{From: -5, Limit: 1}, 0, 1},
		{inspect.QueueRange{From: n - 1, Limit: 10}, n - 1, 1},
		{inspect.QueueRange{From: n}, n, 0},
	} {
		es, err := entries(t, dir, "topic-1", 2, tt.r)
		require.NoError(t, err)
		require.Len(t, es, tt.n)
		if tt.n > 0 {
			require.Equal(t, tt.first, es[0].At)
		}
	}
	_, err = entries(t, dir, "topic-1", 2, inspect.QueueRange{From: n + 1})
	require.ErrorIs(t, err, consumequeue.ErrOffsetOutOfRange)
	for topic, id := range map[string]int32{"topic-1": 4, "topic-9": 0, "": 0, "..": -1} {
		_, err = entries(t, dir, topic, id, inspect.QueueRange{})
		require.ErrorIs(t, err, inspect.ErrNoQueue)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range open(t, dir).Queue(ctx, "topic-1", 2, inspect.QueueRange{}) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestQueueEntriesThatDoNotFit(t *testing.T) {
	t.Parallel()
	pristine, err := entries(t, sample(t, closed), "topic-1", 2, inspect.QueueRange{})
	require.NoError(t, err)
	other, err := entries(t, sample(t, closed), "topic-1", 3, inspect.QueueRange{})
	require.NoError(t, err)
	last := len(pristine) - 1
	// The last entry is replaced: it may name any record behind the others.
	replace := func(e consumequeue.Entry) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			b := make([]byte, consumequeue.EntrySize)
			e.Encode(b)
			patch(t, queueFile(dir, "topic-1", "2"), int64(last*consumequeue.EntrySize), b)
		}
	}
	tests := map[string]struct {
		change  func(t *testing.T, dir string)
		want    error
		message bool
	}{
		"damaged record": {
			func(t *testing.T, dir string) { flip(t, logFile(dir, 262144), int64(pristine[last].Offset)-262144+90) },
			message.ErrPropertyCRC, false,
		},
		"wrong size": {
			replace(consumequeue.Entry{Offset: pristine[last].Offset, Size: pristine[last].Size + 1, TagsCode: 1}), inspect.ErrEntry, false,
		},
		"size too small": {
			replace(consumequeue.Entry{Offset: pristine[last].Offset, Size: pristine[last].Size - 1}), message.ErrShort, false,
		},
		"no record there": {
			replace(consumequeue.Entry{Offset: pristine[last].Offset + 1, Size: 200}), message.ErrMagic, false,
		},
		"beyond the log": {
			replace(consumequeue.Entry{Offset: 1 << 40, Size: 200}), commitlog.ErrOutOfRange, false,
		},
		"another queue's record": {replace(other[len(other)-1].Entry), inspect.ErrEntry, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			tt.change(t, dir)
			es, err := entries(t, dir, "topic-1", 2, inspect.QueueRange{})
			require.NoError(t, err)
			require.Len(t, es, len(pristine))
			for i, e := range es[:last] {
				require.NoError(t, e.Err)
				require.Equal(t, pristine[i], e)
			}
			e := es[last]
			require.True(t, e.IsDamage())
			require.ErrorIs(t, e.Err, tt.want)
			require.Equal(t, tt.message, e.Message != nil)
			var got map[string]any
			require.NoError(t, json.Unmarshal(inspect.EntryRow{Entry: e}.AppendJSON(nil), &got))
			require.Equal(t, e.Err.Error(), got["error"])
			require.Equal(t, tt.message, got["message"] != nil)
			require.Equal(t, false, got["blank"])
		})
	}
}

// TestQueueWithExpiredAndBlankEntries has a queue that begins in the middle of a
// file, and a log whose first file is gone.
func TestQueueWithExpiredAndBlankEntries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 4096)
	set, err := consumequeue.OpenSet(consumequeue.Options{Dir: filepath.Join(dir, "consumequeue"), FileSize: 2000})
	require.NoError(t, err)
	q, err := set.GetOrCreate("t", 0)
	require.NoError(t, err)
	w.seqs[0] = commitlog.NewSequence(37)
	for i := range 40 {
		res, err := w.append(&message.Message{Topic: "t", Body: make([]byte, 200)})
		require.NoError(t, err)
		if i == 30 {
			continue // never dispatched: a blank entry in the queue
		}
		require.NoError(t, q.Fill(res.QueueOffset))
		_, err = q.Put(res.QueueOffset, consumequeue.Entry{Offset: res.Offset, Size: res.Size})
		require.NoError(t, err)
	}
	require.NoError(t, set.Close())
	require.NoError(t, w.log.Close())
	require.NoError(t, os.Remove(logFile(dir, 0)))

	es, err := entries(t, dir, "t", 0, inspect.QueueRange{})
	require.NoError(t, err)
	require.Equal(t, message.Offset(4096), es[0].Offset, "the first entry whose record is still there")
	require.Equal(t, message.QueueOffset(76), es[len(es)-1].At)
	for _, e := range es {
		require.NoError(t, e.Err)
		require.Equal(t, e.At == 67, e.IsBlank(), "entry %d", e.At)
		require.Equal(t, e.IsBlank(), e.Message == nil)
	}
	o := overview(t, dir)
	require.Empty(t, o.Problems)
	require.Equal(t, es[0].At, o.Queues[0].Min)
	require.Equal(t, message.QueueOffset(77), o.Queues[0].Max)
	require.Equal(t, es[0].Message.StoreTimestamp, o.Queues[0].FirstStoreTime)
	require.Equal(t, message.Offset(4096), o.CommitLog.Min)
}
