// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// keepFiles lets only so many files of the log stay.
func keepFiles(n int64) func(*store.Options) {
	return func(o *store.Options) {
		o.Retention.Policy = retention.Policy{MaxSize: n * fileSize, FilesPerPass: -1}
		o.Retention.Manual = true
	}
}

// expirable is a disk with a store of eight log files and three queues: 0 and 1
// have messages all along, all of 2 lie in the first file.
func expirable(t testing.TB) (*crashdisk.Disk, []store.AppendResult) {
	t.Helper()
	d := crashdisk.New()
	s := openStore(t, d)
	var all []store.AppendResult
	for i := 0; s.Stats().Files < 8; i++ {
		if i < 40 {
			all = append(all, appendOne(t, s, "orders", 2, fmt.Sprint("2/", i)))
		}
		for q := range int32(2) {
			all = append(all, appendOne(t, s, "orders", q, fmt.Sprintf("%d/%d", q, i)))
		}
	}
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	require.NoError(t, s.Close())
	return d, all
}

// collect gathers what Events.Expired tells.
type collect struct {
	mu  sync.Mutex
	all []store.Expired
}

func (c *collect) add(e store.Expired) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, e)
}

func TestExpire(t *testing.T) {
	t.Parallel()
	d, all := expirable(t)
	var told collect
	s := openStore(t, d, keepFiles(3), func(o *store.Options) { o.Events.Expired = told.add })
	held, err := s.Fetch(context.Background(), "orders", 0, 0, store.Limit{Messages: 5})
	require.NoError(t, err)
	used := d.Used()

	res, err := s.Expire(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 5*fileSize, res.Min)
	require.Len(t, res.Removed, 5)
	require.Equal(t, told.all, res.Removed)
	require.Equal(t, "/store/commitlog/00000000000000000000", told.all[0].Path)
	require.Equal(t, "the log has 131072 bytes, more than 49152", told.all[0].Reason)
	require.Equal(t, retention.BySize, told.all[0].Rule)
	require.Positive(t, res.QueueFiles)
	st := s.Stats()
	require.Equal(t, res.Min, st.Min)
	require.Equal(t, 3, st.Files)
	require.EqualValues(t, 5, st.Retention.Files)
	require.EqualValues(t, 5*fileSize, st.Retention.Bytes)
	require.EqualValues(t, res.QueueFiles, st.Retention.QueueFiles)
	require.NoError(t, st.Retention.Failed)

	// What was fetched before is whole; its file has its blocks until then.
	require.EqualValues(t, fileSize, st.Retention.Held)
	i := 0
	for m, err := range held.All() {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("0/%d", i), string(m.Body))
		i++
	}
	require.Equal(t, 5, i)
	require.Equal(t, used-4*fileSize, d.Used()+int64(res.QueueFiles)*crashdisk.PageSize, "queue files have a page each")
	held.Release()
	require.Zero(t, s.Stats().Retention.Held)

	requireExpired(t, s, all, res.Min)
	again, err := s.Expire(context.Background())
	require.NoError(t, err)
	require.Empty(t, again.Removed)
	require.Zero(t, again.QueueFiles)

	// Below the minimum readers are told where to go on, waiting or not.
	lo, _, err := s.Bounds("orders", 0)
	require.NoError(t, err)
	for _, get := range []func(context.Context, string, int32, message.QueueOffset, store.Limit) (*store.Batch, error){s.Fetch, s.Follow} {
		_, err = get(context.Background(), "orders", 0, lo-1, store.Limit{})
		var out *consumequeue.OffsetError
		require.ErrorAs(t, err, &out)
		require.Equal(t, lo, out.Min)
	}
	_, err = s.Get(all[0].Offset)
	require.ErrorIs(t, err, store.ErrExpired)

	// The queue that has nothing left goes on where it was.
	require.EqualValues(t, 40, appendOne(t, s, "orders", 2, "more").QueueOffset)
}

// requireExpired requires that a store holds exactly what lies at or above min,
// and that no queue lost count.
func requireExpired(t testing.TB, s *store.Store, all []store.AppendResult, min message.Offset) {
	t.Helper()
	require.Equal(t, min, s.Stats().Min)
	lo, hi := map[int32]message.QueueOffset{}, map[int32]message.QueueOffset{}
	for _, r := range all {
		hi[r.QueueID] = r.QueueOffset + 1
		if r.Offset < min {
			lo[r.QueueID] = r.QueueOffset + 1
		}
	}
	for q := range hi {
		a, b, err := s.Bounds("orders", q)
		require.NoError(t, err)
		require.Equal(t, lo[q], a, "minimum of queue %d", q)
		require.Equal(t, hi[q], b, "maximum of queue %d", q)
		got := fetchAll(t, s, "orders", q)
		require.Len(t, got, int(b-a))
		for i, m := range got {
			require.Equal(t, fmt.Sprintf("%d/%d", q, int(a)+i), string(m.Body))
		}
	}
}

