// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// keyedMsg has a UNIQ_KEY, unless it is empty, and KEYS.
func keyedMsg(topic, body, uniq string, keys ...string) *message.Message {
	m := msg(topic, 0, body)
	if len(keys) > 0 {
		m.SetKeys(keys...)
	}
	if uniq != "" {
		m.Properties.Set(message.PropertyUniqKey, uniq)
	}
	return m
}

func appendMsg(t testing.TB, s *store.Store, m *message.Message) store.AppendResult {
	t.Helper()
	r, err := s.Append(context.Background(), m)
	require.NoError(t, err)
	return r
}

func TestQuery(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Clock, o.FileSize = c.Now, 64<<10 })
	a := appendMsg(t, s, keyedMsg("orders", "a", "u1", "k1", "k2"))
	b := appendMsg(t, s, keyedMsg("orders", "b", "u2", "k1", "u1"))
	appendMsg(t, s, keyedMsg("other", "other", "u1", "k1"))
	appendMsg(t, s, keyedMsg("orders", "twice", "k3", "k3", "k3"))
	appendMsg(t, s, keyedMsg("orders", "none", ""))
	half := keyedMsg("orders", "half", "", "t")
	half.SysFlag = message.TransactionPrepared
	appendMsg(t, s, half)
	back := keyedMsg("orders", "back", "", "t")
	back.SysFlag = message.TransactionRollback
	appendMsg(t, s, back)
	appendMsg(t, s, keyedMsg("orders", "unicode", "", "中文😀"))
	waitAll(t, s)
	for _, row := range []struct {
		name, topic, key string
		o                store.QueryOptions
		want             []string
	}{
		{"newest first", "orders", "k1", store.QueryOptions{}, []string{"b", "a"}},
		{"the second word", "orders", "k2", store.QueryOptions{}, []string{"a"}},
		{"a unique key, and a word that is the same", "orders", "u1", store.QueryOptions{}, []string{"b", "a"}},
		{"the unique key alone", "orders", "u1", store.QueryOptions{Unique: true}, []string{"a"}},
		{"no word is a unique key", "orders", "k2", store.QueryOptions{Unique: true}, nil},
		{"another topic", "other", "k1", store.QueryOptions{}, []string{"other"}},
		{"a topic that is not there", "never", "k1", store.QueryOptions{}, nil},
		{"a key that is not there", "orders", "k9", store.QueryOptions{}, nil},
		{"three times in one message", "orders", "k3", store.QueryOptions{}, []string{"twice"}},
		{"half messages, not rollbacks", "orders", "t", store.QueryOptions{}, []string{"half"}},
		{"outside the BMP", "orders", "中文😀", store.QueryOptions{}, []string{"unicode"}},
		{"at most", "orders", "k1", store.QueryOptions{Max: 1}, []string{"b"}},
		{"from a time", "orders", "k1", store.QueryOptions{Begin: b.StoreTime}, []string{"b"}},
		{"to a time", "orders", "k1", store.QueryOptions{End: a.StoreTime}, []string{"a"}},
		{"at a time", "orders", "k1", store.QueryOptions{Begin: a.StoreTime, End: b.StoreTime}, []string{"b", "a"}},
		{"after all times", "orders", "k1", store.QueryOptions{Begin: b.StoreTime + 1e6}, nil},
		{"no time", "orders", "k1", store.QueryOptions{Begin: 2, End: 1}, nil},
	} {
		got, err := s.Query(context.Background(), row.topic, row.key, row.o)
		require.NoError(t, err, row.name)
		var want []string
		want = append(want, row.want...)
		require.Equal(t, want, append([]string(nil), bodies(got)...), row.name)
	}
	st := s.Stats()
	require.EqualValues(t, 17, st.Queries)
	require.Equal(t, 1, st.IndexFiles)

	for _, row := range [][2]string{
		{"", "k"}, {"orders", ""}, {"orders", strings.Repeat("k", message.MaxPropertiesLen+1)},
		{strings.Repeat("t", message.MaxRetryTopicLen+1), "k"},
	} {
		_, err := s.Query(context.Background(), row[0], row[1], store.QueryOptions{})
		require.ErrorIs(t, err, store.ErrBadKey)
	}
	// A key has no limit of its own: properties have.
	_, err := s.Append(context.Background(), keyedMsg("orders", "", "", strings.Repeat("k", message.MaxPropertiesLen)))
	require.ErrorIs(t, err, store.ErrPropertiesTooLarge)
	long := strings.Repeat("k", message.MaxPropertiesLen-100)
	appendMsg(t, s, keyedMsg("orders", "long", "", long))
	waitAll(t, s)
	got, err := s.Query(context.Background(), "orders", long, store.QueryOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"long"}, bodies(got))

	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, err = s.Query(ctx, "orders", "k1", store.QueryOptions{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
	_, err = s.Query(context.Background(), "orders", "k1", store.QueryOptions{})
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestGetByID(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	r := appendMsg(t, s, keyedMsg("orders", "a", ""))
	m, err := s.GetByID(r.ID())
	require.NoError(t, err)
	require.Equal(t, "a", string(m.Body))
	require.Equal(t, r.ID(), m.ID())
	_, err = s.GetByID(strings.ToLower(r.ID()))
	require.NoError(t, err)
	for id, want := range map[string]error{
		"":                              store.ErrBadID,
		r.ID()[1:]:                      store.ErrBadID,
		"0A000001" + r.ID()[8:]:         store.ErrWrongID, // another host's
		r.ID()[:31] + "7":               store.ErrWrongID, // in mid-record
		r.ID()[:28] + "1000":            store.ErrWrongID, // behind the end, in the file
		r.ID()[:16] + "7" + r.ID()[17:]: store.ErrWrongID,
	} {
		_, err := s.GetByID(id)
		require.ErrorIs(t, err, want, id)
	}
}

// TestQueryDamagedRecord: the others are returned along with the error.
func TestQueryDamagedRecord(t *testing.T) {
	t.Parallel()
	disk := crashdisk.New()
	s := openStore(t, disk)
	var all []store.AppendResult
	for i := range 3 {
		all = append(all, appendMsg(t, s, keyedMsg("orders", fmt.Sprint(i), "", "k")))
	}
	waitAll(t, s)
	r, err := disk.Open(filepath.Join(root, "commitlog", mappedfile.FileName(0)), mappedfile.Mapping{})
	require.NoError(t, err)
	r.Bytes()[int64(all[1].Offset)+int64(all[1].Size)-3] ^= 1
	got, err := s.Query(context.Background(), "orders", "k", store.QueryOptions{})
	require.Equal(t, []string{"2", "0"}, bodies(got))
	var corrupt *commitlog.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, all[1].Offset, corrupt.Offset)
	require.NoError(t, r.Close())
}

// TestIndexWithoutSpace stalls the dispatcher for want of space in the index, at
// a new file and within one. With space it goes on, and enters nothing twice.
func TestIndexWithoutSpace(t *testing.T) {
	t.Parallel()
	for _, op := range []crashdisk.Op{crashdisk.OpCreate, crashdisk.OpReserve} {
		for after := range 4 {
			t.Run(fmt.Sprint(op, after), func(t *testing.T) {
				t.Parallel()
				disk := crashdisk.New()
				stalled, goes := make(chan error, 1), make(chan struct{}, 1)
				s := openStore(t, disk, func(o *store.Options) {
					o.Events.Stalled = func(err error) {
						if err != nil {
							stalled <- err
							return
						}
						goes <- struct{}{}
					}
				})
				disk.Inject(crashdisk.Fault{Op: op, Kind: crashdisk.Index, After: after, Err: syscall.ENOSPC, Stays: true})
				n, end := 0, message.Offset(0)
				for ; ; n++ {
					r, err := s.Append(context.Background(), keyedMsg("orders", fmt.Sprint(n), fmt.Sprintf("u%d", n), "k", "l"))
					if err != nil {
						require.ErrorIs(t, err, store.ErrDiskFull)
						break
					}
					end = r.Offset + message.Offset(r.Size)
				}
				require.ErrorIs(t, <-stalled, store.ErrDiskFull)
				disk.ClearFaults()
				<-goes
				require.NoError(t, s.WaitDispatched(context.Background(), end))
				entries := 0
				got, err := s.Query(context.Background(), "orders", "k", store.QueryOptions{Max: 1 << 20})
				require.NoError(t, err)
				require.Len(t, got, n)
				require.NoError(t, s.Close())
				set, err := keyindex.OpenSet(keyindex.Options{Dir: root + "/index", Disk: disk, ReadOnly: true})
				require.NoError(t, err)
				for _, f := range set.Files() {
					require.NoError(t, f.Read(func(m keyindex.Image) error {
						entries += m.Len()
						for p := range m.Problems {
							t.Error(p)
						}
						return nil
					}))
				}
				require.NoError(t, set.Close())
				require.Equal(t, 3*n, entries)
			})
		}
	}
}

// TestCheckpointOfTheIndex: RocketMQ removes index files after a crash that end
// later than the checkpoint says. Those that a closed store left must not.
func TestCheckpointOfTheIndex(t *testing.T) {
	t.Parallel()
	disk := crashdisk.New()
	c := newClock()
	s := openStore(t, disk, func(o *store.Options) { o.Clock = c.Now })
	var last store.AppendResult
	for i := range 100 {
		last = appendMsg(t, s, keyedMsg("orders", "", fmt.Sprint(i)))
	}
	require.NoError(t, s.Close())
	text, err := disk.ReadFile(root + "/checkpoint")
	require.NoError(t, err)
	cp, err := checkpoint.Decode(text)
	require.NoError(t, err)
	require.Equal(t, last.StoreTime, cp.Index)

	// What came since the last checkpoint is not known to be durable.
	s = openStore(t, disk, func(o *store.Options) { o.Clock = c.Now })
	appendMsg(t, s, keyedMsg("orders", "", "more"))
	waitAll(t, s)
	text, err = disk.KillClone().ReadFile(root + "/checkpoint")
	require.NoError(t, err)
	cp, err = checkpoint.Decode(text)
	require.NoError(t, err)
	require.Equal(t, last.StoreTime, cp.Index)
}

// BenchmarkQuery asks a store of 200,000 messages for one by its key: index,
// record, checksums and a copy.
func BenchmarkQuery(b *testing.B) {
	const n = 200_000
	s, err := store.Open(b.TempDir(), store.Options{FileSize: 256 << 20})
	require.NoError(b, err)
	defer s.Close()
	keys := make([]string, n)
	body := strings.Repeat("b", 256)
	for i := range keys {
		keys[i] = fmt.Sprintf("7F00000100002A9F0000018BCFE5%04X", i)
		appendMsg(b, s, keyedMsg("orders", body, keys[i], "order-1"))
	}
	waitAll(b, s)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		all, err := s.Query(context.Background(), "orders", keys[i*9973%n], store.QueryOptions{Unique: true})
		if err != nil || len(all) != 1 {
			b.Fatal(len(all), err)
		}
		i++
	}
}
