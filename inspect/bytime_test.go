// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// timedStore is a log of 400 messages, a second from each to the next, with its
// time index.
func timedStore(t *testing.T) (dir, index string, all []*message.Message) {
	t.Helper()
	dir = t.TempDir()
	w := newWriter(t, dir, 16<<10)
	x, err := timeindex.Open(timeindex.Options{Dir: filepath.Join(dir, "stele", timeindex.DirName), Stretch: 1024})
	require.NoError(t, err)
	_, err = x.Recover(0, 0, w.log)
	require.NoError(t, err)
	for range 400 {
		_, err := w.append(&message.Message{Topic: "t", Body: make([]byte, 150)})
		require.NoError(t, err)
	}
	sc := w.log.Scan(0, w.log.Appended(), commitlog.ScanOptions{})
	for sc.Next() {
		if it := sc.Item(); it.Kind == commitlog.ItemRecord {
			require.NoError(t, x.Put(it.Message))
		}
	}
	sc.Close()
	require.NoError(t, x.Flush())
	require.NoError(t, x.Close())
	require.NoError(t, w.log.Close())
	all, errs := collect(t, open(t, dir), inspect.Filter{})
	require.Empty(t, errs)
	require.Len(t, all, 400)
	return dir, filepath.Join(dir, "stele", timeindex.DirName, "00000000000000000000"), all
}

// TestSinceByIndex: what is listed since a time is the same with a time index,
// without one, and with one that can't be believed.
func TestSinceByIndex(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, index string){
		"whole":       func(*testing.T, string) {},
		"none":        func(t *testing.T, index string) { require.NoError(t, os.RemoveAll(filepath.Dir(index))) },
		"header":      func(t *testing.T, index string) { flip(t, index, 3) },
		"entries":     func(t *testing.T, index string) { patch(t, index, 512+160, make([]byte, 400)) },
		"all entries": func(t *testing.T, index string) { patch(t, index, 512, make([]byte, 60_000)) },
		"cut":         func(t *testing.T, index string) { require.NoError(t, os.Truncate(index, 1000)) },
		"of another log": func(t *testing.T, index string) {
			x, err := timeindex.Open(timeindex.Options{Dir: filepath.Dir(index), Stretch: 1024})
			require.NoError(t, err)
			_, err = x.Recover(0, 0, nil)
			require.NoError(t, err)
			for i := range 300 {
				require.NoError(t, x.Put(&message.Message{PhysicalOffset: message.Offset(i * 261), Size: 261, StoreTimestamp: firstTime - 1e9}))
			}
			require.NoError(t, x.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, index, all := timedStore(t)
			damage(t, index)
			d := open(t, dir)
			for i := -1; i <= len(all); i += 3 {
				since := firstTime + int64(i)*1000
				got, errs := collect(t, d, inspect.Filter{Since: since, Limit: 2, Until: math.MaxInt64 / 2})
				require.Empty(t, errs)
				require.Len(t, got, min(2, len(all)-max(i, 0)))
				at, ok, err := d.OffsetAt(context.Background(), time.UnixMilli(since))
				require.NoError(t, err)
				require.Equal(t, i < len(all), ok)
				if ok {
					require.Equal(t, all[max(i, 0)].PhysicalOffset, at)
					require.Equal(t, at, got[0].PhysicalOffset)
				}
			}
			o, err := d.Overview(context.Background())
			require.NoError(t, err)
			require.Equal(t, name == "none" || name == "header", o.TimeIndex == nil)
			require.Len(t, o.Problems, map[string]int{"header": 1, "cut": 1}[name])
			if name == "whole" {
				require.EqualValues(t, 1024, o.TimeIndex.Stretch)
				require.Zero(t, o.TimeIndex.From)
				require.Greater(t, o.TimeIndex.Entries, int64(90))
			}
		})
	}
}

func TestQueuesOfATopic(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, "append-prop-crc"))
	o, err := d.Overview(context.Background())
	require.NoError(t, err)
	found := 0
	for _, topic := range o.Topics {
		qs, err := d.Queues(context.Background(), topic.Topic)
		require.NoError(t, err)
		require.Len(t, qs, topic.Queues)
		for _, q := range qs {
			require.Contains(t, o.Queues, q)
			require.Equal(t, int64(q.Max-q.Min), q.Entries)
			found++
		}
	}
	require.Len(t, o.Queues, found)
	none, err := d.Queues(context.Background(), "no such topic")
	require.NoError(t, err)
	require.Empty(t, none)
}