// TestExpireThenReopen: what expired stays gone, and the queue that has nothing
// left never begins anew, however the store ended.
func TestExpireThenReopen(t *testing.T) {
	t.Parallel()
	d, all := expirable(t)
	s := openStore(t, d, keepFiles(3))
	res, err := s.Expire(context.Background())
	require.NoError(t, err)
	kill, cut := d.KillClone(), d.DurableClone()
	require.NoError(t, s.Close())
	noQueues, noMarks := d.KillClone(), d.KillClone()
	removeTree(t, noQueues, "/store/consumequeue/orders/0")
	removeTree(t, noMarks, "/store/stele")
	for name, d := range map[string]*crashdisk.Disk{
		"closed": d, "killed": kill, "power cut": cut, "a queue is rebuilt": noQueues, "no marks": noMarks,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var damage []*store.Recovery
			s := openStore(t, d, func(o *store.Options) { o.Events.Recovered = func(r store.Recovery) { damage = append(damage, &r) } })
			require.Empty(t, damage[0].Damage)
			require.Equal(t, name == "a queue is rebuilt", damage[0].Rebuilt)
			requireExpired(t, s, all, res.Min)
			require.EqualValues(t, 40, appendOne(t, s, "orders", 2, "2/40").QueueOffset)
		})
	}
}

// mustBeRun requires that the names in a directory are a run without a hole of
// whole files, as RocketMQ takes it.
func mustBeRun(t testing.TB, d *crashdisk.Disk, dir string, size int64) {
	t.Helper()
	entries, err := d.List(dir)
	require.NoError(t, err)
	next := int64(-1)
	for _, e := range entries {
		base, ok := mappedfile.ParseFileName(e.Name)
		require.True(t, ok, e.Name)
		if next >= 0 {
			require.Equal(t, next, base, "a hole in %s", dir)
		}
		require.Equal(t, size, e.Size)
		next = base + size
	}
}

// TestCrashInExpire ends the life of a store at every operation of an Expire, by
// a kill and by power cuts, and opens what is left: with its marks, and as
// RocketMQ would, without.
func TestCrashInExpire(t *testing.T) {
	t.Parallel()
	disk, all := expirable(t)
	var clones []*crashdisk.Disk
	var ops []string
	s := openStore(t, disk, keepFiles(3), syncFlush)
	for range 20 { // the last checkpoint lies behind
		for queue := range int32(2) {
			next := 1 + int(all[len(all)-2].QueueOffset)
			all = append(all, appendOne(t, s, "orders", queue, fmt.Sprintf("%d/%d", queue, next)))
		}
	}
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	step := uint64(0)
	disk.Observe(func(op crashdisk.Op, p string) {
		step++
		ops = append(ops, fmt.Sprintf("%v %s", op, p))
		clones = append(clones, disk.KillClone(), disk.DurableClone(), disk.CrashClone(step))
	})
	res, err := s.Expire(context.Background())
	disk.Observe(nil)
	require.NoError(t, err)
	require.Len(t, res.Removed, 5)
	clones = append(clones, disk.KillClone(), disk.DurableClone())
	require.Greater(t, len(ops), 20)
	seen := map[message.Offset]bool{}
	for i, d := range clones {
		mustBeRun(t, d, "/store/commitlog", fileSize)
		for q := range 3 {
			mustBeRun(t, d, fmt.Sprintf("/store/consumequeue/orders/%d", q), queueFileSize)
		}
		at := "at the end"
		if i/3 < len(ops) {
			at = ops[i/3]
		}
		ways := []*crashdisk.Disk{d}
		if i%3 == 1 {
			foreign := d.KillClone()
			removeTree(t, foreign, "/store/stele")
			ways = append(ways, foreign)
		}
		for k, d := range ways {
			s, err := store.Open(root, quiet(d))
			require.NoError(t, err, at)
			st := s.Stats()
			rec := st.Recovery
			require.Empty(t, rec.Damage, at)
			require.Zero(t, rec.Lost, at)
			require.NoError(t, rec.Torn, at)
			require.False(t, rec.Rebuilt, at)
			if k == 0 {
				require.Contains(t, []store.RecoveryKind{store.PowerCut, store.ProcessKilled}, rec.Kind, "the marks hold: %s", at)
			}
			require.LessOrEqual(t, st.Min, res.Min, at)
			requireExpired(t, s, all, st.Min)
			seen[st.Min] = true
			require.NoError(t, s.Close())

			// The next one goes on where the crash came.
			s = openStore(t, d, keepFiles(3))
			_, err = s.Expire(context.Background())
			require.NoError(t, err, at)
			requireExpired(t, s, all, res.Min)
			require.NoError(t, s.Close())
			for q := range 2 {
				dir := fmt.Sprintf("/store/consumequeue/orders/%d", q)
				names, err := disk.List(dir)
				require.NoError(t, err)
				left, err := d.List(dir)
				require.NoError(t, err)
				require.Len(t, left, len(names), "files of a queue are left over: %s", at)
			}
		}
	}
	require.Len(t, seen, 6, "the log began at each of its files")
}

