// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

func declare(t testing.TB, s *store.Store, name string, queues int32, perm string) {
	t.Helper()
	topic := topicmeta.Topic{Name: name, ReadQueues: queues, WriteQueues: queues}
	for _, c := range perm {
		topic.Perm |= map[rune]topicmeta.Perm{'R': topicmeta.PermRead, 'W': topicmeta.PermWrite}[c]
	}
	require.NoError(t, s.PutTopic(topic))
}

func waitAll(t testing.TB, s *store.Store) {
	t.Helper()
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, disk := range []string{"memory", "os"} {
		t.Run(disk, func(t *testing.T) {
			t.Parallel()
			var s *store.Store
			var err error
			dir, o := root, quiet(crashdisk.New())
			if disk == "os" {
				dir, o = t.TempDir(), osOptions()
			}
			reopened := func() {
				s, err = store.Open(dir, o)
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
			}
			reopened()
			want := map[string][]string{}
			var all []store.AppendResult
			for i := range 400 {
				topic, queue := fmt.Sprintf("topic-%d", i%3), int32(i%5)
				body := fmt.Sprintf("body %d", i)
				r := appendOne(t, s, topic, queue, body)
				k := fmt.Sprintf("%s/%d", topic, queue)
				require.EqualValues(t, len(want[k]), r.QueueOffset)
				require.Equal(t, topic, r.Topic)
				require.Equal(t, queue, r.QueueID)
				want[k] = append(want[k], body)
				all = append(all, r)
				if i == 250 {
					require.NoError(t, s.Close())
					reopened()
				}
			}
			waitAll(t, s)
			require.Greater(t, s.Stats().Files, 2)
			require.Len(t, s.Queues(), len(want))
			for _, q := range s.Queues() {
				require.Equal(t, want[fmt.Sprintf("%s/%d", q.Topic, q.QueueID)], bodies(fetchAll(t, s, q.Topic, q.QueueID)))
				lo, hi, err := s.Bounds(q.Topic, q.QueueID)
				require.NoError(t, err)
				require.Equal(t, q.Min, lo)
				require.Equal(t, q.Max, hi)
			}
			for i, r := range all {
				m, err := s.Get(r.Offset)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("body %d", i), string(m.Body))
				require.Equal(t, r.ID(), m.ID())
				require.Equal(t, r.StoreTime, m.StoreTimestamp)
			}
			topics, err := s.Topics()
			require.NoError(t, err)
			require.Len(t, topics, 3)
			require.Equal(t, "topic-0", topics[0].Name)
			require.EqualValues(t, 5, topics[0].ReadQueues)
		})
	}
}

