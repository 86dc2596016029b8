// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

var tagMessages = flag.Int("tags.messages", 20_000, "how many messages the sparse tag fetch goes through")

func tagged(topic, tag, body string) *message.Message {
	m := msg(topic, 0, body)
	if tag != "" {
		m.SetTags(tag)
	}
	return m
}

func appendAll(t testing.TB, s *store.Store, msgs ...*message.Message) {
	t.Helper()
	for _, m := range msgs {
		_, err := s.Append(context.Background(), m)
		require.NoError(t, err)
	}
	waitAll(t, s)
}

func parseTags(t testing.TB, expression string) message.TagFilter {
	t.Helper()
	f, err := message.ParseTagFilter(expression)
	require.NoError(t, err)
	return f
}

// fetchTagged fetches all of a queue by tag and returns the messages, and in how
// many steps they came.
func fetchTagged(t testing.TB, s *store.Store, topic string, queue int32, tags message.TagFilter, limit store.Limit) (all []*message.Message, steps int) {
	t.Helper()
	lo, hi, err := s.Bounds(topic, queue)
	require.NoError(t, err)
	for from := lo; from < hi; steps++ {
		b, err := s.FetchTagged(context.Background(), topic, queue, from, tags, limit)
		require.NoError(t, err)
		require.Greater(t, b.Next, from, "it stands still")
		require.Equal(t, from, b.From)
		for m, err := range b.All() {
			require.NoError(t, err)
			all = append(all, m.Clone())
		}
		from = b.Next
		b.Release()
	}
	return all, steps
}

func TestFetchTagged(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	appendAll(t, s,
		tagged("T", "red", "0"), tagged("T", "blue", "1"), tagged("T", "", "2"), tagged("T", "Aa", "3"),
		tagged("T", "BB", "4"), tagged("T", "red", "5"), tagged("T", "red || blue", "6"))
	for expression, want := range map[string][]string{
		"*":           {"0", "1", "2", "3", "4", "5", "6"},
		"":            {"0", "1", "2", "3", "4", "5", "6"},
		"red":         {"0", "5"},
		"red || blue": {"0", "1", "5"},
		"Aa":          {"3"}, // BB has the same hash
		"BB||Aa":      {"3", "4"},
		"green":       {},
	} {
		for _, limit := range []store.Limit{{}, {Messages: 1}, {Scan: 1}, {Scan: 3, Messages: 2}, {Bytes: 1}} {
			all, _ := fetchTagged(t, s, "T", 0, parseTags(t, expression), limit)
			require.Equal(t, want, bodies(all), "%q %+v", expression, limit)
		}
	}
	both := message.FilterTags("red || blue")
	all, _ := fetchTagged(t, s, "T", 0, both, store.Limit{})
	require.Equal(t, []string{"6"}, bodies(all), "a tag that no expression names")

	b, err := s.FetchTagged(t.Context(), "T", 0, 0, parseTags(t, "blue"), store.Limit{Scan: 1})
	require.NoError(t, err)
	require.Zero(t, b.Len())
	require.EqualValues(t, 1, b.Next)
	b.Release()
	b, err = s.FetchTagged(t.Context(), "T", 0, 7, parseTags(t, "blue"), store.Limit{})
	require.NoError(t, err)
	require.Zero(t, b.Len())
	require.EqualValues(t, 7, b.Next, "at the end")
	b.Release()
	_, err = s.FetchTagged(t.Context(), "T", 0, 8, parseTags(t, "blue"), store.Limit{})
	require.ErrorIs(t, err, store.ErrOffsetOutOfRange)
}

// TestFetchTaggedReadsLittle bounds what is read of messages that only share
// their hash with a wanted one.
func TestFetchTaggedReadsLittle(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	var msgs []*message.Message
	for range 10 {
		msgs = append(msgs, tagged("T", "BB", string(make([]byte, 900))))
	}
	appendAll(t, s, msgs...)
	b, err := s.FetchTagged(t.Context(), "T", 0, 0, message.FilterTags("Aa"), store.Limit{Bytes: 2500})
	require.NoError(t, err)
	require.Zero(t, b.Len())
	require.EqualValues(t, 3, b.Next)
	b.Release()
	all, steps := fetchTagged(t, s, "T", 0, message.FilterTags("Aa"), store.Limit{Bytes: 2500})
	require.Empty(t, all)
	require.Equal(t, 4, steps)
}

// TestFetchTaggedDelayed: an entry of the delay topic holds a time, no hash.
func TestFetchTaggedDelayed(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]int64{
		"now": 1_700_000_000_000,
		// The time of delivery is a 32-bit number, as a hash is.
		"long ago": 1_000_000,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t, crashdisk.New(), func(o *store.Options) {
				o.Clock = func() time.Time { return time.UnixMilli(now) }
			})
			for i, tag := range []string{"red", "blue", "red"} {
				m := tagged("T", tag, strconv.Itoa(i))
				m.SetDelayLevel(3)
				appendAll(t, s, m)
			}
			all, _ := fetchTagged(t, s, consumequeue.DelayTopic, 2, message.FilterTags("red"), store.Limit{})
			require.Equal(t, []string{"0", "2"}, bodies(all))
		})
	}
}

