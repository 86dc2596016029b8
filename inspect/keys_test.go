// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// query runs a query and keeps copies of what it yields.
func query(t testing.TB, d *inspect.Dir, q inspect.KeyQuery) (msgs []*message.Message, errs []error) {
	t.Helper()
	for m, err := range d.Query(context.Background(), q) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		msgs = append(msgs, m.Clone())
	}
	return msgs, errs
}

// TestQueryABroker asks for every key of every message that RocketMQ stored, and
// gets those messages, newest first.
func TestQueryABroker(t *testing.T) {
	t.Parallel()
	for _, name := range []string{closed, killed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, name)
			d := open(t, dir)
			all, errs := collect(t, d, inspect.Filter{})
			require.Empty(t, errs)
			type keyOf struct{ topic, key string }
			want := map[keyOf][]*message.Message{}
			for _, m := range slices.Backward(all) {
				keys := m.Keys()
				slices.Sort(keys)
				for _, k := range slices.Compact(keys) {
					want[keyOf{m.Topic, k}] = append(want[keyOf{m.Topic, k}], m)
				}
			}
			require.Greater(t, len(want), 200)
			// Opening the large index for each of them takes long.
			n := 0
			for k, msgs := range want {
				if n++; name == killed && n > 40 {
					break
				}
				got, errs := query(t, d, inspect.KeyQuery{Topic: k.topic, Key: k.key})
				require.Empty(t, errs)
				require.Equal(t, msgs, got, "%v", k)
				got, errs = query(t, d, inspect.KeyQuery{Topic: k.topic, Key: k.key, Max: 1})
				require.Empty(t, errs)
				require.Equal(t, msgs[:1], got, "%v", k)
				got, errs = query(t, d, inspect.KeyQuery{Topic: k.topic, Key: k.key, Unique: true})
				require.Empty(t, errs)
				require.Empty(t, got, "none has a UNIQ_KEY")
				first := msgs[len(msgs)-1]
				got, errs = query(t, d, inspect.KeyQuery{Topic: k.topic, Key: k.key, Begin: first.StoreTimestamp, End: first.StoreTimestamp})
				require.Empty(t, errs)
				require.Contains(t, offsets(got), int64(first.PhysicalOffset))
				for _, m := range got {
					require.Equal(t, first.StoreTimestamp, m.StoreTimestamp)
				}
			}
			for _, m := range all {
				got, err := d.ByID(m.ID())
				require.NoError(t, err)
				require.Equal(t, m, got)
			}
		})
	}
}

func TestByIDRefuses(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, closed))
	for id, want := range map[string]error{
		"C000020100002A9F00000000000002E5":                         inspect.ErrWrongID, // in the middle of a message
		"C000020200002A9F00000000000002E4":                         inspect.ErrWrongID, // of another host
		"C000020100002A9F00000000700002E4":                         inspect.ErrWrongID, // beyond the log
		"0000000000000000000000000000000100002A9F00000000000002E4": inspect.ErrWrongID, // of an IPv6 host
		"C000020100002A9F":                                         message.ErrBadID,
		"":                                                         message.ErrBadID,
		"C000020100002A9F000000000000zzzz":                         message.ErrBadID,
		"C000020100002A9F80000000000002E4":                         message.ErrBadID,
	} {
		_, err := d.ByID(id)
		require.ErrorIs(t, err, want, id)
	}
	m, err := d.ByID("c000020100002a9f00000000000002e4")
	require.NoError(t, err)
	require.EqualValues(t, 740, m.PhysicalOffset)
}

// TestIndexFilesOfABroker lists them, and what is wrong with a damaged one.
func TestIndexFilesOfABroker(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	names, err := filepath.Glob(filepath.Join(dir, "index", "*"))
	require.NoError(t, err)
	name := filepath.Base(names[0])
	sizes := keyindex.Sizes{Slots: 500, Entries: 2000}
	list := func(z keyindex.Sizes) (files []inspect.IndexFile, last error) {
		for f, err := range open(t, dir).IndexFiles(context.Background(), z, true) {
			if err != nil {
				last = err
				continue
			}
			files = append(files, f)
		}
		return files, last
	}
	files, err := list(keyindex.Sizes{})
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Empty(t, files[0].Problems)
	require.Equal(t, 669, files[0].Count)
	require.Equal(t, []int{146, 172, 101, 45, 23, 11, 1, 1, 0}, files[0].Chains.Lengths)
	require.Equal(t, files[0].SlotsUsed, files[0].Chains.Used)
	one, err := list(keyindex.Sizes{Slots: 500})
	require.NoError(t, err)
	require.Equal(t, files, one)

	walk := func(slot int) (entries []inspect.IndexEntry, last error) {
		for e, err := range open(t, dir).IndexEntries(context.Background(), sizes, name, slot) {
			if err != nil {
				last = err
				continue
			}
			entries = append(entries, e)
		}
		return entries, last
	}
	all, err := walk(-1)
	require.NoError(t, err)
	require.Len(t, all, 669)
	chain, err := walk(all[0].Slot)
	require.NoError(t, err)
	require.Equal(t, all[0], chain[len(chain)-1])
	_, err = walk(500)
	require.ErrorIs(t, err, inspect.ErrNoIndexFile)

	// A loop ends, and is reported.
	at := int64(40 + 4*500 + 20*chain[0].Number + 16)
	patch(t, names[0], at, []byte{byte(chain[0].Number >> 24), byte(chain[0].Number >> 16), byte(chain[0].Number >> 8), byte(chain[0].Number)})
	_, err = list(keyindex.Sizes{})
	require.ErrorIs(t, err, keyindex.ErrSizes, "its entries do not tell any more")
	files, err = list(sizes)
	require.NoError(t, err)
	require.NotEmpty(t, files[0].Problems)
	require.ErrorIs(t, files[0].Problems[0], keyindex.ErrChain)
	got, err := walk(chain[0].Slot)
	require.ErrorIs(t, err, keyindex.ErrChain)
	require.Len(t, got, 1)

	// Of a wrong length: another file is told, this one is passed over.
	require.NoError(t, os.Truncate(names[0], 42000))
	files, err = list(sizes)
	require.ErrorIs(t, err, mappedfile.ErrFileSize)
	require.Empty(t, files)
	_, errs := query(t, open(t, dir), inspect.KeyQuery{Topic: "topic-1", Key: "order-1", Sizes: sizes})
	require.ErrorIs(t, errors.Join(errs...), mappedfile.ErrFileSize)
}

// TestQueryBesideTheWriter queries while another part of the program puts.
func TestQueryBesideTheWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 1<<20)
	set, err := keyindex.OpenSet(keyindex.Options{
		Dir: filepath.Join(dir, "index"), Sizes: keyindex.Sizes{Slots: 50, Entries: 60}, Clock: time.Now,
		Record: func(message.Offset) (*message.Message, error) { return nil, nil },
	})
	require.NoError(t, err)
	defer set.Close()
	_, err = set.Recover(0, keyindex.TrustAll, "")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 300 {
		m := &message.Message{Topic: "orders", Body: make([]byte, rng.IntN(50))}
		m.SetKeys("k", "other")
		r, err := w.append(m)
		require.NoError(t, err)
		m.PhysicalOffset, m.StoreTimestamp = r.Offset, r.StoreTime
		require.NoError(t, set.Put(m))
		if n%29 == 0 {
			d := open(t, dir)
			got, errs := query(t, d, inspect.KeyQuery{Topic: "orders", Key: "k", Sizes: set.Sizes()})
			require.Empty(t, errs)
			require.Len(t, got, n+1)
		}
	}
}
