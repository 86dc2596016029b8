// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

// fill makes a store of a middling broker.
func fill(t testing.TB, s *Store, topics, groups int) {
	t.Helper()
	for i := range topics {
		name := fmt.Sprintf("topic-%04d", i)
		_, _, err := s.Ensure(name, 8)
		require.NoError(t, err)
		for g := range groups {
			for q := range int32(8) {
				require.NoError(t, s.CommitOffset(fmt.Sprintf("group-%02d", g), name, q, message.QueueOffset(i)))
			}
		}
	}
	require.NoError(t, s.Sync())
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	fill(t, s, 10, 2)
	name, off := "topic-0003", message.QueueOffset(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok, err := s.Topic(name); !ok || err != nil {
			panic("no topic")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, created, err := s.Ensure(name, 8); created || err != nil {
			panic("created")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		off++
		if s.CommitOffset("group-01", name, 3, off) != nil {
			panic("refused")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok, err := s.Offset("group-01", name, 3); !ok || err != nil {
			panic("no offset")
		}
	}))
}

func BenchmarkTopic(b *testing.B) {
	s := open(b, "meta", Options{FS: vfs.NewMem()})
	fill(b, s, 1000, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok, _ := s.Topic("topic-0500"); !ok {
				b.Fail()
			}
		}
	})
}

func BenchmarkCommitOffset(b *testing.B) {
	s := open(b, "meta", Options{FS: vfs.NewMem()})
	fill(b, s, 100, 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if s.CommitOffset("group-05", "topic-0050", int32(i&7), message.QueueOffset(i)) != nil {
			b.Fail()
		}
	}
}

// BenchmarkSync commits so many queues and makes them durable, on the file
// system of the temporary directory.
func BenchmarkSync(b *testing.B) {
	for _, queues := range []int32{1, 100, 10000} {
		b.Run(fmt.Sprint(queues), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "meta"), Options{})
			for i := 0; b.Loop(); i++ {
				for q := range queues {
					require.NoError(b, s.CommitOffset("g", "t", q, message.QueueOffset(i)))
				}
				require.NoError(b, s.Sync())
			}
		})
	}
}

// BenchmarkOpen opens and closes a store of 100 topics and so many offsets.
func BenchmarkOpen(b *testing.B) {
	for _, groups := range []int{0, 1, 20, 200} {
		for _, readOnly := range []bool{false, true} {
			b.Run(fmt.Sprintf("offsets=%d/readOnly=%v", 800*groups, readOnly), func(b *testing.B) {
				dir := filepath.Join(b.TempDir(), "meta")
				s := open(b, dir, Options{})
				fill(b, s, 100, groups)
				require.NoError(b, s.Close())
				for b.Loop() {
					s, err := Open(dir, Options{ReadOnly: readOnly})
					require.NoError(b, err)
					b.StopTimer()
					require.NoError(b, s.Close())
					b.StartTimer()
				}
			})
		}
	}
}
