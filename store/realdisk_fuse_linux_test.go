// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// bootDisk is the real file system under a kernel of another name: after a power
// cut that was played, the boot id must not say that the page cache is whole.
type bootDisk struct {
	mappedfile.Disk
	id string
}

func (d bootDisk) BootID() (string, error) { return d.id, nil }

// fuseRig is a FUSE server and the disk that is mounted now.
type fuseRig struct {
	*fusefs.Client
	t    testing.TB
	disk int
	dir  string
	mode fusefs.Mode
	boot int
}

var fuseModes = []fusefs.Mode{
	{}, {KeepCache: true}, {WritebackCache: true}, {WritebackCache: true, KeepCache: true}, {Bare: true}, {Bare: true, WritebackCache: true, KeepCache: true},
}

// newFuseRig mounts an empty disk, or skips the test where that is not possible.
// The server ends after the timeout, and whatever waits for it fails.
func newFuseRig(t testing.TB, mode fusefs.Mode, timeout time.Duration) *fuseRig {
	t.Helper()
	if err := fusefs.Available(); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	r := &fuseRig{t: t, dir: t.TempDir(), mode: mode} // removed after the server is gone
	c, err := fusefs.Start(timeout)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	r.Client = c
	r.disk, err = c.NewDisk()
	require.NoError(t, err)
	if err := c.Mount(r.disk, r.dir, mode); err != nil {
		t.Skipf("FUSE is not tested here: %v", err)
	}
	return r
}

// options are for a store on the mounted disk.
func (r *fuseRig) options() store.Options {
	o := osOptions()
	o.Disk = bootDisk{mappedfile.OS(), fmt.Sprintf("boot %d", r.boot)}
	o.FlushTimeout = -1
	return o
}

// comeUp mounts what a power cut left, under the next run of the kernel.
func (r *fuseRig) comeUp(left int, mode fusefs.Mode) {
	r.t.Helper()
	require.NoError(r.t, r.Unmount(r.dir))
	require.NoError(r.t, r.Drop(r.disk))
	require.NoError(r.t, r.Mount(left, r.dir, mode))
	r.disk, r.mode = left, mode
	r.boot++
}

// TestFusePowerCuts has the real file system lose power under a store that
// appends, opens or closes, again and again.
func TestFusePowerCuts(t *testing.T) {
	t.Parallel()
	histories, cuts := 12, 20
	if testing.Short() {
		histories, cuts = 3, 6
	}
	seed := uint64(time.Now().UnixNano())
	for i := range histories {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed+uint64(i))
			rng := rand.New(rand.NewPCG(seed+uint64(i), 0))
			h := &fuseHistory{
				fuseRig: newFuseRig(t, fuseModes[i%len(fuseModes)], 4*time.Minute),
				rng:     rng, pledges: newPledges(), crash: 0, committed: -1,
			}
			for range cuts {
				h.life()
			}
			t.Logf("%d power cuts, %d of them in a life, %d messages kept, %d lost", cuts, h.amid, len(h.pledges.promises), len(h.pledges.gone))
		})
	}
}

// fuseHistory is a chain of lives of one store, with a power cut after each.
type fuseHistory struct {
	*fuseRig
	rng     *rand.Rand
	pledges *pledges
	next    int   // for ids
	crash   int64 // when the last power cut was
	amid    int   // power cuts that did not wait for Close

	tried, committed message.QueueOffset // a consumer offset: as it was set, and as it was when it was synced
	since            int64               // when that was
	topics           []synced            // that were put
}

type synced struct {
	name  string
	since int64
}

