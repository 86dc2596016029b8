// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestPoison: after a failed flush of the log or of a queue nothing is
// acknowledged any more, reads go on, Close says why and leaves abort, and the
// store can be opened again.
func TestPoison(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]crashdisk.Kind{"log": crashdisk.CommitLog, "queue": crashdisk.ConsumeQueue, "checkpoint": crashdisk.Checkpoint} {
		eachPath(t, name, func(t *testing.T, path store.WritePath) {
			d := crashdisk.New()
			poisoned := make(chan error, 10)
			s := openStore(t, d, syncFlush, func(o *store.Options) {
				o.CheckpointInterval, o.WritePath = time.Millisecond, path
				o.Events.Poisoned = func(err error) { poisoned <- err }
			})
			m := &model{}
			first := appendOne(t, s, "t", 0, "before")
			m.add(entry{AppendResult: first, body: []byte("before"), keep: true})
			waitAll(t, s)
			d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: kind})
			r, err := s.Append(context.Background(), msg("t", 0, "then"))
			if kind == crashdisk.CommitLog {
				require.ErrorIs(t, err, store.ErrPoisoned)
			} else if err == nil {
				m.add(entry{AppendResult: r, body: []byte("then"), keep: true})
				m.ack(r.Offset + message.Offset(r.Size))
			}
			cause := <-poisoned
			require.ErrorIs(t, cause, store.ErrPoisoned)
			require.ErrorIs(t, cause, syscall.EIO)

			_, err = s.Append(context.Background(), msg("t", 0, "after"))
			require.ErrorIs(t, err, store.ErrPoisoned)
			_, err = s.AppendBatch(context.Background(), []*message.Message{msg("t", 0, "after")})
			require.ErrorIs(t, err, store.ErrPoisoned)
			require.ErrorIs(t, s.Flush(context.Background()), store.ErrPoisoned)
			require.Equal(t, cause, s.Stats().Poisoned)
			require.Equal(t, cause, s.Err())
			require.Equal(t, "before", string(fetchAll(t, s, "t", 0)[0].Body))
			got, err := s.Get(first.Offset)
			require.NoError(t, err)
			require.Equal(t, "before", string(got.Body))
			require.ErrorIs(t, s.Close(), syscall.EIO)
			require.Empty(t, poisoned, "it is said once")
			_, err = d.ReadFile(root + "/abort")
			require.NoError(t, err)

			for _, left := range []*crashdisk.Disk{d.DurableClone(), d.CrashClone(1), d.CrashClone(2), d} {
				s = openStore(t, left, syncFlush)
				require.NotEqual(t, store.CleanClose, s.Stats().Recovery.Kind)
				all := fetchAll(t, s, "t", 0)
				require.GreaterOrEqual(t, len(all), len(m.entries))
				next := appendOne(t, s, "t", 0, "again")
				require.EqualValues(t, len(all), next.QueueOffset)
				require.NoError(t, s.Close())
			}
		})
	}
}

// TestFailedFlushThenPowerCut: what a failed flush left in the page cache, and
// on no disk, must be written again before what comes behind it is acknowledged.
func TestFailedFlushThenPowerCut(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openStore(t, d)
	m := &model{}
	first := make([]byte, 9000) // pages that no later record touches
	r := appendOne(t, s, "t", 0, string(first))
	m.add(entry{AppendResult: r, body: first, keep: true})
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.CommitLog})
	require.ErrorIs(t, s.Flush(context.Background()), store.ErrPoisoned)
	require.ErrorIs(t, s.Close(), store.ErrPoisoned)

	s = openStore(t, d, syncFlush) // the same kernel
	for _, body := range []string{"second", "third"} {
		r = appendOne(t, s, "t", 0, body)
		m.add(entry{AppendResult: r, body: []byte(body), keep: true})
	}
	big := make([]byte, 9000)
	r, err := s.Append(context.Background(), &message.Message{Topic: "t", Body: big})
	require.NoError(t, err)
	m.add(entry{AppendResult: r, body: big, keep: true})
	m.ack(r.Offset + message.Offset(r.Size))
	m.check(t, openStore(t, d.DurableClone()))
}