func TestGetErrors(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	r := appendOne(t, s, "t", 0, "x")
	_, err := s.Get(r.Offset + message.Offset(r.Size))
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Get(-1)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Get(3)
	require.Error(t, err)
	require.ErrorContains(t, err, "damaged record at offset 3")
	require.NoError(t, s.Close())
	_, err = s.Get(r.Offset)
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestAppendBatch(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	appendOne(t, s, "a", 0, "first")
	none, err := s.AppendBatch(context.Background(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	for round := range 20 { // some of them roll to a new file
		var batch []*message.Message
		for i := range 5 {
			m := msg([]string{"a", "b"}[i%2], int32(i%2), fmt.Sprintf("%d-%d", round, i))
			m.Body = append(m.Body, make([]byte, 700)...)
			batch = append(batch, m)
		}
		rs, err := s.AppendBatch(context.Background(), batch)
		require.NoError(t, err)
		require.Len(t, rs, 5)
		for i, r := range rs {
			require.Equal(t, rs[0].Offset/fileSize, r.Offset/fileSize, "one file")
			require.Equal(t, rs[0].StoreTime, r.StoreTime)
			require.Equal(t, batch[i].Topic, r.Topic)
			if i > 0 {
				require.Equal(t, rs[i-1].Offset+message.Offset(rs[i-1].Size), r.Offset, "nothing between")
			}
		}
	}
	waitAll(t, s)
	require.Len(t, fetchAll(t, s, "a", 0), 1+60)
	require.Len(t, fetchAll(t, s, "b", 1), 40)
	require.EqualValues(t, 101, s.Stats().AppendedMessages)
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	var offsets []message.Offset
	for _, flag := range []message.SysFlag{0, message.TransactionPrepared, message.TransactionRollback, message.TransactionCommit} {
		m := msg("t", 0, fmt.Sprint(flag))
		m.SysFlag = flag
		r, err := s.Append(context.Background(), m)
		require.NoError(t, err)
		offsets = append(offsets, r.Offset)
	}
	waitAll(t, s)
	all := fetchAll(t, s, "t", 0)
	require.Equal(t, []string{"0", fmt.Sprint(message.TransactionCommit)}, bodies(all))
	m, err := s.Get(offsets[1])
	require.NoError(t, err)
	require.Equal(t, message.TransactionPrepared, m.SysFlag.Transaction())
	require.Zero(t, m.QueueOffset)
}

func TestFollow(t *testing.T) {
	t.Parallel()
	for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
		eachPath(t, mode.String(), func(t *testing.T, path store.WritePath) {
			s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Flush, o.WritePath = mode, path })
			type answer struct {
				b   *store.Batch
				err error
			}
			follow := func(ctx context.Context, from message.QueueOffset) chan answer {
				c := make(chan answer, 1)
				go func() {
					b, err := s.Follow(ctx, "t", 3, from, store.Limit{})
					c <- answer{b, err}
				}()
				return c
			}
			waiting := follow(context.Background(), 0) // no such queue yet
			appendOne(t, s, "t", 3, "one")
			a := <-waiting
			require.NoError(t, a.err)
			require.Equal(t, 1, a.b.Len())
			require.EqualValues(t, 1, a.b.Next)
			a.b.Release()

			cause := errors.New("enough")
			ctx, cancel := context.WithCancelCause(context.Background())
			waiting = follow(ctx, 1)
			cancel(cause)
			require.ErrorIs(t, (<-waiting).err, cause)
			_, err := s.Follow(context.Background(), "t", 3, 5, store.Limit{})
			require.ErrorIs(t, err, store.ErrOffsetOutOfRange)
			_, err = s.Follow(context.Background(), "a/b", 0, 0, store.Limit{})
			require.ErrorIs(t, err, store.ErrTopicChars)
			_, err = s.Follow(context.Background(), "t", -1, 0, store.Limit{})
			require.ErrorIs(t, err, store.ErrNoQueue)

			waiting = follow(context.Background(), 1)
			require.NoError(t, s.Close())
			require.ErrorIs(t, (<-waiting).err, store.ErrClosed)
			require.Len(t, s.Queues(), 1, "what was only waited for is no queue")
		})
	}
}

func TestBatchOutlivesClose(t *testing.T) {
	t.Parallel()
	for _, disk := range []string{"memory", "os"} {
		t.Run(disk, func(t *testing.T) {
			t.Parallel()
			dir, o := root, quiet(crashdisk.New())
			if disk == "os" {
				dir, o = t.TempDir(), osOptions()
			}
			s, err := store.Open(dir, o)
			require.NoError(t, err)
			appendMany(t, s, 200, 0) // over several files
			b, err := s.Fetch(context.Background(), "orders", 0, 0, store.Limit{Messages: 1000, Bytes: 1 << 20})
			require.NoError(t, err)
			require.Equal(t, 200, b.Len())
			require.NoError(t, s.Close())
			var clones []*message.Message
			i := 0
			for m, err := range b.All() {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("0/%d", i), string(m.Body))
				clones = append(clones, m.Clone())
				i++
			}
			size := 0
			for rec := range b.Records() {
				size += len(rec)
			}
			require.Equal(t, b.Bytes(), size)
			for _, err := range b.All() { // again, and stopped early
				require.NoError(t, err)
				break
			}
			b.Release()
			b.Release()
			require.Zero(t, b.Len())
			require.Equal(t, "0/199", string(clones[199].Body))
			_, err = s.Fetch(context.Background(), "orders", 0, 0, store.Limit{})
			require.ErrorIs(t, err, store.ErrClosed)
			_, err = s.Append(context.Background(), msg("t", 0, ""))
			require.ErrorIs(t, err, store.ErrClosed)
			require.ErrorIs(t, s.Flush(context.Background()), store.ErrClosed)
			require.NoError(t, s.Close())
		})
	}
}

