// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/message"
)

// No test may leave a goroutine: Pebble's end with Close, also after a failure.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() }) // idempotent; tests that care check it themselves
	return s
}

func topicOf(t *testing.T, s *Store, name string) Topic {
	t.Helper()
	topic, ok, err := s.Topic(name)
	require.NoError(t, err)
	require.True(t, ok, name)
	return topic
}

func offsetOf(t *testing.T, s *Store, group, topic string, queue int32) message.QueueOffset {
	t.Helper()
	off, ok, err := s.Offset(group, topic, queue)
	require.NoError(t, err)
	if !ok {
		return -1
	}
	return off
}

func sampleTopic(name string) Topic {
	return Topic{
		Name: name, ReadQueues: 4, WriteQueues: 8, Perm: PermRead | PermWrite | PermInherit,
		FilterType: MultiTag, SysFlag: 1, Order: true,
		Attributes: map[string]string{"message.type": "FIFO"},
		Extra:      map[string]json.RawMessage{"newField": json.RawMessage(`{"a":[1]}`)},
	}
}

func TestEverythingSurvivesReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "stele", "meta")
	s := open(t, dir, Options{})
	require.NoError(t, s.Put(sampleTopic("full")))
	require.NoError(t, s.Put(Topic{Name: "gone", ReadQueues: 1, WriteQueues: 1}))
	auto, created, err := s.Ensure("auto", 4)
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, Topic{Name: "auto", ReadQueues: 4, WriteQueues: 4, Perm: PermRead | PermWrite}, auto)
	require.NoError(t, s.CommitOffset("g1", "full", 0, 10))
	require.NoError(t, s.CommitOffset("g1", "full", 3, 1<<62))
	require.NoError(t, s.CommitOffset("g1", "auto", 2, 0))
	require.NoError(t, s.CommitOffset("g2", "full", 0, 7))
	require.NoError(t, s.CommitOffset("g2", "full", 0, 5))
	require.NoError(t, s.CommitOffset("g3", "gone", 0, 1))
	require.NoError(t, s.SetDelayOffset(18, 3))
	require.NoError(t, s.SetDelayOffset(1, 100))
	require.NoError(t, s.Delete("gone"))
	require.NoError(t, s.DeleteOffsets("gone"))

	check := func(s *Store) {
		topics, err := s.Topics()
		require.NoError(t, err)
		require.Equal(t, []Topic{auto, sampleTopic("full")}, topics)
		groups, err := s.Groups()
		require.NoError(t, err)
		require.Equal(t, []string{"g1", "g2"}, groups)
		list, err := s.Offsets("g1")
		require.NoError(t, err)
		require.Equal(t, []GroupOffset{{"auto", 2, 0}, {"full", 0, 10}, {"full", 3, 1 << 62}}, list)
		require.EqualValues(t, 5, offsetOf(t, s, "g2", "full", 0))
		delays, err := s.DelayOffsets()
		require.NoError(t, err)
		require.Equal(t, map[int]message.QueueOffset{1: 100, 18: 3}, delays)
		_, ok, err := s.Topic("gone")
		require.NoError(t, err)
		require.False(t, ok)
	}
	check(s)
	require.NoError(t, s.Close())
	for range 6 { // enough for a compaction
		s = open(t, dir, Options{})
		check(s)
		require.NoError(t, s.CommitOffset("g2", "full", 0, 6))
		require.NoError(t, s.CommitOffset("g2", "full", 0, 5))
		require.NoError(t, s.Close())
	}
	s = open(t, dir, Options{})
	check(s)
	require.NoError(t, s.DeleteGroup("g1"))
	require.NoError(t, s.Close())
	s = open(t, dir, Options{})
	groups, err := s.Groups()
	require.NoError(t, err)
	require.Equal(t, []string{"g2"}, groups)
}

func TestMissing(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	_, ok, err := s.Topic("t")
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = s.Offset("g", "t", 0)
	require.NoError(t, err)
	require.False(t, ok)
	list, err := s.Offsets("g")
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, s.Delete("t"))
	require.NoError(t, s.DeleteGroup("g"))
	require.NoError(t, s.DeleteOffsets("t"))
	require.NoError(t, s.Sync())
}