// TestExpireThatFails has each removal and each sync of a directory in an Expire
// fail: it is told, nothing is lost that should not be, and the next one goes on.
func TestExpireThatFails(t *testing.T) {
	t.Parallel()
	disk, all := expirable(t)
	for _, op := range []crashdisk.Op{crashdisk.OpRemove, crashdisk.OpSyncDir, crashdisk.OpOpen} {
		for after := range 12 {
			t.Run(fmt.Sprint(op, " ", after), func(t *testing.T) {
				t.Parallel()
				d := disk.KillClone()
				var told collect
				var failed error
				s := openStore(t, d, keepFiles(3), func(o *store.Options) {
					o.Events.Expired, o.Events.ExpireFailed = told.add, func(err error) { failed = err }
				})
				d.Inject(crashdisk.Fault{Op: op, After: after})
				res, err := s.Expire(context.Background())
				if d.Failed(op) == 0 {
					t.Skip("not so many of them")
				}
				d.ClearFaults()
				if op == crashdisk.OpOpen && err == nil {
					return // the age of a file was not known, which matters to no rule here
				}
				require.ErrorIs(t, err, syscall.EIO)
				require.Equal(t, err, failed)
				require.Equal(t, err, s.Stats().Retention.Failed)
				require.NoError(t, s.Err(), "no reason to poison the store")
				n := 0
				for _, e := range told.all {
					if e.Err == nil {
						n++
					}
				}
				require.Len(t, res.Removed, n)
				requireHalf(t, s, all)
				appendOne(t, s, "other", 0, "appends go on")

				// What a power cut leaves now is no less.
				cut := openStore(t, d.DurableClone())
				require.Empty(t, cut.Stats().Recovery.Damage)
				requireExpired(t, cut, all, cut.Stats().Min)

				_, err = s.Expire(context.Background())
				require.NoError(t, err)
				require.NoError(t, s.Stats().Retention.Failed)
				requireExpired(t, s, all, 5*fileSize)
				require.NoError(t, s.Close())
				mustBeRun(t, d, "/store/commitlog", fileSize)
			})
		}
	}
}

// requireHalf requires that a store in the middle of an Expire that failed
// returns what its log has, whatever its queues still say of the rest.
func requireHalf(t testing.TB, s *store.Store, all []store.AppendResult) {
	t.Helper()
	min := s.Stats().Min
	for _, r := range all {
		m, err := s.Get(r.Offset)
		if r.Offset < min {
			require.ErrorIs(t, err, store.ErrExpired)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, r.QueueOffset, m.QueueOffset)
	}
	for q := range int32(3) {
		lo, hi, err := s.Bounds("orders", q)
		require.NoError(t, err)
		want := 0
		for _, r := range all {
			if r.QueueID == q && r.Offset >= min {
				want++
			}
		}
		got := 0
		for from := lo; from < hi; {
			b, err := s.Fetch(context.Background(), "orders", q, from, store.Limit{})
			require.NoError(t, err)
			for _, err := range b.All() {
				require.NoError(t, err)
				got++
			}
			from = b.Next
			b.Release()
		}
		require.Equal(t, want, got, "queue %d", q)
	}
}

func TestExpireKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	disk, all := expirable(t)
	inFile := func(n int) store.AppendResult { // the first of queue 0 there
		for _, r := range all {
			if r.QueueID == 0 && int64(r.Offset)/fileSize == int64(n) {
				return r
			}
		}
		panic("none")
	}
	for name, c := range map[string]struct {
		groups, delayed store.Keep
		commits         map[string]message.QueueOffset // of queue 0
		undelivered     message.Offset                 // -1: none
		full            bool
		goes            int
		reason          string // of the first file that stays, or of the first that goes
	}{
		"nobody is asked": {goes: 7, undelivered: -1, commits: map[string]message.QueueOffset{"g": 0}},
		"a slow group": {
			groups: store.KeepAlways, undelivered: -1, goes: 3,
			commits: map[string]message.QueueOffset{"fast": inFile(6).QueueOffset, "slow": inFile(3).QueueOffset},
			reason:  fmt.Sprintf("needed by group slow, which is at %d of orders/0 (from offset %d on)", inFile(3).QueueOffset, inFile(3).Offset),
		},
		"a group at the end": {
			groups: store.KeepAlways, undelivered: -1, goes: 7,
			commits: map[string]message.QueueOffset{"g": 1e6},
		},
		"a slow group on a full disk": {
			groups: store.KeepUntilFull, undelivered: -1, goes: 4, full: true,
			commits: map[string]message.QueueOffset{"slow": 0},
			reason:  fmt.Sprintf("; though needed by group slow, which is at 0 of orders/0 (from offset %d on)", inFile(0).Offset),
		},
		"a slow group that is kept on a full disk too": {
			groups: store.KeepAlways, undelivered: -1, goes: 0, full: true,
			commits: map[string]message.QueueOffset{"slow": 0},
		},
		"a delayed message": {delayed: store.KeepUntilFull, undelivered: inFile(2).Offset, goes: 2},
		"a delayed message that is given up": {
			undelivered: inFile(0).Offset, goes: 7, reason: "though needed by a delayed message that is not delivered",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := disk.KillClone()
			s := openStore(t, d, func(o *store.Options) {
				o.Retention.Policy = retention.Policy{MaxSize: 1, FilesPerPass: -1, WhenFull: true, RefuseAt: -1, EnoughFree: -1}
				o.Retention.Groups, o.Retention.Delayed, o.Retention.Manual = c.groups, c.delayed, true
			})
			for g, off := range c.commits {
				require.NoError(t, s.CommitOffset(g, "orders", 0, off))
				require.NoError(t, s.CommitOffset(g, "unknown", 0, 0))
			}
			s.SetUndelivered(func() (message.Offset, bool) { return c.undelivered, c.undelivered >= 0 })
			if c.full {
				d.SetCapacity(d.Used())
			}
			res, err := s.Expire(context.Background())
			d.SetCapacity(0)
			require.NoError(t, err)
			require.Len(t, res.Removed, c.goes)
			at := res.Plan.Files[c.goes]
			if c.goes < 7 {
				require.Equal(t, retention.Needed, at.Rule)
			}
			if strings.Contains(c.reason, "though") {
				at = res.Plan.Files[0]
			}
			require.Contains(t, at.Reason, c.reason)
			require.Equal(t, strings.Contains(c.reason, "though"), len(at.Lost) > 0)
			requireExpired(t, s, all, message.Offset(c.goes*fileSize))
		})
	}
}

// TestExpireOfWhatIsNotInItsQueue: while the dispatcher stands still, for want of
// space or before a sync, no message goes that nobody could have seen.
func TestExpireOfWhatIsNotInItsQueue(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openStore(t, d, func(o *store.Options) {
		o.Retention.Policy = retention.Policy{MaxSize: 1, FilesPerPass: -1}
		o.Retention.Manual = true
	})
	appendMany(t, s, 1, 0)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, Kind: crashdisk.ConsumeQueue, Err: syscall.ENOSPC, Stays: true})
	for s.Stats().Files < 4 {
		if _, err := s.Append(context.Background(), msg("orders", 1, string(make([]byte, 3000)))); err != nil {
			require.ErrorIs(t, err, store.ErrDiskFull)
			break
		}
	}
	res, err := s.Expire(context.Background())
	require.NoError(t, err)
	require.Empty(t, res.Removed)
	d.ClearFaults()
}

