// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// life is a store on a machine that can crash.
type life struct {
	t      *testing.T
	on     *machine
	s      *store.Store
	change func(*store.Options)
}

func newLife(t *testing.T, change func(*store.Options)) *life {
	l := &life{t: t, on: newMachine(crashdisk.New(), newMeta()), change: change}
	l.open()
	t.Cleanup(func() { _ = l.s.Close() })
	return l
}

func (l *life) open() {
	l.s = openStore(l.t, l.on.disk, func(o *store.Options) {
		o.MetaFS = l.on.fs()
		if l.change != nil {
			l.change(o)
		}
	})
	synctest.Wait()
}

func (l *life) kill() {
	synctest.Wait()
	next := l.on.killed()
	_ = l.s.Close()
	l.on = next
	l.open()
}

func (l *life) cut(seed uint64) {
	synctest.Wait()
	next := l.on.powerCut(seed)
	_ = l.s.Close()
	l.on = next
	l.open()
}

func (l *life) closed() {
	require.NoError(l.t, l.s.Close())
	l.open()
}

// Some are due before the crash, some after it, some while nobody is there.
func fillDelays(t *testing.T, s *store.Store) (all []string) {
	for i, in := range []int{1, 30, 5, 5, 90, 2} {
		body := fmt.Sprintf("timer %d", i)
		put(t, s, delayedAt("t", 0, body, time.Duration(in)*time.Second))
		all = append(all, body)
	}
	for i, level := range []int{1, 5, 1, 2, 5, 4} {
		body := fmt.Sprintf("level %d", i)
		put(t, s, delayedBy("t", 0, body, level))
		all = append(all, body)
	}
	return all
}

// Whatever way a store ends in the middle of its deliveries, each message is
// delivered, none early; and no message twice, since what the progress lacks is
// found in the log.
func TestDelayAcrossCrashes(t *testing.T) {
	t.Parallel()
	ends := map[string]func(l *life){
		"close": (*life).closed,
		"kill":  (*life).kill,
		"cut":   func(l *life) { l.cut(7) },
		"kill, and stele is gone": func(l *life) {
			next := l.on.killed()
			_ = l.s.Close()
			removeTree(t, next.disk, root+"/stele")
			l.on = newMachine(next.disk, newMeta())
			l.open()
		},
		"close, and the queues are gone": func(l *life) {
			require.NoError(l.t, l.s.Close())
			removeTree(l.t, l.on.disk, root+"/consumequeue")
			l.open()
		},
	}
	for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
		for _, offsets := range []time.Duration{time.Second, long} {
			for name, end := range ends {
				t.Run(fmt.Sprintf("%s, %v, progress every %v", name, mode, offsets), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						l := newLife(t, func(o *store.Options) { o.Flush, o.OffsetInterval = mode, offsets })
						all := fillDelays(t, l.s)
						due := map[string]int64{}
						for _, q := range l.s.Queues() {
							for _, m := range fetchAll(t, l.s, q.Topic, q.QueueID) {
								due[string(m.Body)] = dueOf(t, m)
							}
						}
						require.NoError(t, l.s.Flush(t.Context()))
						for _, d := range []time.Duration{3 * time.Second, 3 * time.Second, 40 * time.Second, time.Second, time.Hour} {
							pass(d)
							if d == time.Hour {
								break
							}
							end(l)
							synctest.Wait()
						}
						got := fetchAll(t, l.s, "t", 0)
						require.ElementsMatch(t, all, bodies(got))
						var levels []string
						for _, m := range got {
							require.GreaterOrEqual(t, m.StoreTimestamp, due[string(m.Body)], "%s is early", m.Body)
							if strings.HasPrefix(string(m.Body), "level") {
								levels = append(levels, string(m.Body))
							}
						}
						require.Less(t, index(levels, "level 0"), index(levels, "level 2"))
						require.Less(t, index(levels, "level 1"), index(levels, "level 4"))
					})
				})
			}
		}
	}
}

func index(all []string, s string) int {
	for i, x := range all {
		if x == s {
			return i
		}
	}
	return -1
}

// dueOf is when a message that waits is to be delivered, at the earliest.
func dueOf(t *testing.T, m *message.Message) int64 {
	levels, err := message.ParseDelayLevels(message.DefaultDelayLevels)
	require.NoError(t, err)
	if m.Topic == message.DelayTopic {
		return m.StoreTimestamp + levels[m.QueueID].Milliseconds()
	}
	v, _ := m.Properties.Get(message.PropertyTimerDeliverMS)
	var ms int64
	_, err = fmt.Sscan(v, &ms)
	require.NoError(t, err)
	return ms
}

