// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/timeindex"
)

var offsetAtLog = flag.Int64("offsetat.log", 64<<20, "how many bytes of log BenchmarkOffsetAt makes")

// firstAt is what OffsetAt must return.
func firstAt(all []store.AppendResult, at time.Time, end message.Offset) message.Offset {
	for _, r := range all {
		if !time.UnixMilli(r.StoreTime).Before(at) {
			return r.Offset
		}
	}
	return end
}

func TestOffsetAt(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_700_000_000_000)
	clock := newHandClock(start)
	o := store.Options{
		FileSize: 64 << 10, Clock: clock.Now, TimeIndex: store.TimeIndexOptions{Stretch: 4096},
	}
	dir := t.TempDir()
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	at, err := s.OffsetAt(start)
	require.NoError(t, err)
	require.Zero(t, at, "an empty store")
	var all []store.AppendResult
	for i := range 1000 { // three a second, over several files
		clock.set(start.Add(time.Duration(i/3) * time.Second))
		if i == 500 {
			clock.set(start) // set back; Stele's own store times don't follow
		}
		r, err := s.Append(t.Context(), &message.Message{Topic: "T", Body: make([]byte, 200)})
		require.NoError(t, err)
		all = append(all, r)
	}
	check := func(s *store.Store) {
		t.Helper()
		waitAll(t, s)
		for _, d := range []time.Duration{-time.Hour, 0, 1, time.Millisecond, time.Second, 42 * time.Second, 42*time.Second + 1, 166 * time.Second, 333 * time.Second, time.Hour} {
			at, err := s.OffsetAt(start.Add(d))
			require.NoError(t, err)
			require.Equal(t, firstAt(all, start.Add(d), s.Stats().Appended), at, "%v", d)
		}
	}
	check(s)
	st := s.Stats().TimeIndex
	require.EqualValues(t, 4096, st.Stretch)
	require.Zero(t, st.From)
	require.Greater(t, st.Entries, int64(60))
	require.NoError(t, s.Close())
	_, err = s.OffsetAt(start)
	require.ErrorIs(t, err, store.ErrClosed)

	// Without the index Open makes it anew, in a long log from where it reads on.
	index := filepath.Join(dir, "stele", "timeindex")
	for _, rebuild := range []int64{0, 1} {
		require.NoError(t, os.RemoveAll(index))
		o.TimeIndex.Rebuild = rebuild
		s, err = store.Open(dir, o)
		require.NoError(t, err)
		check(s)
		require.Equal(t, rebuild == 0, s.Stats().TimeIndex.Entries > 0)
		require.NoError(t, s.Close())
	}

	for _, bad := range []store.TimeIndexOptions{{Stretch: 1}, {Stretch: -1}, {Rebuild: -1}} {
		_, err = store.Open(dir, store.Options{TimeIndex: bad})
		require.ErrorIs(t, err, store.ErrOptions)
	}
}

// TestOffsetAtOfABroker: Stele comes to a directory of a broker's.
func TestOffsetAtOfABroker(t *testing.T) {
	t.Parallel()
	for _, rebuild := range []int64{0, 1} {
		v := victims["broker/closed"](t)
		o := victimOptions(v)
		o.TimeIndex.Rebuild = rebuild
		s, err := store.Open(v.dir, o)
		require.NoError(t, err)
		for i, k := range v.all {
			if i%50 != 0 {
				continue
			}
			m, err := s.Get(k.offset)
			require.NoError(t, err)
			stored := time.UnixMilli(m.StoreTimestamp)
			at, err := s.OffsetAt(stored)
			require.NoError(t, err)
			got, err := s.Get(at)
			require.NoError(t, err)
			require.LessOrEqual(t, at, k.offset)
			require.False(t, time.UnixMilli(got.StoreTimestamp).Before(stored))
		}
		require.NoError(t, s.Close())
	}
}