// TestExpireByItself: files go at the interval once they are old enough, and at a
// new file when the log is too large, and not before.
func TestExpireByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		var told collect
		s, err := store.Open(root, func() store.Options {
			o := quiet(d)
			o.Retention.Policy = retention.Policy{MaxAge: time.Hour, MaxSize: 6 * fileSize}
			o.Events.Expired = told.add
			return o
		}())
		require.NoError(t, err)
		defer s.Close()
		fill := func(files int) {
			for s.Stats().Files < files {
				appendOne(t, s, "orders", 0, string(make([]byte, 1000)))
				synctest.Wait()
			}
		}
		fill(3)
		<-time.After(59 * time.Minute)
		require.Equal(t, 3, s.Stats().Files)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, 1, s.Stats().Files)
		require.Len(t, told.all, 2)
		require.Equal(t, retention.ByAge, told.all[0].Rule)
		for range 200 {
			appendOne(t, s, "orders", 0, string(make([]byte, 1000)))
			synctest.Wait()
			require.LessOrEqual(t, s.Stats().Files, 6)
		}
		require.Equal(t, retention.BySize, told.all[len(told.all)-1].Rule)
		require.NoError(t, s.Close())
		_, err = s.Expire(t.Context())
		require.ErrorIs(t, err, store.ErrClosed)
	})
}

// TestRefusedAboveTheRatio: above the ratio appends say so, which disk and how
// full, and reads go on; once there is room they are taken again without anybody
// doing something.
func TestRefusedAboveTheRatio(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		var told []error
		o := quiet(d)
		o.Retention.Policy.EnoughFree = -1
		o.Events.Refused = func(err error) { told = append(told, err) }
		s, err := store.Open(root, o)
		require.NoError(t, err)
		defer s.Close()
		appendOne(t, s, "orders", 0, "a")
		synctest.Wait()
		d.SetCapacity(d.Used()*100/90 + crashdisk.PageSize)
		<-time.After(store.DefaultRetentionInterval)
		synctest.Wait()
		appendOne(t, s, "orders", 0, "b")
		d.SetCapacity(d.Used() * 100 / 95)
		<-time.After(store.DefaultRetentionInterval)
		synctest.Wait()
		_, err = s.Append(t.Context(), msg("orders", 0, "c"))
		require.ErrorIs(t, err, store.ErrDiskFull)
		require.ErrorContains(t, err, "/store: 95.0 % of the disk are used, appends are refused above 90 %")
		_, err = s.AppendBatch(t.Context(), []*message.Message{msg("orders", 0, "c")})
		require.ErrorIs(t, err, store.ErrDiskFull)
		require.Equal(t, err, s.Stats().Retention.Refused)
		require.InDelta(t, 95, s.Stats().Retention.DiskUsed, 0.1)
		require.NoError(t, s.Flush(t.Context()), "a flush needs no space")
		require.Equal(t, []string{"a", "b"}, bodies(fetchAll(t, s, "orders", 0)))
		d.SetCapacity(0)
		<-time.After(time.Second)
		synctest.Wait()
		appendOne(t, s, "orders", 0, "c")
		require.Len(t, told, 2)
		require.ErrorIs(t, told[0], store.ErrDiskFull)
		require.NoError(t, told[1])
		require.NoError(t, s.Stats().Retention.Refused)
	})
}

// TestExpireEndsWithItsContext: between two files, and the next one goes on.
func TestExpireEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d, all := expirable(t)
	ctx, stop := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	var told collect
	s := openStore(t, d, keepFiles(3), func(o *store.Options) {
		o.Events.Expired = func(e store.Expired) {
			told.add(e)
			if len(told.all) == 2 {
				stop(enough)
			}
		}
	})
	res, err := s.Expire(ctx)
	require.ErrorIs(t, err, enough)
	require.Len(t, res.Removed, 2)
	require.EqualValues(t, 2*fileSize, res.Min)
	require.NoError(t, s.Stats().Retention.Failed)
	_, err = s.Expire(ctx)
	require.ErrorIs(t, err, enough)
	_, err = s.Expire(context.Background())
	require.NoError(t, err)
	requireExpired(t, s, all, 5*fileSize)
}

// TestExpireOfAPoisonedStore changes nothing: what its marks say can't be moved.
func TestExpireOfAPoisonedStore(t *testing.T) {
	t.Parallel()
	d, all := expirable(t)
	s := openStore(t, d, keepFiles(3))
	all = append(all, appendOne(t, s, "orders", 2, "2/40"))
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.ConsumeQueue})
	_, err := s.Expire(context.Background())
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, s.Err(), store.ErrPoisoned)
	_, err = s.Expire(context.Background())
	require.ErrorIs(t, err, store.ErrPoisoned)
	requireExpired(t, s, all, 0)
}

func TestRetentionOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []store.RetentionOptions{
		{Interval: -1}, {Groups: 3}, {Delayed: 3}, {Policy: retention.Policy{MaxAge: -1}},
	} {
		_, err := store.Open(root, store.Options{Disk: crashdisk.New(), Retention: o})
		require.ErrorIs(t, err, store.ErrOptions)
	}
}