// TestFlushedAfterAKill: what a killed process had not flushed is durable when Open
// returns, or, where nobody was promised that, soon after.
func TestFlushedAfterAKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		failed bool // a flush did, before the kill
		mode   store.FlushMode
		kind   store.RecoveryKind
		later  bool
	}{
		{"async", false, store.FlushAsync, store.ProcessKilled, true},
		{"async, after a failed flush", true, store.FlushAsync, store.PowerCut, false},
		{"sync", false, store.FlushSync, store.ProcessKilled, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			s := openStore(t, d)
			m := &model{}
			rng := rand.New(rand.NewPCG(1, 1))
			for range 10 {
				require.NoError(t, m.step(t, s, rng))
			}
			require.NoError(t, s.Flush(t.Context()))
			m.ack(s.Stats().Appended)
			for range 20 {
				require.NoError(t, m.step(t, s, rng))
			}
			require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
			if c.failed {
				d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.CommitLog})
				require.ErrorIs(t, s.Flush(t.Context()), store.ErrPoisoned)
			}
			d = d.KillClone()
			d.ClearFaults()
			gate := &flushGate{Disk: d, open: make(chan struct{})}
			release := sync.OnceFunc(func() { close(gate.open) })
			if !c.later {
				release()
			}
			s = openStore(t, gate, func(o *store.Options) { o.Flush = c.mode })
			defer release()
			st := s.Stats()
			require.Equal(t, c.kind, st.Recovery.Kind)
			require.Equal(t, !c.later, st.Flushed == st.Appended)
			left := m.check(t, s)
			require.Equal(t, m.acked, min(m.acked, left.acked), "what was flushed before stays promised")
			m.check(t, openStore(t, d.DurableClone()))

			release()
			// By itself: nobody asks for it.
			require.NoError(t, s.Log().WaitFlushedBeyond(t.Context(), st.Recovery.End-1))
			left.ack(st.Recovery.End)
			left.check(t, openStore(t, d.DurableClone()))
		})
	}
}

// flushGate has the flushes of the log wait until it is open.
type flushGate struct {
	mappedfile.Disk
	open chan struct{}
}

func (g *flushGate) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := g.Disk.Open(path, m)
	if err != nil || !strings.Contains(path, "commitlog") {
		return r, err
	}
	return gatedRegion{r, g}, nil
}

type gatedRegion struct {
	mappedfile.Region
	gate *flushGate
}

func (r gatedRegion) Flush(off, n int64) error {
	<-r.gate.open
	return r.Region.Flush(off, n)
}

// FlushOnly is what Open waits for in any case: what it has zeroed.
func (r gatedRegion) FlushOnly(off, n int64) error { return r.Region.Flush(off, n) }

func (r gatedRegion) Redirty(from, to int64) {
	r.Region.(interface{ Redirty(from, to int64) }).Redirty(from, to)
}

// TestNoNewLogFile: a full disk is an error of the append that needs a file, and
// goes away with it.
func TestNoNewLogFile(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	// Or appends are refused for a while, when somebody happens to look at the
	// disk while it is full.
	s := openStore(t, d, func(o *store.Options) { o.Retention.Policy.RefuseAt = -1 })
	m := &model{}
	big := make([]byte, 9000)
	put := func() error {
		r, err := s.Append(context.Background(), &message.Message{Topic: "t", Body: big})
		if err == nil {
			m.add(entry{AppendResult: r, body: big, keep: true})
		}
		return err
	}
	require.NoError(t, put())
	waitAll(t, s)
	d.SetCapacity(d.Used())
	var err error
	for range 3 { // one file may be ready
		if err = put(); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, store.ErrDiskFull)
	require.ErrorIs(t, put(), store.ErrDiskFull)
	require.NoError(t, s.Err())
	d.SetCapacity(0)
	require.NoError(t, put())
	waitAll(t, s)
	m.check(t, s)
	require.Empty(t, d.Unreserved())
	require.NoError(t, s.Close())
	m.check(t, openStore(t, d))
}

