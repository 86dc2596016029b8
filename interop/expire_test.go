// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// TestExpired has each side let files of the log go, and the other one read what
// is left: queues that begin past zero, and those of which nothing is left.
func TestExpired(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, sealed} {
		t.Run(l.name+"/rocket expires", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newMaker(t, 5, l)
			r := j.rocket(t, dir, l)
			r.put(m.make(400))
			old := time.Now().Add(-2 * time.Hour)
			logs, err := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
			require.NoError(t, err)
			for _, file := range logs[:len(logs)/2] {
				require.NoError(t, os.Chtimes(file, old, old))
			}
			r.expire()
			require.Positive(t, r.min)
			r.close()

			s := openClean(t, dir, l, store.ForeignClean)
			require.Equal(t, r.min, int64(s.Stats().Min))
			s.put(m.make(20))
			sameInBoth(t, j, s, l)
		})
		for _, rebuilt := range []bool{false, true} {
			name := l.name + "/stele expires"
			if rebuilt {
				name += " and fills its queues again"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m := newMaker(t, 6, l)
				s := open(t, dir, l)
				s.put(m.make(400))
				s.close()
				o := l.stele(&clock{})
				o.Retention = store.RetentionOptions{
					Policy: retention.Policy{MaxSize: int64(s.Stats().Appended) / 2}, Manual: true,
				}
				kept, err := store.Open(dir, o)
				require.NoError(t, err)
				gone, err := kept.Expire(t.Context())
				require.NoError(t, err)
				require.Positive(t, int64(gone.Min))
				require.NoError(t, kept.Close())
				if rebuilt {
					require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
				}
				s = open(t, dir, l)
				require.Equal(t, gone.Min, s.Stats().Min)
				s.put(m.make(20))
				sameInBoth(t, j, s, l)
			})
		}
	}
}

// sameInBoth closes a store, and holds that RocketMQ answers as it did, and
// changes nothing.
func sameInBoth(t *testing.T, j *jvm, s *local, l layout) {
	t.Helper()
	asked := s.answers()
	s.close()
	verify(t, s.Dir())
	before := snapshot(t, s.Dir())
	r := j.rocket(t, s.Dir(), l)
	require.Empty(t, told(r.opened))
	requireSameAnswers(t, asked, r.answers(asked))
	r.close()
	requireUnchanged(t, before, s.Dir())
}

// TestPastZero has RocketMQ begin a queue in the middle, which it fills up with
// blank entries from the start of the file.
func TestPastZero(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, begin := range []int64{1, 137, 100_000} {
		for _, l := range []layout{tiny, small} {
			t.Run(fmt.Sprintf("%s/%d", l.name, begin), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m := newMaker(t, 8, l)
				name := queueName{topics[0], 1}
				r := j.rocket(t, dir, l)
				r.call(nil, map[string]any{"op": "begin", "topic": name.Topic, "queueId": name.ID, "offset": begin}, nil)
				r.put(m.make(150))
				twin := filepath.Join(t.TempDir(), "twin")
				require.NoError(t, os.CopyFS(twin, os.DirFS(dir)))
				s := open(t, twin, l)
				asked := s.answers()
				require.Equal(t, begin, asked.view.Queues[name].Min)
				requireSameAnswers(t, asked, r.answers(asked))
				s.close()
				r.close()

				s = open(t, dir, l)
				require.Equal(t, store.ForeignClean, s.Stats().Recovery.Kind)
				require.Empty(t, s.Stats().Recovery.Damage)
				s.put(m.make(50))
				asked = s.answers()
				require.Equal(t, begin, asked.view.Queues[name].Min)
				s.close()
				verify(t, dir)

				r = j.rocket(t, dir, l)
				require.Empty(t, told(r.opened))
				got := r.viewFrom(asked.view.offsets(), true)
				// RocketMQ takes blank entries for messages at the start of the log.
				require.LessOrEqual(t, got.Queues[name].Min, begin)
				got.Queues[name].Min = begin
				requireSame(t, asked.view, got)
				r.close()
			})
		}
	}
}