// What was read from a batch is gone with it, also when the loop ended early, and
// Release once more takes nothing from the batch that has its memory. No other
// test runs beside it, which could have that memory.
func TestReleasedMessages(t *testing.T) {
	s := openStore(t, crashdisk.New())
	appendMany(t, s, 50, 0)
	fetch := func(from message.QueueOffset) (*store.Batch, []*message.Message) {
		b, err := s.Fetch(context.Background(), "orders", 0, from, store.Limit{Messages: 20})
		require.NoError(t, err)
		var got []*message.Message
		for m, err := range b.All() {
			require.NoError(t, err)
			if got = append(got, m); len(got) == 18 {
				break
			}
		}
		for i, m := range got {
			require.Equal(t, fmt.Sprintf("0/%d", int(from)+i), string(m.Body))
		}
		return b, got
	}
	first, old := fetch(0)
	first.Release()
	for _, m := range old {
		require.Equal(t, message.Message{}, *m)
	}
	for range 10 {
		second, got := fetch(25)
		first.Release()
		third, _ := fetch(0)
		for i, m := range got {
			require.Equal(t, fmt.Sprintf("0/%d", 25+i), string(m.Body))
		}
		third.Release()
		second.Release()
	}
}

func TestFetchLimits(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	size := int(appendMany(t, s, 100, 0)[0].Size)
	cases := []struct {
		name     string
		from     message.QueueOffset
		limit    store.Limit
		messages int
	}{
		{"defaults", 0, store.Limit{}, store.DefaultFetchMessages},
		{"messages", 0, store.Limit{Messages: 7}, 7},
		{"over a queue file's end", 10, store.Limit{Messages: 20}, 20},
		{"bytes", 0, store.Limit{Bytes: 3 * size}, 3},
		{"bytes, less than a record", 0, store.Limit{Bytes: 1}, 1},
		{"to the end", 90, store.Limit{Messages: 1000}, 10},
		{"at the end", 100, store.Limit{}, 0},
	}
	for _, c := range cases {
		b, err := s.Fetch(context.Background(), "orders", 0, c.from, c.limit)
		require.NoError(t, err, c.name)
		require.Equal(t, c.messages, b.Len(), c.name)
		require.Equal(t, c.from, b.From)
		require.Equal(t, c.from+message.QueueOffset(c.messages), b.Next, c.name)
		require.EqualValues(t, 0, b.Min)
		require.EqualValues(t, 100, b.Max)
		b.Release()
	}
	for _, from := range []message.QueueOffset{-1, 101} {
		_, err := s.Fetch(context.Background(), "orders", 0, from, store.Limit{})
		require.ErrorIs(t, err, store.ErrOffsetOutOfRange)
		var out *consumequeue.OffsetError
		require.ErrorAs(t, err, &out)
		require.Equal(t, consumequeue.OffsetError{Topic: "orders", From: from, Min: 0, Max: 100}, *out)
	}
	_, err := s.Fetch(context.Background(), "orders", 9, 0, store.Limit{})
	require.ErrorIs(t, err, store.ErrNoQueue)
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	cancel(cause)
	_, err = s.Fetch(ctx, "orders", 0, 0, store.Limit{})
	require.ErrorIs(t, err, cause)
	_, err = s.Append(ctx, msg("orders", 0, ""))
	require.ErrorIs(t, err, cause)
}

func TestSyncAppend(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openStore(t, d, syncFlush)
	r := appendOne(t, s, "t", 0, "waited for")
	require.GreaterOrEqual(t, s.Stats().Flushed, r.Offset+message.Offset(r.Size))
	require.Len(t, fetchAll(t, openStore(t, d.DurableClone()), "t", 0), 1)

	// A flush that hangs.
	hold := make(chan struct{})
	hung := make(chan struct{}, 100)
	d.Observe(func(op crashdisk.Op, path string) {
		if op == crashdisk.OpFlush && crashdisk.KindOf(path) == crashdisk.CommitLog {
			hung <- struct{}{}
			<-hold
		}
	})
	m := msg("t", 0, "not waited for")
	m.Properties.Set(message.PropertyWait, "false")
	r, err := s.Append(context.Background(), m)
	require.NoError(t, err)
	<-hung
	require.Less(t, s.Stats().Flushed, r.Offset+message.Offset(r.Size))
	_, hi, err := s.Bounds("t", 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, hi, "seen before it is on disk")

	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err := s.Append(ctx, msg("t", 0, "given up"))
		assert.ErrorIs(t, err, cause)
		assert.EqualValues(t, 2, r.QueueOffset)
	}()
	// Once it is in the log, it waits.
	for s.Stats().AppendedMessages < 3 {
		require.NoError(t, s.Log().WaitAppended(context.Background(), s.Stats().Appended-1))
	}
	cancel(cause)
	<-done
	d.Observe(nil)
	close(hold)
	require.NoError(t, s.Flush(context.Background()))
	waitAll(t, s)
	require.Equal(t, []string{"waited for", "not waited for", "given up"}, bodies(fetchAll(t, s, "t", 0)))
}