// life opens the store, checks it, uses it and closes it. The power cut comes
// somewhere on the way, or after it.
func (h *fuseHistory) life() {
	t := h.t
	require.NoError(t, h.Trap(h.disk, 1+h.rng.IntN(400), 1+h.rng.Uint64()))
	o := h.options()
	if h.rng.IntN(2) == 0 {
		o.Flush = store.FlushSync
	}
	// Only through the mapping: once in thousands of power cuts, what pwrite had
	// written to FUSE was zeros to the mapping. The other paths have their power
	// cuts on crashdisk, and their kills on a local file system.
	o.WritePath = store.WriteMmap
	o.FlushInterval = time.Duration(1+h.rng.IntN(20)) * time.Millisecond
	o.FlushLeastPages = -1
	o.CheckpointInterval = time.Duration(1+h.rng.IntN(20)) * time.Millisecond
	o.OffsetInterval = time.Duration(1+h.rng.IntN(20)) * time.Millisecond
	s, err := store.Open(h.dir, o)
	require.NoError(t, err)
	defer s.Close()
	h.check(s)
	h.use(s, o.Flush == store.FlushSync)
	end := s.Stats().Appended
	require.NoError(t, s.Close())
	h.pledges.flushed(end, fusefs.Now())
	h.synced(h.tried)

	left, at, ok, err := h.Trapped(h.disk)
	require.NoError(t, err)
	if ok {
		h.amid++
	} else {
		left, at, err = h.Cut(h.disk, h.rng.Uint64())
		require.NoError(t, err)
	}
	h.crash = at
	h.comeUp(left, fuseModes[h.rng.IntN(len(fuseModes))])
}

func (h *fuseHistory) check(s *store.Store) {
	t, now := h.t, fusefs.Now()
	h.pledges.check(t, s, h.crash, now)
	off, ok, err := s.Offset("group", "orders", 0)
	require.NoError(t, err)
	if h.since < h.crash && h.committed >= 0 {
		require.True(t, ok)
		// The messages that it had counted may be gone.
		_, end, err := s.Bounds("orders", 0)
		if err != nil {
			require.ErrorIs(t, err, store.ErrNoQueue)
			end = 0
		}
		require.GreaterOrEqual(t, off, min(h.committed, end))
	}
	require.LessOrEqual(t, off, h.tried)
	if h.tried, h.committed = off, -1; ok {
		h.synced(off)
	}
	kept := h.topics[:0]
	for _, p := range h.topics {
		_, ok, err := s.Topic(p.name)
		require.NoError(t, err)
		require.True(t, ok || p.since >= h.crash, "topic %s is lost", p.name)
		if ok {
			kept = append(kept, synced{p.name, min(p.since, now)})
		}
	}
	h.topics = kept
}

// synced notes that the consumer offset is durable.
func (h *fuseHistory) synced(off message.QueueOffset) {
	if off != h.committed && off > 0 { // 0 was never set
		h.committed, h.since = off, fusefs.Now()
	}
}

// use has a few goroutines append, and this one flush and commit beside them.
func (h *fuseHistory) use(s *store.Store, durable bool) {
	t := h.t
	var wg sync.WaitGroup
	for range 1 + h.rng.IntN(3) {
		h.next++
		name, rng := fmt.Sprint(h.next), rand.New(rand.NewPCG(h.rng.Uint64(), 0))
		wg.Go(func() {
			for i := range 5 + rng.IntN(60) {
				h.append(s, rng, fmt.Sprintf("%s.%d", name, i), durable)
			}
		})
	}
	for range h.rng.IntN(6) {
		switch h.rng.IntN(3) {
		case 0:
			end := s.Stats().Appended
			if err := s.Flush(context.Background()); err != nil {
				t.Errorf("flush: %v", err)
			}
			h.pledges.flushed(end, fusefs.Now())
		case 1:
			h.tried++
			require.NoError(t, s.CommitOffset("group", "orders", 0, h.tried))
			if h.rng.IntN(2) == 0 {
				require.NoError(t, s.SyncOffsets())
				h.synced(h.tried)
			}
		case 2:
			h.next++
			name := fmt.Sprintf("topic%d", h.next)
			require.NoError(t, s.PutTopic(topicmeta.Topic{Name: name, ReadQueues: 4, WriteQueues: 4, Perm: topicmeta.PermRead | topicmeta.PermWrite}))
			h.topics = append(h.topics, synced{name, fusefs.Now()})
		}
	}
	wg.Wait()
}

func (h *fuseHistory) append(s *store.Store, rng *rand.Rand, id string, durable bool) {
	m := &message.Message{Topic: childTopics[rng.IntN(2)], QueueID: int32(rng.IntN(3))}
	m.Body = selfProving(m.Topic, m.QueueID, id, randomPad(rng))
	h.pledges.begin(id)
	res, err := s.Append(context.Background(), m)
	if err != nil {
		h.t.Errorf("append: %v", err)
		return
	}
	since := int64(never)
	if durable {
		since = fusefs.Now()
	}
	h.pledges.answered(id, res, since)
}