// The trap: delivered, not flushed, and the metadata synced. A power cut takes
// the delivered message, and must not leave the word that it was delivered.
func TestDelayProgressIsNotAheadOfTheLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			l := newLife(t, func(o *store.Options) { o.OffsetInterval = 100 * time.Millisecond })
			put(t, l.s, delayedBy("t", 0, "level", 1))
			put(t, l.s, delayedAt("t", 0, "timer", time.Second))
			require.NoError(t, l.s.Flush(t.Context()))
			pass(2 * time.Second)
			require.ElementsMatch(t, []string{"level", "timer"}, in(t, l.s, "t"))
			require.EqualValues(t, 2, l.s.Stats().Delay.Unsaved, "held back")
			l.cut(seed)
			require.ElementsMatch(t, []string{"level", "timer"}, in(t, l.s, "t"), "seed %d", seed)
		})
	}
}

// What a progress lacks is counted, and what it has is not looked for again.
func TestDelayDuplicatesAvoided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, func(o *store.Options) { o.Flush, o.OffsetInterval = store.FlushSync, 10*time.Second })
		for i := range 20 {
			put(t, l.s, delayedBy("t", 0, fmt.Sprint("level", i), 1))
			put(t, l.s, delayedAt("t", 0, fmt.Sprint("timer", i), time.Second))
		}
		pass(5 * time.Second)
		require.EqualValues(t, 40, l.s.Stats().Delay.Unsaved)
		// Somebody appends again what he got, to another queue.
		got := fetchAll(t, l.s, "t", 0)[0]
		got.Properties.Delete(message.PropertyDelayLevel)
		got.QueueID = 1
		put(t, l.s, got)
		l.kill()
		require.EqualValues(t, 40, l.s.Stats().Delay.Avoided)
		require.Len(t, in(t, l.s, "t"), 40)
		pass(30 * time.Second)
		require.Zero(t, l.s.Stats().Delay.Unsaved)
		l.kill()
		require.Zero(t, l.s.Stats().Delay.Avoided)
		pass(time.Minute)
		require.Len(t, in(t, l.s, "t"), 40)
	})
}

// A mark that fits nothing settles nothing: it came from another store.
func TestDelayForgedMark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, syncFlush)
		r := put(t, l.s, delayedBy("t", 0, "real", 1))
		for i, queue := range []int32{0, 1, 0, 0} {
			m := msg("t", queue, []string{"fake", "real", "fake", "fake"}[i])
			m.Properties.Set(message.PropertyDelayed, []string{fmt.Sprint(r.Offset), fmt.Sprint(r.Offset), "x", "-1"}[i])
			put(t, l.s, m)
		}
		next := l.on.killed()
		<-time.After(time.Second) // nobody is there
		l.on = next
		require.NoError(t, l.s.Close())
		l.open()
		require.Equal(t, []string{"fake", "fake", "fake", "real"}, in(t, l.s, "t"))
		require.Zero(t, l.s.Stats().Delay.Avoided)
	})
}

// A broker's files say what a broker has delivered.
func TestDelayBrokerProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, syncFlush)
		now := time.Now().UnixMilli()
		for i := range 3 {
			put(t, l.s, delayedBy("t", 0, fmt.Sprint("level", i), 1))
			put(t, l.s, delayedAt("t", 0, fmt.Sprint("timer", i), time.Duration(i+1)*time.Second))
		}
		next := l.on.killed()
		require.NoError(t, l.s.Close())
		pass(time.Minute)
		l.on = next
		check := brokerconfig.TimerCheck{Read: now + 2500, Next: 3}.Encode()
		require.NoError(t, l.on.disk.MkdirAll(root+"/config"))
		require.NoError(t, l.on.disk.WriteFile(root+"/config/timercheck", check))
		require.NoError(t, l.on.disk.WriteFile(root+"/config/delayOffset.json", []byte(`{"offsetTable":{1:2,9:5,0:7`)))
		require.NoError(t, l.on.disk.WriteFile(root+"/config/delayOffset.json.bak", []byte(`{"offsetTable":{1:2,9:5,0:7}}`)))
		l.open()
		require.ElementsMatch(t, []string{"level2", "timer2"}, in(t, l.s, "t"))
		// Level 9 has no queue: what the file says of it is beyond its end.
		put(t, l.s, delayedBy("t", 0, "level 9", 9))
		pass(time.Hour)
		require.ElementsMatch(t, []string{"level2", "timer2", "level 9"}, in(t, l.s, "t"))
	})
}