// TestFetchTaggedSparse goes through many messages of which ten match.
func TestFetchTaggedSparse(t *testing.T) {
	t.Parallel()
	n := *tagMessages
	if testing.Short() || raceEnabled {
		n = min(n, 5000)
	}
	s, err := store.Open(t.TempDir(), store.Options{FileSize: 64 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	want := make([]string, 0, 10)
	const together = 500
	for i := 0; i < n; i += together {
		batch := make([]*message.Message, 0, together)
		for k := i; k < min(n, i+together); k++ {
			tag := "hay-" + strconv.Itoa(k%100)
			if k%(n/10) == n/20 {
				tag = "needle"
				want = append(want, strconv.Itoa(k))
			}
			batch = append(batch, tagged("T", tag, strconv.Itoa(k)))
		}
		_, err := s.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
	}
	waitAll(t, s)
	require.Len(t, want, 10)
	begin := time.Now()
	all, steps := fetchTagged(t, s, "T", 0, message.FilterTags("needle"), store.Limit{})
	took := time.Since(begin)
	require.Equal(t, want, bodies(all))
	require.LessOrEqual(t, steps, n/store.DefaultFetchScan+1+len(want))
	t.Logf("%d of %d messages in %d steps of at most %d entries, %v together, %.1f ns an entry",
		len(all), n, steps, store.DefaultFetchScan, took.Round(time.Microsecond), float64(took)/float64(n))
}

func TestFollowTagged(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	type answer struct {
		body string
		next message.QueueOffset
		err  error
	}
	follow := func(ctx context.Context, from message.QueueOffset, limit store.Limit) <-chan answer {
		c := make(chan answer, 1)
		go func() {
			b, err := s.FollowTagged(ctx, "T", 0, from, message.FilterTags("red"), limit)
			if err != nil {
				c <- answer{err: err}
				return
			}
			defer b.Release()
			a := answer{next: b.Next}
			for m, err := range b.All() {
				if err != nil {
					a.err = err
					break
				}
				a.body += string(m.Body)
			}
			if b.From != from {
				a.err = fmt.Errorf("From is %d", b.From)
			}
			c <- a
		}()
		return c
	}
	// It waits for the queue, and for a match behind those that are none.
	c := follow(t.Context(), 0, store.Limit{})
	for i := range 20 {
		appendAll(t, s, tagged("T", "blue", strconv.Itoa(i)))
	}
	select {
	case a := <-c:
		t.Fatalf("it returned without a match: %+v", a)
	default:
	}
	appendAll(t, s, tagged("T", "red", "x"))
	require.Equal(t, answer{body: "x", next: 21}, <-c)

	// It looks at so many entries and no more, wherever they came from.
	c = follow(t.Context(), 10, store.Limit{Scan: 5})
	require.Equal(t, answer{next: 15}, <-c)
	c = follow(t.Context(), 21, store.Limit{Scan: 5})
	for range 5 {
		appendAll(t, s, tagged("T", "blue", ""))
	}
	require.Equal(t, answer{next: 26}, <-c)

	ctx, stop := context.WithCancel(t.Context())
	c = follow(ctx, 26, store.Limit{})
	stop()
	require.ErrorIs(t, (<-c).err, context.Canceled)
	c = follow(t.Context(), 26, store.Limit{})
	require.NoError(t, s.Close())
	require.ErrorIs(t, (<-c).err, store.ErrClosed)
}

// TestDamagedEntryByTag damages an entry of a queue: a fetch by tag finds the
// message all the same, unless only the hash was damaged.
func TestDamagedEntryByTag(t *testing.T) {
	t.Parallel()
	victimOf := victims["stele/closed"]
	for name, damage := range entryDamage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, i := range victimOf(t).places() {
				v := victimOf(t)
				path, at := v.queueFile(t, v.all[i])
				changeFile(t, path, at, consumequeue.EntrySize, damage)
				s := openVictim(t, v)
				found := map[message.Offset]bool{}
				for _, q := range s.Queues() {
					all, _ := fetchTagged(t, s, q.Topic, q.QueueID, message.FilterTags("red"), store.Limit{})
					for _, m := range all {
						found[m.PhysicalOffset] = true
					}
					none, _ := fetchTagged(t, s, q.Topic, q.QueueID, message.FilterTags("blue"), store.Limit{})
					require.Empty(t, none)
				}
				require.Len(t, found, len(v.all))
				require.NoError(t, s.Close())
			}
		})
	}
}

// TestDamagedTag: a message whose tag was damaged is reported, not passed over.
func TestDamagedTag(t *testing.T) {
	t.Parallel()
	v := victims["stele/closed"](t)
	k := v.all[len(v.all)/2]
	v.change(t, k.offset, int(k.size), func(b []byte) { b[propertiesAt(t, b)+len("TAGS")+1] ^= 1 })
	s := openVictim(t, v)
	errs := 0
	lo, hi, err := s.Bounds(k.topic, k.queue)
	require.NoError(t, err)
	for from := lo; from < hi; {
		b, err := s.FetchTagged(t.Context(), k.topic, k.queue, from, message.FilterTags("red"), store.Limit{})
		require.NoError(t, err)
		for _, err := range b.All() {
			if err != nil {
				require.ErrorIs(t, err, message.ErrPropertyCRC)
				errs++
			}
		}
		from = b.Next
		b.Release()
	}
	require.Equal(t, 1, errs)
}

func BenchmarkFetchTagged(b *testing.B) {
	s, err := store.Open(b.TempDir(), store.Options{FileSize: 64 << 20})
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Close()) }()
	const n = 100_000
	batch := make([]*message.Message, 500)
	for i := range batch {
		batch[i] = tagged("T", "hay", "body")
	}
	for range n / len(batch) {
		_, err := s.AppendBatch(b.Context(), batch)
		require.NoError(b, err)
	}
	waitAll(b, s)
	b.ReportAllocs()
	for b.Loop() {
		all, _ := fetchTagged(b, s, "T", 0, message.FilterTags("needle"), store.Limit{})
		require.Empty(b, all)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}