// fullQueues is a store whose dispatcher found no room for a queue.
func fullQueues(t *testing.T) (d *crashdisk.Disk, s *store.Store, stalls chan error) {
	t.Helper()
	d = crashdisk.New()
	stalls = make(chan error, 10)
	s = openStore(t, d, func(o *store.Options) { o.Events.Stalled = func(err error) { stalls <- err } })
	appendOne(t, s, "t", 0, "before")
	waitAll(t, s)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, Kind: crashdisk.ConsumeQueue, Err: syscall.ENOSPC, Stays: true})
	appendOne(t, s, "t", 1, "needs a file")
	require.ErrorIs(t, <-stalls, store.ErrDiskFull)
	return d, s, stalls
}

func TestStall(t *testing.T) {
	t.Parallel()
	d, s, stalls := fullQueues(t)
	_, err := s.Append(context.Background(), msg("t", 0, "refused"))
	require.ErrorIs(t, err, store.ErrDiskFull)
	require.ErrorIs(t, s.Stats().Stalled, store.ErrDiskFull)
	require.Len(t, fetchAll(t, s, "t", 0), 1)
	d.ClearFaults()
	require.NoError(t, <-stalls)
	require.NoError(t, s.Stats().Stalled)
	appendOne(t, s, "t", 0, "after")
	waitAll(t, s)
	require.Len(t, fetchAll(t, s, "t", 0), 2)
	require.Len(t, fetchAll(t, s, "t", 1), 1)
	require.NoError(t, s.Close())
}

// TestCloseWhileStalled: the message that had no room counts as dispatched
// neither then nor later.
func TestCloseWhileStalled(t *testing.T) {
	t.Parallel()
	d, s, _ := fullQueues(t)
	require.ErrorIs(t, s.Close(), store.ErrDiskFull)
	_, err := d.ReadFile(root + "/abort")
	require.NoError(t, err)
	_, err = store.Open(root, quiet(d))
	require.ErrorIs(t, err, store.ErrDiskFull)
	d.ClearFaults()
	s = openStore(t, d)
	require.Len(t, fetchAll(t, s, "t", 0), 1)
	require.Len(t, fetchAll(t, s, "t", 1), 1)
}

// TestOpenOnFullDisk has no room for what Open makes.
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	for after := range 6 {
		d := crashdisk.New()
		d.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, After: after, Err: syscall.ENOSPC, Stays: true})
		s, err := store.Open(root, quiet(d))
		if err == nil {
			_, err = s.Append(context.Background(), msg("t", 0, "x"))
			d.ClearFaults()
			// The dispatcher may have met the full disk, and tries again in a while.
			require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
			require.NoError(t, s.Close())
		}
		if after < 3 {
			require.ErrorIs(t, err, store.ErrDiskFull, after)
		}
		require.Empty(t, d.Unreserved(), after)
		d.ClearFaults()
		s = openStore(t, d)
		appendOne(t, s, "t", 0, "y")
		require.NoError(t, s.Close())
		require.Empty(t, d.Unreserved(), after)
	}
}

// TestFailingOpen injects an error into each operation of an opening that
// recovers: it is returned or of no consequence, and the next opening is whole.
func TestFailingOpen(t *testing.T) {
	t.Parallel()
	for _, op := range []crashdisk.Op{
		crashdisk.OpOpen, crashdisk.OpFlush, crashdisk.OpReserve, crashdisk.OpZero, crashdisk.OpRemove,
		crashdisk.OpWriteFile, crashdisk.OpReadFile, crashdisk.OpSyncDir, crashdisk.OpMkdirAll, crashdisk.OpList,
	} {
		t.Run(op.String(), func(t *testing.T) {
			t.Parallel()
			orig, m := filled(t, "killed")
			addLogFiles(t, orig)
			failed := false
			for after := 0; ; after++ {
				d := orig.KillClone()
				d.Inject(crashdisk.Fault{Op: op, After: after})
				s, err := store.Open(root, quiet(d))
				d.ClearFaults()
				if err == nil {
					m.checkWrecked(t, s)
					require.NoError(t, s.Close())
					if after > 60 || !failed {
						return
					}
					if failed = false; after > 2 {
						return
					}
					continue
				}
				failed = true
				require.ErrorIs(t, err, syscall.EIO)
				s = openStore(t, d)
				m.checkWrecked(t, s)
				require.NoError(t, s.Close())
			}
		})
	}
}