func TestFlushTimeout(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openStore(t, d, syncFlush, func(o *store.Options) { o.FlushTimeout = 10 * time.Millisecond })
	hold := make(chan struct{})
	d.Observe(func(op crashdisk.Op, path string) {
		if op == crashdisk.OpFlush && crashdisk.KindOf(path) == crashdisk.CommitLog {
			<-hold
		}
	})
	r, err := s.Append(context.Background(), msg("t", 1, "late"))
	require.ErrorIs(t, err, store.ErrFlushTimeout)
	require.Equal(t, "t", r.Topic)
	require.EqualValues(t, 1, r.QueueID)
	require.Positive(t, r.Size)
	d.Observe(nil)
	close(hold)
	require.NoError(t, s.Flush(context.Background()))
	m, err := s.Get(r.Offset)
	require.NoError(t, err)
	require.Equal(t, "late", string(m.Body))
}

func TestConsumerOffsets(t *testing.T) {
	t.Parallel()
	d, meta := crashdisk.New(), vfs.NewMem()
	with := func(o *store.Options) { o.MetaFS = meta }
	s := openStore(t, d, with)
	_, ok, err := s.Offset("g", "t", 0)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.CommitOffset("g", "t", 0, 17))
	require.NoError(t, s.CommitOffset("g", "t", 1, 3))
	require.NoError(t, s.SyncOffsets())
	require.NoError(t, s.Close())
	s = openStore(t, d, with)
	off, ok, err := s.Offset("g", "t", 0)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 17, off)
	require.ErrorIs(t, s.CommitOffset("", "t", 0, 1), topicmeta.ErrInvalid)
	groups, err := s.Meta().Groups()
	require.NoError(t, err)
	require.Equal(t, []string{"g"}, groups)
}

func TestDeclaredTopics(t *testing.T) {
	t.Parallel()
	d, meta := crashdisk.New(), vfs.NewMem()
	with := func(o *store.Options) { o.MetaFS, o.Topics = meta, store.TopicsDeclared }
	s := openStore(t, d, with)
	ctx := context.Background()
	_, err := s.Append(ctx, msg("t", 0, ""))
	require.ErrorIs(t, err, store.ErrNoTopic)
	declare(t, s, "t", 2, "RW")
	appendOne(t, s, "t", 0, "a")
	appendOne(t, s, "t", 1, "b")
	_, err = s.Append(ctx, msg("t", 2, ""))
	require.ErrorIs(t, err, store.ErrNoQueue)
	waitAll(t, s)
	lo, hi, err := s.Bounds("t", 1)
	require.NoError(t, err)
	require.EqualValues(t, 0, lo)
	require.EqualValues(t, 1, hi)

	declare(t, s, "t", 1, "RW") // fewer queues: what is there stays
	_, err = s.Append(ctx, msg("t", 1, ""))
	require.ErrorIs(t, err, store.ErrNoQueue)
	require.Equal(t, []string{"b"}, bodies(fetchAll(t, s, "t", 1)))
	require.EqualValues(t, 1, appendOne(t, s, "t", 0, "c").QueueOffset, "goes on")

	declare(t, s, "t", 1, "W")
	_, err = s.Fetch(ctx, "t", 0, 0, store.Limit{})
	require.ErrorIs(t, err, store.ErrPermission)
	declare(t, s, "empty", 4, "RW")
	b, err := s.Fetch(ctx, "empty", 3, 0, store.Limit{})
	require.NoError(t, err)
	require.Zero(t, b.Len())
	b.Release()
	require.NoError(t, s.DeleteTopic("t"))
	_, err = s.Append(ctx, msg("t", 0, ""))
	require.ErrorIs(t, err, store.ErrNoTopic)

	require.NoError(t, s.Meta().Put(topicmeta.Topic{Name: "t", ReadQueues: 9, WriteQueues: 9, Perm: topicmeta.PermRead | topicmeta.PermWrite}))
	s.TopicsChanged()
	require.EqualValues(t, 2, appendOne(t, s, "t", 0, "d").QueueOffset)
	require.NoError(t, s.Close())
	s = openStore(t, d, with)
	got, ok, err := s.Topic("t")
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 9, got.WriteQueues)
	require.EqualValues(t, 3, appendOne(t, s, "t", 0, "e").QueueOffset)
}
