// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

var (
	crashSeed  = flag.Uint64("crash.seed", 1, "first seed of the crash histories")
	crashSeeds = flag.Int("crash.seeds", 150, "how many crash histories")
)

// TestCrashHistories runs random histories of appends, flushes and checkpoints
// that end in a power cut or a kill at a random disk operation, often in the
// recovery of the one before, and checks after each what is left.
func TestCrashHistories(t *testing.T) {
	t.Parallel()
	n := *crashSeeds
	if testing.Short() {
		n = min(n, 20)
	}
	for i := range n {
		seed := *crashSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: crashdisk.New(), model: &model{}}
			for range 4 {
				h.life()
			}
		})
	}
}

// history is a chain of lives of one store.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *crashdisk.Disk
	model *model
	sync  bool // the store flushes synchronously
}

// trap takes a clone of a disk at its n-th operation from now, as a crash then
// would leave it.
type trap struct {
	left  atomic.Int64
	clone *crashdisk.Disk
	acked message.Offset // what was acknowledged just before
	done  chan struct{}
}

// setTrap sets it. The model says what is acknowledged.
func setTrap(d *crashdisk.Disk, n int, m *model, take func() *crashdisk.Disk) *trap {
	tr := &trap{done: make(chan struct{})}
	tr.left.Store(int64(n))
	d.Observe(func(crashdisk.Op, string) {
		if tr.left.Add(-1) == 0 {
			tr.acked = m.ackedUpTo()
			tr.clone = take()
			close(tr.done)
		}
	})
	return tr
}

// sprung reports whether the operation came.
func (tr *trap) sprung() bool {
	select {
	case <-tr.done:
		return true
	default:
		return false
	}
}

func (h *history) trap(n int, m *model, take func() *crashdisk.Disk) *trap {
	return setTrap(h.disk, n, m, take)
}

// powerCut returns what makes a power cut happen. A kill can't be had like that
// while something runs: it leaves the memory of one moment, and a clone is not
// taken in one.
func (h *history) powerCut() func() *crashdisk.Disk {
	seed, d := h.rng.Uint64(), h.disk
	return func() *crashdisk.Disk { return d.CrashClone(seed) }
}

// anyCut is a power cut or a kill.
func (h *history) anyCut() func() *crashdisk.Disk {
	if h.rng.IntN(2) == 0 {
		return h.disk.KillClone
	}
	return h.powerCut()
}

// life opens the store, checks it, uses it and ends it.
func (h *history) life() {
	t := h.t
	if h.rng.IntN(3) == 0 {
		h.crashInOpen()
	}
	o := h.options()
	s, err := store.Open(root, o)
	require.NoError(t, err)
	defer s.Close()
	h.model = h.model.check(t, s)

	tr := h.trap(1+h.rng.IntN(120), h.model, h.powerCut())
	h.use(s)
	h.disk.Observe(nil)
	if tr.sprung() {
		h.disk = tr.clone
		h.model.acked = tr.acked
		return
	}
	switch h.rng.IntN(4) {
	case 0:
		require.NoError(t, s.Close())
		h.model.ack(s.Stats().Appended)
	case 1:
		// A power cut in the middle of Close: nothing was acknowledged by it.
		tr := h.trap(1+h.rng.IntN(12), h.model, h.powerCut())
		require.NoError(t, s.Close())
		h.disk.Observe(nil)
		if tr.sprung() {
			h.disk = tr.clone
		} else {
			h.model.ack(s.Stats().Appended)
		}
	default:
		// At rest, but for the checkpointer.
		limit := s.Stats().Appended
		if h.sync {
			limit = s.Stats().Flushed
		}
		require.NoError(t, s.WaitDispatched(context.Background(), limit))
		h.disk = h.anyCut()()
	}
}

func (h *history) options() store.Options {
	o := quiet(h.disk)
	if h.sync = h.rng.IntN(2) == 0; h.sync {
		o.Flush = store.FlushSync
	}
	o.WritePath = allPaths[h.rng.IntN(len(allPaths))]
	if h.rng.IntN(2) == 0 {
		o.CheckpointInterval = time.Duration(1+h.rng.IntN(3)) * time.Millisecond
	}
	if h.rng.IntN(2) == 0 {
		o.FlushInterval, o.FlushLeastPages = time.Millisecond, -1
	}
	return o
}

// use appends, and flushes now and then.
func (h *history) use(s *store.Store) {
	for range h.rng.IntN(40) {
		require.NoError(h.t, h.model.step(h.t, s, h.rng))
		end := s.Stats().Appended
		switch {
		case s.Stats().Flushed >= end:
			h.model.ack(end) // synchronous
		case h.rng.IntN(8) == 0:
			require.NoError(h.t, s.Flush(context.Background()))
			h.model.ack(end)
		case h.rng.IntN(8) == 0:
			h.disk.Writeback(h.rng.Uint64())
		}
	}
}

// crashInOpen ends an opening at a random operation, and goes on with what that
// leaves.
func (h *history) crashInOpen() {
	tr := h.trap(1+h.rng.IntN(30), h.model, h.anyCut())
	s, err := store.Open(root, h.options())
	require.NoError(h.t, err)
	h.disk.Observe(nil)
	require.NoError(h.t, s.Close())
	if tr.sprung() {
		h.disk = tr.clone
	} else { // it had fewer operations
		h.model = h.model.check(h.t, reopen(h.t, h.disk))
	}
}

// reopen opens the store on a copy of the disk, which stays as it is.
func reopen(t testing.TB, d *crashdisk.Disk) *store.Store {
	t.Helper()
	return openStore(t, d.KillClone())
}
