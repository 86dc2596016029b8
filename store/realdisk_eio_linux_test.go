// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// failures are writes and syncs that the file system refuses once: the fsync
// that a mapping's pages go out with, or the pages themselves. The kernel tells
// of it once and takes the pages for clean.
var failures = []struct {
	name  string
	fault fusefs.Fault
}{
	{"fsync of the log", fusefs.Fault{Op: fusefs.OpSync, Path: "/commitlog/"}},
	{"pages of the log", fusefs.Fault{Op: fusefs.OpWrite, Path: "/commitlog/"}},
	{"fsync of a queue", fusefs.Fault{Op: fusefs.OpSync, Path: "/consumequeue/"}},
	{"pages of a queue", fusefs.Fault{Op: fusefs.OpWrite, Path: "/consumequeue/"}},
	{"fsync of the checkpoint", fusefs.Fault{Op: fusefs.OpSync, Path: "/checkpoint"}},
	{"fsync of the marks", fusefs.Fault{Op: fusefs.OpSync, Path: "/marks"}},
	{"pages of the marks", fusefs.Fault{Op: fusefs.OpWrite, Path: "/marks"}},
	{"fsync of the metadata", fusefs.Fault{Op: fusefs.OpSync, Path: "/stele/meta/"}},
	{"write of the metadata", fusefs.Fault{Op: fusefs.OpWrite, Path: "/stele/meta/"}},
}

// TestFuseFailures: from the failure on nothing is acknowledged, though the disk
// works again; reads go on; Stats, the event and Close say why. On the same
// kernel and after a power cut the store opens again and has what it promised.
func TestFuseFailures(t *testing.T) {
	t.Parallel()
	for i, f := range failures {
		paths := []store.WritePath{store.WriteMmap}
		if strings.HasSuffix(f.name, " of the log") {
			paths = []store.WritePath{store.WriteMmap, store.WritePool, store.WriteFile}
		}
		for n := range 2 * len(paths) {
			mode, path := store.FlushMode(n%2), paths[n/2]
			t.Run(fmt.Sprintf("%s, %v, %v", f.name, mode, path), func(t *testing.T) {
				t.Parallel()
				r := newFuseRig(t, fuseModes[i%len(fuseModes)], 4*time.Minute)
				l := newPledges()
				s, poisoned := failingStore(t, r, mode, path)
				for n := range 20 {
					pledge(t, s, l, fmt.Sprintf("a.%d", n))
				}
				require.NoError(t, s.Flush(context.Background()))
				l.flushed(s.Stats().Appended, fusefs.Now())
				require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))

				fault := f.fault
				fault.Err = syscall.EIO
				cause := provoke(t, r, fault, s, l, poisoned)
				require.ErrorIs(t, cause, store.ErrPoisoned)
				require.ErrorIs(t, cause, syscall.EIO)
				requireRefused(t, s, cause)
				// Reads go on.
				for _, q := range s.Queues() {
					for _, m := range fetchAll(t, s, q.Topic, q.QueueID) {
						_, err := proven(m)
						require.NoError(t, err)
					}
				}
				require.ErrorIs(t, s.Close(), syscall.EIO)
				require.Empty(t, poisoned, "it is said once")

				// Under the same kernel, which still has the pages in its cache.
				o := r.options()
				s, err := store.Open(r.dir, o)
				require.NoError(t, err)
				require.NotEqual(t, store.CleanClose, s.Stats().Recovery.Kind)
				l.check(t, s, fusefs.Now(), fusefs.Now())
				at := fusefs.Now()
				left, cut, err := r.Cut(r.disk, fusefs.Luckless)
				require.NoError(t, err)
				require.Less(t, at, cut)
				require.NoError(t, s.Close())
				// What Open kept was made durable by it, whatever the kernel
				// thought of its pages.
				r.comeUp(left, r.mode)
				s, err = store.Open(r.dir, r.options())
				require.NoError(t, err)
				l.check(t, s, cut, fusefs.Now())
				pledge(t, s, l, "again")
				require.NoError(t, s.Close())
			})
		}
	}
}

func failingStore(t *testing.T, r *fuseRig, mode store.FlushMode, path store.WritePath) (s *store.Store, poisoned chan error) {
	t.Helper()
	o := r.options()
	o.Flush, o.WritePath = mode, path
	o.FlushInterval, o.FlushLeastPages = time.Millisecond, -1
	o.CheckpointInterval, o.OffsetInterval = time.Millisecond, time.Millisecond
	poisoned = make(chan error, 10)
	o.Events.Poisoned = func(err error) { poisoned <- err }
	s, err := store.Open(r.dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, poisoned
}

// pledge appends a message that proves itself.
func pledge(t *testing.T, s *store.Store, l *pledges, id string) {
	t.Helper()
	require.NoError(t, tryPledge(s, l, id))
}

func tryPledge(s *store.Store, l *pledges, id string) error {
	m := &message.Message{Topic: "orders", QueueID: int32(len(id) % 2)}
	m.Body = selfProving(m.Topic, m.QueueID, id, 100)
	l.begin(id)
	res, err := s.Append(context.Background(), m)
	if err == nil {
		l.answered(id, res, never)
	}
	return err
}

// provoke appends and commits offsets until the fault has struck. Whatever was
// answered before that counts as promised as far as the log was flushed.
func provoke(t *testing.T, r *fuseRig, fault fusefs.Fault, s *store.Store, l *pledges, poisoned chan error) error {
	t.Helper()
	armed, flushes := false, int64(0)
	for n := 0; ; n++ {
		// It may have struck a file of the log that was being made ahead of need,
		// which is made again when it is needed, and nobody is told.
		spent := strings.Contains(fault.Path, "commitlog") && s.Stats().Flushes > flushes+3
		if !armed || spent {
			require.NoError(t, r.Inject(r.disk, fault))
			armed, flushes = true, s.Stats().Flushes
		}
		err := tryPledge(s, l, fmt.Sprintf("b.%d", n))
		if err == nil {
			_ = s.CommitOffset("group", "orders", 0, message.QueueOffset(n)) // refused once it failed
		}
		l.flushed(s.Stats().Flushed, fusefs.Now())
		select {
		case cause := <-poisoned:
			return cause
		default:
		}
		if errors.Is(err, store.ErrPoisoned) {
			return <-poisoned
		}
		if err != nil {
			// It struck a file that was just being made, and is gone again. The
			// next append makes it.
			require.ErrorIs(t, err, syscall.EIO)
			require.NoError(t, tryPledge(s, l, fmt.Sprintf("c.%d", n)))
			armed = false
		}
	}
}

func requireRefused(t *testing.T, s *store.Store, cause error) {
	t.Helper()
	require.Equal(t, cause, s.Err())
	require.Equal(t, cause, s.Stats().Poisoned)
	for range 3 {
		_, err := s.Append(context.Background(), msg("orders", 0, "refused"))
		require.ErrorIs(t, err, store.ErrPoisoned)
	}
	_, err := s.AppendBatch(context.Background(), []*message.Message{msg("orders", 0, "refused")})
	require.ErrorIs(t, err, store.ErrPoisoned)
	require.ErrorIs(t, s.Flush(context.Background()), store.ErrPoisoned)
}
