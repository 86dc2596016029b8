// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

const dir = "/index"

// small makes chains long and files roll soon. Its slots take more than a page.
var small = keyindex.Sizes{Slots: 1100, Entries: 40}

const begin = 1700000000000

// books are the records of a log.
type books struct{ all []*message.Message }

func (b *books) end() message.Offset {
	if len(b.all) == 0 {
		return 0
	}
	m := b.all[len(b.all)-1]
	return m.PhysicalOffset + message.Offset(m.Size)
}

// add draws a record. Keys come again, some records have none.
func (b *books) add(rng *rand.Rand) *message.Message {
	m := &message.Message{
		Topic: []string{"orders", "x"}[rng.IntN(2)], PhysicalOffset: b.end(), Size: 100,
		StoreTimestamp: begin + int64(len(b.all))*700,
	}
	if rng.IntN(3) > 0 {
		m.Properties.Set(message.PropertyUniqKey, fmt.Sprintf("U%d", len(b.all)))
	}
	if n := rng.IntN(4); n > 0 {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("k%d", rng.IntN(30))
		}
		m.SetKeys(keys...)
	}
	b.all = append(b.all, m)
	return m
}

// record returns the record at an offset, nil if none begins there.
func (b *books) record(off message.Offset) *message.Message {
	i := int(off) / 100
	if off < 0 || off%100 != 0 || i >= len(b.all) {
		return nil
	}
	return b.all[i]
}

// read is Options.Record.
func (b *books) read(off message.Offset) (*message.Message, error) {
	if m := b.record(off); m != nil {
		return m, nil
	}
	return nil, keyindex.ErrNoRecord
}

// options are those of a set on disk whose records are b's.
func (b *books) options(disk mappedfile.Disk) keyindex.Options {
	return keyindex.Options{
		Dir: dir, Disk: disk, Sizes: small, Record: b.read,
		Clock: func() time.Time { return time.UnixMilli(begin) },
	}
}

func (b *books) open(t testing.TB, disk mappedfile.Disk) *keyindex.Set {
	t.Helper()
	s, err := keyindex.OpenSet(b.options(disk))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fresh opens an empty set that is ready for records.
func (b *books) fresh(t testing.TB, disk mappedfile.Disk) *keyindex.Set {
	t.Helper()
	s := b.open(t, disk)
	from, err := s.Recover(0, keyindex.TrustAll, "")
	require.NoError(t, err)
	require.Zero(t, from)
	return s
}

// feed puts the records from an offset on.
func (b *books) feed(t testing.TB, s *keyindex.Set, from message.Offset) {
	t.Helper()
	for _, m := range b.all {
		if m.PhysicalOffset >= from {
			require.NoError(t, s.Put(m))
		}
	}
}

// images are the contents of a set's files, oldest first.
func images(t testing.TB, s *keyindex.Set) (all [][]byte) {
	t.Helper()
	for _, f := range s.Files() {
		require.NoError(t, f.Read(func(m keyindex.Image) error {
			all = append(all, m.AppendTo(nil))
			for p := range m.Problems {
				t.Errorf("%v", p)
			}
			return nil
		}))
	}
	return all
}

// find returns the offsets of the records that have a key, newest first.
func (b *books) find(t testing.TB, s *keyindex.Set, topic, key string) (found []message.Offset) {
	t.Helper()
	require.NoError(t, s.Find(topic, key, keyindex.Range{}, func(off message.Offset) bool {
		m := b.record(off)
		if m != nil && m.Topic == topic && keyindex.HasKey(m, key, false) && (len(found) == 0 || found[len(found)-1] != off) {
			found = append(found, off)
		}
		return true
	}))
	return found
}

// requireAll requires that each record is found by each of its keys, and no
// other is.
func (b *books) requireAll(t testing.TB, s *keyindex.Set) {
	t.Helper()
	want := map[[2]string][]message.Offset{}
	for _, m := range b.all {
		seen := map[string]bool{}
		uniq, _ := m.Properties.Get(message.PropertyUniqKey)
		for _, k := range append(m.Keys(), uniq) {
			if at := [2]string{m.Topic, k}; k != "" && !seen[k] {
				seen[k] = true
				want[at] = append([]message.Offset{m.PhysicalOffset}, want[at]...)
			}
		}
	}
	for at, offsets := range want {
		require.Equal(t, offsets, b.find(t, s, at[0], at[1]), "%v", at)
	}
}

// requireSame requires that two sets hold the same bytes.
func requireSame(t testing.TB, want, got *keyindex.Set, about ...any) {
	t.Helper()
	a, b := images(t, want), images(t, got)
	require.Len(t, b, len(a), about...)
	for i := range a {
		for j := range a[i] {
			if a[i][j] != b[i][j] {
				require.Fail(t, fmt.Sprintf("file %d differs at byte %d", i, j), about...)
			}
		}
	}
}