// A deleted offset that comes back in the same batch must not stay deleted.
func TestDeleteThenCommitAgain(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, "meta", Options{FS: mem})
	require.NoError(t, s.CommitOffset("g", "t", 0, 1))
	require.NoError(t, s.CommitOffset("g", "t", 1, 1))
	require.NoError(t, s.Sync())
	require.NoError(t, s.update(func() {
		for _, p := range s.offsets["g"] {
			p.deleted = true
			s.dirty.offset(p)
		}
		delete(s.offsets, "g")
	}))
	require.NoError(t, s.CommitOffset("g", "t", 0, 2))
	require.NoError(t, s.Close())
	s = open(t, "meta", Options{FS: mem})
	require.EqualValues(t, 2, offsetOf(t, s, "g", "t", 0))
	require.EqualValues(t, -1, offsetOf(t, s, "g", "t", 1))
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	long := strings.Repeat("x", MaxNameLen+1)
	ok := Topic{Name: "t", ReadQueues: 1, WriteQueues: 1, Perm: PermRead}
	with := func(change func(*Topic)) Topic {
		c := ok
		change(&c)
		return c
	}
	require.NoError(t, s.Put(ok))
	for name, topic := range map[string]Topic{
		"no name":            with(func(t *Topic) { t.Name = "" }),
		"long name":          with(func(t *Topic) { t.Name = strings.Repeat("x", 128) }),
		"name with an at":    with(func(t *Topic) { t.Name = "a@b" }),
		"name with a dot":    with(func(t *Topic) { t.Name = ".." }),
		"no queue count":     with(func(t *Topic) { t.ReadQueues = -1 }),
		"too many to read":   with(func(t *Topic) { t.ReadQueues = MaxQueues + 1 }),
		"too many to write":  with(func(t *Topic) { t.WriteQueues = MaxQueues + 1 }),
		"negative to write":  with(func(t *Topic) { t.WriteQueues = -1 }),
		"unknown permission": with(func(t *Topic) { t.Perm = 16 }),
		"unknown filter":     with(func(t *Topic) { t.FilterType = 2 }),
		"nameless attribute": with(func(t *Topic) { t.Attributes = map[string]string{"": "x"} }),
		"attribute no UTF-8": with(func(t *Topic) { t.Attributes = map[string]string{"x": "\xff"} }),
	} {
		require.ErrorIs(t, s.Put(topic), ErrInvalid, name)
	}
	require.ErrorIs(t, s.Put(Topic{Name: "a.b"}), message.ErrTopicChars)
	_, _, err := s.Ensure("a/b", 1)
	require.ErrorIs(t, err, ErrInvalid)
	_, _, err = s.Ensure("new", MaxQueues+1)
	require.ErrorIs(t, err, ErrInvalid)
	for name, err := range map[string]error{
		"no group":        s.CommitOffset("", "t", 0, 0),
		"no topic":        s.CommitOffset("g", "", 0, 0),
		"long group":      s.CommitOffset(long, "t", 0, 0),
		"long topic":      s.CommitOffset("g", long, 0, 0),
		"at in a group":   s.CommitOffset("g@h", "t", 0, 0),
		"zero in a group": s.CommitOffset("g\x00", "t", 0, 0),
		"slash":           s.CommitOffset("g", "a/b", 0, 0),
		"not UTF-8":       s.CommitOffset("\xff", "t", 0, 0),
		"negative queue":  s.CommitOffset("g", "t", -1, 0),
		"negative offset": s.CommitOffset("g", "t", 0, -1),
		"level 0":         s.SetDelayOffset(0, 0),
		"level too large": s.SetDelayOffset(MaxQueues+1, 0),
		"negative delay":  s.SetDelayOffset(1, -1),
	} {
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	topics, err := s.Topics()
	require.NoError(t, err)
	require.Equal(t, []Topic{ok}, topics)
	groups, err := s.Groups()
	require.NoError(t, err)
	require.Empty(t, groups)
}