// TestConcurrentUse has everything run at once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
		eachPath(t, mode.String(), func(t *testing.T, path store.WritePath) {
			d := crashdisk.New()
			s := openStore(t, d, func(o *store.Options) {
				o.WritePath = path
				o.Flush, o.CheckpointInterval, o.OffsetInterval = mode, time.Millisecond, time.Millisecond
				o.FlushInterval = time.Millisecond
			})
			const producers, each = 4, 300
			var wg, readers sync.WaitGroup
			for p := range producers {
				wg.Go(func() {
					for i := range each {
						var err error
						if i%10 == 0 {
							_, err = s.AppendBatch(context.Background(), []*message.Message{msg("t", int32(p), "x")})
						} else {
							_, err = s.Append(context.Background(), msg("t", int32(p), "x"))
						}
						if err != nil {
							t.Errorf("append: %v", err)
							return
						}
					}
				})
				readers.Go(func() {
					for from := message.QueueOffset(0); from < each; {
						b, err := s.Follow(context.Background(), "t", int32(p), from, store.Limit{})
						if err != nil {
							t.Errorf("follow: %v", err)
							return
						}
						for m, err := range b.All() {
							if err != nil || m.QueueOffset != from {
								t.Errorf("at %d: %v, %v", from, m, err)
								return
							}
							from++
						}
						b.Release()
						if err := s.CommitOffset("g", "t", int32(p), from); err != nil {
							t.Errorf("commit: %v", err)
						}
					}
				})
			}
			stop := make(chan struct{})
			wg.Go(func() {
				for {
					st := s.Stats()
					if st.Flushed > st.Appended || st.Dispatched > st.Appended || st.Min > st.Flushed {
						t.Errorf("watermarks: %+v", st)
					}
					_, _ = s.Topics()
					_ = s.Queues()
					if st.DispatchedRecords >= producers*each {
						return
					}
					select {
					case <-stop:
						return
					default:
						_ = s.WaitDispatched(context.Background(), min(st.Dispatched+1, s.Stats().Appended))
					}
				}
			})
			readers.Wait()
			close(stop)
			wg.Wait()
			require.NoError(t, s.Close())
			s = openStore(t, d)
			for p := range producers {
				require.Len(t, fetchAll(t, s, "t", int32(p)), each)
			}
		})
	}
}

// TestCloseBesideUse closes a store in the midst of appends and fetches: what
// was appended before is there, and no fetch passes over a message.
func TestCloseBesideUse(t *testing.T) {
	t.Parallel()
	for range 12 {
		d := crashdisk.New()
		s := openStore(t, d)
		appendMany(t, s, 200, 0)
		var wg sync.WaitGroup
		begun := make(chan struct{}, 2)
		appended := 0
		wg.Go(func() {
			for ; ; appended++ {
				if _, err := s.Append(context.Background(), msg("orders", 1, "x")); err != nil {
					require.ErrorIs(t, err, store.ErrClosed)
					return
				}
				if appended == 10 {
					begun <- struct{}{}
				}
			}
		})
		wg.Go(func() {
			for i := 0; ; i++ {
				b, err := s.Fetch(context.Background(), "orders", 0, 0, store.Limit{Messages: 200})
				if err != nil {
					require.ErrorIs(t, err, store.ErrClosed)
					return
				}
				require.EqualValues(t, b.Len(), b.Next, "messages were passed over")
				b.Release()
				if i == 3 {
					begun <- struct{}{}
				}
			}
		})
		<-begun
		<-begun
		require.NoError(t, s.Close())
		wg.Wait()
		s = openStore(t, d)
		require.Equal(t, store.CleanClose, s.Stats().Recovery.Kind)
		require.Len(t, fetchAll(t, s, "orders", 1), appended)
		require.NoError(t, s.Close())
	}
}
