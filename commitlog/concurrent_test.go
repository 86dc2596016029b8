// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// Many goroutines append to several queues, some of them batches and some with
// a flush, while one follows the log as the dispatcher does.
func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, path commitlog.WritePath) {
		const writers, each, queues = 8, 300, 3
		l := startLog(t, crashdisk.New(), 16<<10, with(path))
		var seqs [queues]*commitlog.Sequence
		for q := range seqs {
			seqs[q] = commitlog.NewSequence(0)
		}
		newItem := func(w, i int) commitlog.Item {
			q := (w + i) % queues
			rec := recordOf(t, 150+(w*37+i*11)%400, fmt.Sprintf("%d/%d/", w, i), func(m *message.Message) { m.QueueID = int32(q) })
			return commitlog.Item{Record: rec, Sequence: seqs[q], Step: 1}
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				last := message.Offset(-1)
				for i := 0; i < each; i += 2 {
					items := []commitlog.Item{newItem(w, i), newItem(w, i+1)}
					results := make([]commitlog.Result, 2)
					if w%2 == 0 {
						require.NoError(t, l.AppendBatch(items, results))
						require.Equal(t, results[0].End(), results[1].Offset)
					} else {
						for j := range items {
							var err error
							results[j], err = l.Append(items[j])
							require.NoError(t, err)
						}
					}
					require.Greater(t, results[0].Offset, last)
					require.Greater(t, results[1].Offset, results[0].Offset)
					last = results[1].Offset
					if i%50 == 0 {
						require.NoError(t, l.WaitFlushed(background(), results[1].End(), 0))
					}
				}
			})
		}
		var followed []scanned
		var follower sync.WaitGroup
		follower.Go(func() { followed = follow(t, l, writers*each) })
		wg.Wait()
		follower.Wait()

		all, stop := scan(t, l, 0, l.Appended(), commitlog.ScanOptions{Check: message.CheckAll})
		require.Equal(t, commitlog.Stop{Kind: commitlog.StopEnd, Offset: l.Appended()}, stop)
		require.Equal(t, all, followed)
		records := recordsOf(all)
		require.Len(t, records, writers*each, "every record once")
		next := map[int]message.QueueOffset{}
		order := map[int]int{}
		for _, r := range records {
			var w, i int
			_, err := fmt.Sscanf(r.Body, "%d/%d/", &w, &i)
			require.NoError(t, err)
			require.Equal(t, order[w], i, "each goroutine's order is kept")
			order[w]++
			q := (w + i) % queues
			require.Equal(t, next[q], r.Queue, "queue offsets have no gap")
			next[q]++
		}
	})
}

// follow reads the log as it grows until it has seen n records.
func follow(t *testing.T, l *commitlog.Log, n int) []scanned {
	s := l.Scan(0, 0, commitlog.ScanOptions{Check: message.CheckAll})
	defer s.Close()
	var all []scanned
	for seen := 0; seen < n; {
		if err := l.WaitCommitted(background(), s.Offset()); err != nil {
			t.Error(err)
			break
		}
		s.Extend(l.Committed())
		for s.Next() {
			it := s.Item()
			one := scanned{Kind: it.Kind, Offset: it.Offset, Size: it.Size}
			if it.Kind == commitlog.ItemRecord {
				one.Queue, one.Body = it.Message.QueueOffset, string(it.Message.Body)
				seen++
			}
			all = append(all, one)
		}
		if s.Stop().Kind != commitlog.StopEnd {
			t.Error(s.Stop())
			break
		}
	}
	return all
}

// A scan may look for a file just before it joins the log, and again just after:
// it used to go on with no file at all then.
func TestScanBesideANewFile(t *testing.T) {
	t.Parallel()
	const size, files = 64, 3000
	l := openLog(t, crashdisk.New(), size)
	var adding sync.WaitGroup
	adding.Go(func() {
		for base := int64(0); base < files*size; base += size {
			_, err := l.Files().Add(base)
			require.NoError(t, err)
		}
	})
	stops := map[commitlog.StopKind]int{}
	for end := int64(0); end < files*size; end = l.Files().End() {
		s := l.Scan(message.Offset(end), math.MaxInt64, commitlog.ScanOptions{})
		require.False(t, s.Next())
		require.EqualValues(t, end, s.Stop().Offset)
		stops[s.Stop().Kind]++
		s.Close()
	}
	adding.Wait()
	delete(stops, commitlog.StopEmpty)
	delete(stops, commitlog.StopEnd)
	require.Empty(t, stops)
}