// What the Store keeps must not change with the caller's memory.
func TestOwnership(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	topic := sampleTopic("t")
	require.NoError(t, s.Put(topic))
	topic.Attributes["message.type"] = "changed"
	require.Equal(t, sampleTopic("t"), topicOf(t, s, "t"))
	delays, err := s.DelayOffsets()
	require.NoError(t, err)
	delays[1] = 1
	delays, err = s.DelayOffsets()
	require.NoError(t, err)
	require.Empty(t, delays)
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, _, err1 := s.Topic("t")
	_, err2 := s.Topics()
	_, _, err3 := s.Ensure("t", 1)
	_, _, err4 := s.Offset("g", "t", 0)
	_, err5 := s.Offsets("g")
	_, err6 := s.Groups()
	_, err7 := s.DelayOffsets()
	_, err8 := s.ImportDir(t.TempDir(), ImportOptions{})
	_, err9 := s.ExportOffsets()
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, err9,
		s.Put(Topic{Name: "t"}), s.Delete("t"), s.CommitOffset("g", "t", 0, 0), s.SetDelayOffset(1, 0),
		s.DeleteGroup("g"), s.DeleteOffsets("t"), s.Sync(), s.ExportDir(t.TempDir())} {
		require.ErrorIs(t, err, ErrClosed, i)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, "meta", Options{FS: mem})
	const workers, rounds = 8, 300
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			group := fmt.Sprintf("g%d", w)
			for i := range rounds {
				_, _, err := s.Ensure(fmt.Sprintf("t%d", i%20), 4)
				require.NoError(t, err)
				require.NoError(t, s.CommitOffset(group, "t0", int32(i%4), message.QueueOffset(i)))
				_, ok, err := s.Topic(fmt.Sprintf("t%d", i%20))
				require.NoError(t, err)
				require.True(t, ok)
				switch i % 50 {
				case 10:
					require.NoError(t, s.Sync())
				case 20:
					require.NoError(t, s.DeleteOffsets("none"))
				case 30:
					_, err := s.ExportOffsets()
					require.NoError(t, err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.Close())
	s = open(t, "meta", Options{FS: mem})
	topics, err := s.Topics()
	require.NoError(t, err)
	require.Len(t, topics, 20)
	for w := range workers {
		require.EqualValues(t, rounds-1, offsetOf(t, s, fmt.Sprintf("g%d", w), "t0", (rounds-1)%4))
	}
}

// Close against everything else: no call may be lost that returned nil.
func TestCloseDuringUse(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, "meta", Options{FS: mem})
	var wg sync.WaitGroup
	last := make([]message.QueueOffset, 4)
	started := make(chan struct{}, len(last))
	for w := range last {
		wg.Go(func() {
			for i := message.QueueOffset(1); ; i++ {
				if err := s.CommitOffset("g", "t", int32(w), i); err != nil {
					require.ErrorIs(t, err, ErrClosed)
					return
				}
				last[w] = i
				if i == 10 {
					started <- struct{}{}
				}
				if i%100 == 0 && s.Sync() != nil {
					return
				}
			}
		})
	}
	for range last {
		<-started
	}
	require.NoError(t, s.Close())
	wg.Wait()
	s = open(t, "meta", Options{FS: mem})
	for w, off := range last {
		require.Equal(t, off, offsetOf(t, s, "g", "t", int32(w)))
	}
}

func TestKeyBytes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []byte("\x01\x03abc"), appendTopicKey(nil, "abc"))
	require.Equal(t, []byte("\x02\x01g\x02tt\x00\x00\x01\x02"), appendOffsetKey(nil, offsetKey{"g", queueKey{"tt", 258}}))
	require.Equal(t, []byte("\x03\x00\x00\x00\x12"), appendDelayKey(nil, 18))
	require.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, appendOffset(nil, 0x0102030405060708))
	topic := sampleTopic("t")
	text, err := encodeTopic(&topic)
	require.NoError(t, err)
	require.Equal(t, `{"readQueues":4,"writeQueues":8,"perm":7,"filterType":1,"sysFlag":1,"order":true,`+
		`"attributes":{"message.type":"FIFO"},"extra":{"newField":{"a":[1]}}}`, string(text))
}

func TestStrings(t *testing.T) {
	t.Parallel()
	require.Equal(t, "-RW-", (PermRead | PermWrite).String())
	require.Equal(t, "PRWX", permAll.String())
	require.Equal(t, "----", Perm(0).String())
	require.Equal(t, "SINGLE_TAG", SingleTag.String())
	require.Equal(t, "MULTI_TAG", MultiTag.String())
	require.Equal(t, "FilterType(9)", FilterType(9).String())
}

func FuzzEntries(f *testing.F) {
	topic := sampleTopic("t")
	text, err := encodeTopic(&topic)
	require.NoError(f, err)
	f.Add(appendTopicKey(nil, "t"), text)
	f.Add(appendOffsetKey(nil, offsetKey{"g", queueKey{"t", 1}}), appendOffset(nil, 1))
	f.Add(appendDelayKey(nil, 1), appendOffset(nil, 1))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := &Store{offsets: map[string]map[queueKey]*progress{}, delays: map[int32]message.QueueOffset{}}
		topics := map[string]*Topic{}
		if s.loadEntry(topics, &offsetKey{}, key, value) != nil {
			return
		}
		for name, topic := range topics {
			require.Equal(t, key, appendTopicKey(nil, name))
			text, err := encodeTopic(topic)
			require.NoError(t, err)
			again, err := decodeTopic(name, text)
			require.NoError(t, err)
			require.True(t, topic.equal(*again))
		}
		for _, queues := range s.offsets {
			for _, p := range queues {
				require.Equal(t, key, appendOffsetKey(nil, p.key))
				require.Equal(t, value, appendOffset(nil, p.off))
			}
		}
		for level, off := range s.delays {
			require.Equal(t, key, appendDelayKey(nil, level))
			require.Equal(t, value, appendOffset(nil, off))
		}
	})
}