// TestDamagedTimeIndex: it is searched without, reported, and whole after the next
// opening.
func TestDamagedTimeIndex(t *testing.T) {
	t.Parallel()
	fill := func(from, to int) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			changeFile(t, path, int64(from), to-from, func(b []byte) {
				for i := range b {
					b[i] ^= 0x55
				}
			})
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"the header":   fill(0, 512),
		"an entry":     fill(512+16, 512+32),
		"all entries":  fill(512, 65536),
		"the file":     fill(0, 65536),
		"cut":          func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 1000)) },
		"a stray file": func(t *testing.T, path string) { write(t, path+".bak", []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := victims["stele/closed"](t)
			path := filepath.Join(v.dir, "stele", "timeindex", "00000000000000000000")
			damage(t, path)
			var said []*timeindex.DamageError
			o := victimOptions(v)
			o.TimeIndex.Stretch = 4096
			o.Events.DamagedTimeIndex = func(e *timeindex.DamageError) { said = append(said, e) }
			first := 0
			for opening := range 2 {
				s, err := store.Open(v.dir, o)
				require.NoError(t, err)
				require.Zero(t, s.Stats().TimeIndex.From)
				for _, k := range v.all {
					m, err := s.Get(k.offset)
					require.NoError(t, err)
					at, err := s.OffsetAt(time.UnixMilli(m.StoreTimestamp))
					require.NoError(t, err)
					require.LessOrEqual(t, at, k.offset)
					got, err := s.Get(at)
					require.NoError(t, err)
					require.Equal(t, m.StoreTimestamp, got.StoreTimestamp)
				}
				require.NoError(t, s.Close())
				require.NotEmpty(t, said)
				require.Contains(t, said[0].Path, filepath.Dir(path))
				if opening == 0 {
					first = len(said)
				}
				require.Len(t, said, first, "the first opening mends it")
			}
		})
	}
}

// BenchmarkOffsetAt searches a log of -offsetat.log bytes.
func BenchmarkOffsetAt(b *testing.B) {
	now := time.UnixMilli(1_700_000_000_000)
	clock := newHandClock(now)
	s, err := store.Open(b.TempDir(), store.Options{Clock: clock.Now})
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Close()) }()
	batch := make([]*message.Message, 100)
	for i := range batch {
		batch[i] = &message.Message{Topic: "T", Body: make([]byte, 1024)}
	}
	first := now
	for int64(s.Stats().Appended) < *offsetAtLog {
		now = now.Add(time.Millisecond)
		clock.set(now)
		_, err := s.AppendBatch(b.Context(), batch)
		require.NoError(b, err)
	}
	waitAll(b, s)
	require.NoError(b, s.Flush(b.Context()))
	b.Run("indexed", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			at := first.Add(time.Duration(i*7919) * time.Microsecond % now.Sub(first))
			if _, err := s.OffsetAt(at); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(s.Stats().Appended)/(1<<30), "GiB-log")
	})
	for name, x := range map[string]*timeindex.Index{"index": openTimes(b, s), "files": nil} {
		b.Run("touched/"+name, func(b *testing.B) {
			var entries, headers, scanned int64
			i := 0
			for ; b.Loop(); i++ {
				at := first.Add(time.Duration(i*7919) * time.Microsecond % now.Sub(first))
				f, err := timeindex.Search(b.Context(), s.Log(), x, s.Dispatched(), at.UnixMilli())
				if err != nil {
					b.Fatal(err)
				}
				entries, headers, scanned = entries+int64(f.Entries), headers+int64(f.Headers), scanned+f.Scanned
			}
			b.ReportMetric(float64(entries)/float64(i), "entries/op")
			b.ReportMetric(float64(headers)/float64(i), "file-heads/op")
			b.ReportMetric(float64(scanned)/float64(i), "scanned-B/op")
		})
	}
}

// openTimes opens the time index of an open store as a reader does.
func openTimes(b *testing.B, s *store.Store) *timeindex.Index {
	b.Helper()
	x, err := timeindex.OpenReadOnly(nil, filepath.Join(s.Dir(), "stele", timeindex.DirName))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, x.Close()) })
	return x
}

// TestOffsetAtAfterExpiry: what is left is found as before, and what expired is not
// found any more.
func TestOffsetAtAfterExpiry(t *testing.T) {
	t.Parallel()
	d, clock := crashdisk.New(), newClock()
	options := func(o *store.Options) { o.Clock, o.TimeIndex.Stretch = clock.Now, 1024 }
	s := openStore(t, d, keepFiles(3), options)
	all := appendMany(t, s, 400, 0, 1)
	check := func(s *store.Store) {
		t.Helper()
		st := s.Stats()
		require.Positive(t, st.Min)
		first := slices.IndexFunc(all, func(r store.AppendResult) bool { return r.Offset >= st.Min })
		for _, r := range all {
			at, err := s.OffsetAt(time.UnixMilli(r.StoreTime))
			require.NoError(t, err)
			require.Equal(t, max(r.Offset, all[first].Offset), at)
		}
		require.GreaterOrEqual(t, st.TimeIndex.From, all[first].Offset)
		for q := range int32(2) {
			c, err := s.Count("orders", q)
			require.NoError(t, err)
			left := slices.IndexFunc(all[first:], func(r store.AppendResult) bool { return r.QueueID == q })
			require.Equal(t, time.UnixMilli(all[first+left].StoreTime), c.First)
			require.EqualValues(t, 400-all[first+left].QueueOffset, c.Count)
		}
	}
	_, err := s.Expire(t.Context())
	require.NoError(t, err)
	check(s)
	require.NoError(t, s.Close())
	check(openStore(t, d, keepFiles(3), options))
}