// On a full disk delivery waits, and goes on by itself; Close does not wait for
// it.
func TestDelayDiskFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, nil)
		const n = 200
		for i := range n {
			put(t, l.s, delayedBy("t", 0, fmt.Sprint(i), 1))
		}
		synctest.Wait()
		l.on.disk.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, Kind: crashdisk.CommitLog, Err: syscall.ENOSPC, Stays: true})
		l.on.disk.Inject(crashdisk.Fault{Op: crashdisk.OpCreate, Kind: crashdisk.CommitLog, Err: syscall.ENOSPC, Stays: true})
		pass(time.Minute)
		require.ErrorIs(t, l.s.Stats().Delay.Stalled, store.ErrDiskFull)
		require.Less(t, len(in(t, l.s, "t")), n)
		l.on.disk.ClearFaults()
		pass(time.Minute)
		require.NoError(t, l.s.Stats().Delay.Stalled)
		require.Len(t, in(t, l.s, "t"), n)
		require.Greater(t, l.s.Stats().Delay.LateMax, 50*time.Second)

		put(t, l.s, delayedBy("t", 0, "last", 1))
		l.on.disk.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, Kind: crashdisk.CommitLog, Err: syscall.ENOSPC, Stays: true})
		l.on.disk.Inject(crashdisk.Fault{Op: crashdisk.OpCreate, Kind: crashdisk.CommitLog, Err: syscall.ENOSPC, Stays: true})
		pass(time.Minute)
		l.on.disk.ClearFaults()
		l.closed()
		require.Len(t, in(t, l.s, "t"), n+1)
	})
}

// A poisoned store delivers nothing more; the next opening does.
func TestDelayPoisoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, syncFlush)
		put(t, l.s, delayedBy("t", 0, "x", 1))
		l.on.disk.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, Kind: crashdisk.CommitLog, Err: syscall.EIO})
		_, err := l.s.Append(t.Context(), msg("t", 1, "poison"))
		require.ErrorIs(t, err, store.ErrPoisoned)
		pass(time.Minute)
		require.Empty(t, in(t, l.s, "t"))
		require.Zero(t, l.s.Stats().Delay.Delivered)
		next := l.on.powerCut(1)
		require.Error(t, l.s.Close())
		l.on = next
		l.open()
		require.Equal(t, []string{"x"}, in(t, l.s, "t"))
	})
}

// A broker is told at once what was delivered, or it delivers that again.
func TestExportRightAfterDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, nil) // no checkpoint comes in its time
		put(t, l.s, delayedBy("t", 0, "level", 1))
		put(t, l.s, delayedAt("t", 0, "time", time.Second))
		pass(time.Second)
		require.Len(t, in(t, l.s, "t"), 2)
		dir := t.TempDir()
		require.NoError(t, l.s.ExportConfig(dir))
		levels, _, err := brokerconfig.ReadDelayOffsets(dir)
		require.NoError(t, err)
		require.EqualValues(t, 1, levels.Table[1])
		c, _, err := brokerconfig.ReadTimerCheck(dir)
		require.NoError(t, err)
		require.EqualValues(t, 1, c.Next)
	})
}

// What a broker is told about timers, and what Stele makes of it itself.
func TestDelayExport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, func(o *store.Options) { o.Flush, o.OffsetInterval = store.FlushSync, time.Second })
		dir := t.TempDir()
		export := func() (c brokerconfig.TimerCheck, ok bool) {
			require.NoError(t, l.s.ExportConfig(dir))
			c, ok, err := brokerconfig.ReadTimerCheck(dir)
			require.NoError(t, err)
			return c, ok
		}
		_, ok := export()
		require.False(t, ok, "nothing ever waited")
		begin := time.Now().UnixMilli()
		for _, in := range []time.Duration{time.Second, time.Minute, 2 * time.Second, 3 * time.Second} {
			put(t, l.s, delayedAt("t", 0, in.String(), in))
		}
		pass(10 * time.Second)
		c, ok := export()
		require.True(t, ok)
		require.Equal(t, brokerconfig.TimerCheck{Read: begin + 10_000, Next: 1, MasterNext: 1, Timestamp: begin + 10_000, Counter: 1}, c)
		pass(80 * time.Second)
		c, _ = export()
		require.Equal(t, brokerconfig.TimerCheck{Read: begin + 90_000, Next: 4, MasterNext: 4, Timestamp: begin + 90_000, Counter: 2}, c)

		// A broker's own index goes on from where it is.
		require.NoError(t, l.on.disk.MkdirAll(root+"/timerlog"))
		require.NoError(t, brokerconfig.WriteTimerCheck(dir, brokerconfig.TimerCheck{Read: 5, LogFlushed: 52, Next: 2, MasterNext: 3}))
		c, _ = export()
		require.Equal(t, brokerconfig.TimerCheck{Read: begin + 90_000, LogFlushed: 52, Next: 2, MasterNext: 3, Timestamp: begin + 90_000, Counter: 1}, c)
		// One that has taken over more is further.
		further := brokerconfig.TimerCheck{Read: 5, LogFlushed: 52, Next: 5, MasterNext: 5}
		require.NoError(t, brokerconfig.WriteTimerCheck(dir, further))
		c, _ = export()
		require.Equal(t, further, c)
	})
}
