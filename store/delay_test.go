// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// delayedAt is a message for a time from now.
func delayedAt(topic string, queue int32, body string, in time.Duration) *message.Message {
	m := msg(topic, queue, body)
	m.SetDeliverAt(time.Now().Add(in))
	return m
}

func delayedBy(topic string, queue int32, body string, level int) *message.Message {
	m := msg(topic, queue, body)
	m.SetDelayLevel(level)
	return m
}

func put(t testing.TB, s *store.Store, m *message.Message) store.AppendResult {
	t.Helper()
	r, err := s.Append(context.Background(), m)
	require.NoError(t, err)
	return r
}

// pass lets time pass, and everything be done that it brings.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// in returns the bodies in queue 0 of a topic; none when there is no queue.
func in(t testing.TB, s *store.Store, topic string) []string {
	t.Helper()
	for _, q := range s.Queues() {
		if q.Topic == topic && q.QueueID == 0 {
			return bodies(fetchAll(t, s, topic, 0))
		}
	}
	return nil
}

func TestDelayedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []store.FlushMode{store.FlushAsync, store.FlushSync} {
			s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Flush = mode })
			begin := time.Now().UnixMilli()
			m := delayedBy("orders", 3, "later", 3)
			m.SetTags("red")
			m.SetKeys("k")
			m.Flag, m.ReconsumeTimes, m.BornTimestamp = 7, 2, 12345
			r := put(t, s, m)
			require.Equal(t, "orders", m.Topic, "the caller's message stays as it is")
			require.Equal(t, message.DelayTopic, r.Topic)
			require.EqualValues(t, 2, r.QueueID)
			require.Equal(t, begin+10_000, r.DeliverAt)

			at := delayedAt("orders", 3, "at a time", 1234567*time.Microsecond)
			r2 := put(t, s, at)
			require.Equal(t, message.TimerTopic, r2.Topic)
			require.Equal(t, begin+1235, r2.DeliverAt, "rounded up")
			now := put(t, s, delayedAt("orders", 3, "now", -time.Second))
			require.Equal(t, "orders", now.Topic)
			require.Zero(t, now.DeliverAt)

			pass(9_999 * time.Millisecond)
			require.Equal(t, []string{"now", "at a time"}, bodies(fetchAll(t, s, "orders", 3)))
			st := s.Stats().Delay
			require.Equal(t, map[int]int64{3: 1}, st.Pending)
			require.Equal(t, r.DeliverAt, st.NextDue)
			pass(time.Millisecond)
			all := fetchAll(t, s, "orders", 3)
			require.Equal(t, []string{"now", "at a time", "later"}, bodies(all))
			got := all[2]
			require.Equal(t, begin+10_000, got.StoreTimestamp)
			require.Equal(t, "red", got.Tags())
			require.Equal(t, []string{"k"}, got.Keys())
			require.EqualValues(t, 7, got.Flag)
			require.EqualValues(t, 2, got.ReconsumeTimes)
			require.EqualValues(t, 12345, got.BornTimestamp)
			for name, want := range map[string]string{
				message.PropertyRealTopic: "orders", message.PropertyRealQueueID: "3",
				message.PropertyDelayLevel: "3", message.PropertyDelayed: strconv.FormatInt(int64(r.Offset), 10),
			} {
				v, _ := got.Properties.Get(name)
				require.Equal(t, want, v, name)
			}
			require.EqualValues(t, 2, s.Stats().Delay.Delivered)
			require.Zero(t, s.Stats().Delay.LateMax)
			// A consumer that appends what it got sees it delayed again by its
			// level, and not by a time that it has been through.
			require.Equal(t, message.DelayTopic, put(t, s, got).Topic)
			require.Equal(t, "orders", put(t, s, all[1]).Topic)
			require.NoError(t, s.Close())
		}
	})
}

func TestDelayRefused(t *testing.T) {
	const day = 24 * 3600
	with := func(topic string, pairs ...string) *message.Message {
		m := msg(topic, 0, "x")
		for i := 0; i < len(pairs); i += 2 {
			m.Properties.Set(pairs[i], pairs[i+1])
		}
		return m
	}
	prepared := with("t", message.PropertyDelayLevel, "99")
	prepared.SysFlag = message.TransactionPrepared
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Delay.MaxTimers = 2 })
		require.NoError(t, s.PutTopic(topicmeta.Topic{Name: "declared", ReadQueues: 1, WriteQueues: 1, Perm: topicmeta.PermRead}))
		now := time.Now().UnixMilli()
		for _, c := range []struct {
			name string
			m    *message.Message
			err  error
		}{
			{"no level", with("t", message.PropertyDelayLevel, "0"), nil},
			{"highest level", with("t", message.PropertyDelayLevel, "18"), nil},
			{"unknown level", with("t", message.PropertyDelayLevel, "19"), store.ErrDelayLevel},
			{"negative level", with("t", message.PropertyDelayLevel, "-1"), store.ErrDelayLevel},
			{"level is no number", with("t", message.PropertyDelayLevel, "x"), store.ErrBadProperty},
			{"level is too large", with("t", message.PropertyDelayLevel, "2147483648"), store.ErrBadProperty},
			{"level of what is not sent yet", prepared, nil},
			{"the longest time", with("t", message.PropertyTimerDelaySec, fmt.Sprint(3*day)), nil},
			{"too long", with("t", message.PropertyTimerDelayMS, fmt.Sprint(3*day*1000+1)), store.ErrDelayTooLong},
			{"far too long", with("t", message.PropertyTimerDelaySec, "9223372036854775807"), store.ErrDelayTooLong},
			{"too far ahead", with("t", message.PropertyTimerDeliverMS, fmt.Sprint(now+3*day*1000+1)), store.ErrDelayTooLong},
			{"far too far", with("t", message.PropertyTimerDeliverMS, "9223372036854775807"), store.ErrDelayTooLong},
			{"long ago", with("t", message.PropertyTimerDeliverMS, "-9223372036854775808"), nil},
			{"before now", with("t", message.PropertyTimerDelaySec, "-1"), nil},
			{"time is no number", with("t", message.PropertyTimerDeliverMS, "tomorrow"), store.ErrBadProperty},
			{"cancels now", with("t", message.PropertyTimerDelaySec, "0", message.PropertyTimerDelUniqKey, "k"), store.ErrBadProperty},
			{"topic with a slash", with("a/b", message.PropertyDelayLevel, "1"), message.ErrTopicChars},
			{"no topic", with("", message.PropertyDelayLevel, "1"), message.ErrEmptyTopic},
			{"no permission", with("declared", message.PropertyDelayLevel, "1"), store.ErrPermission},
			{"topic that waits", with(message.TimerTopic, message.PropertyTimerDelaySec, "1"), store.ErrDelayTopic},
			{"topic of a level", with(message.DelayTopic), store.ErrDelayTopic},
			{
				"another level's queue",
				with(message.DelayTopic, message.PropertyRealTopic, "t", message.PropertyRealQueueID, "0", message.PropertyDelayLevel, "2"),
				store.ErrDelayTopic,
			},
			{"as a broker stored it", with(message.DelayTopic, message.PropertyRealTopic, "t", message.PropertyRealQueueID, "0"), nil},
			{
				"too long with what comes in",
				with("t", message.PropertyDelayLevel, "1", "x", strings.Repeat("x", message.MaxPropertiesLen-message.PropertyCRCLen-40)),
				store.ErrPropertiesTooLarge,
			},
			{
				"too large with what comes in",
				func() *message.Message {
					m := delayedBy("t", 0, "", 1)
					m.Body = make([]byte, fileSize-160)
					return m
				}(),
				store.ErrRecordTooLarge,
			},
			{"one more that waits", with("t", message.PropertyTimerDelaySec, "60"), nil},
			{"one too many", with("t", message.PropertyTimerDelaySec, "60"), store.ErrTooManyTimers},
			{"a level needs no memory", with("t", message.PropertyDelayLevel, "18"), nil},
		} {
			before := s.Stats().Appended
			r, err := s.Append(t.Context(), c.m)
			synctest.Wait()
			if c.err == nil {
				require.NoError(t, err, c.name)
				require.Equal(t, before, r.Offset, c.name)
				continue
			}
			require.ErrorIs(t, err, c.err, c.name)
			require.Equal(t, before, s.Stats().Appended, c.name)
			_, err = s.AppendBatch(t.Context(), []*message.Message{msg("t", 0, "x"), c.m})
			require.ErrorIs(t, err, c.err, c.name)
			require.Equal(t, before, s.Stats().Appended, c.name)
		}
	})
}

func TestDelayOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []store.DelayOptions{
		{Levels: "1s 2x"}, {Levels: "0s"}, {Levels: "s"}, {Levels: " "}, {Levels: "-1s"}, {Levels: "99999999999s"},
		{Levels: "2000000000d"}, {MaxDelay: -1}, {MaxTimers: -1},
	} {
		q := quiet(crashdisk.New())
		q.Delay = o
		_, err := store.Open(root, q)
		require.ErrorIs(t, err, store.ErrOptions, "%+v", o)
	}
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Delay.Levels = "7s  2m" })
		r := put(t, s, delayedBy("t", 0, "x", 1))
		require.Equal(t, r.StoreTime+7000, r.DeliverAt)
		_, err := s.Append(t.Context(), delayedBy("t", 0, "x", 3))
		require.ErrorIs(t, err, store.ErrDelayLevel)
		pass(6999 * time.Millisecond)
		require.Empty(t, in(t, s, "t"))
		pass(time.Millisecond)
		require.Equal(t, []string{"x"}, in(t, s, "t"))
	})
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Delay.Off = true })
		_, err := s.Append(t.Context(), delayedBy("t", 0, "x", 1))
		require.ErrorIs(t, err, store.ErrDelayOff)
		_, err = s.Cancel(t.Context(), "00")
		require.ErrorIs(t, err, store.ErrDelayOff)
		put(t, s, msg("t", 0, "at once"))
	})
}

// A batch may hold messages for later, which wait each in its queue.
func TestDelayedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, crashdisk.New())
		rs, err := s.AppendBatch(t.Context(), []*message.Message{
			delayedBy("t", 0, "c", 2), msg("t", 0, "a"), delayedAt("t", 0, "b", time.Second),
		})
		require.NoError(t, err)
		now := time.Now().UnixMilli()
		require.Equal(t, []int64{now + 5000, 0, now + 1000}, []int64{rs[0].DeliverAt, rs[1].DeliverAt, rs[2].DeliverAt})
		pass(5 * time.Second)
		require.Equal(t, []string{"a", "b", "c"}, in(t, s, "t"))
	})
}

// What was accepted is delivered, whatever the topic's declaration says by then.
func TestDelayedPastDeclaration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, crashdisk.New(), func(o *store.Options) { o.Topics = store.TopicsDeclared })
		_, err := s.Append(t.Context(), delayedBy("t", 0, "x", 1))
		require.ErrorIs(t, err, store.ErrNoTopic)
		topic := topicmeta.Topic{Name: "t", ReadQueues: 2, WriteQueues: 2, Perm: topicmeta.PermRead | topicmeta.PermWrite}
		require.NoError(t, s.PutTopic(topic))
		put(t, s, delayedBy("t", 1, "x", 1))
		topic.WriteQueues = 1
		require.NoError(t, s.PutTopic(topic))
		pass(time.Second)
		require.Equal(t, []string{"x"}, bodies(fetchAll(t, s, "t", 1)))
	})
}

func TestCancelMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, meta := crashdisk.New(), vfs.NewCrashableMem()
		open := func(disk *crashdisk.Disk) *store.Store {
			return openStore(t, disk, syncFlush, func(o *store.Options) { o.MetaFS = meta })
		}
		s := open(disk)
		plain := put(t, s, msg("t", 0, "plain"))
		level := put(t, s, delayedBy("t", 0, "level", 1))
		soon := put(t, s, delayedAt("t", 0, "soon", time.Second))
		late := put(t, s, delayedAt("t", 0, "late", time.Minute))
		kept := put(t, s, delayedAt("t", 0, "kept", time.Minute))
		want := func(id string, want store.CancelResult) {
			t.Helper()
			r, err := s.Cancel(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, want, r)
		}
		want(plain.ID(), store.CancelUnknown)
		want(level.ID(), store.CancelUnknown)
		want(message.FormatID(plain.StoreHost, 1<<40), store.CancelUnknown)
		want(message.FormatID(plain.StoreHost, soon.Offset+1), store.CancelUnknown)
		_, err := s.Cancel(t.Context(), "not an id")
		require.ErrorIs(t, err, message.ErrBadID)
		pass(time.Second)
		want(soon.ID(), store.CancelTooLate)
		before := s.Stats().Appended
		want(late.ID(), store.Cancelled)
		mark := s.Stats().Appended
		require.Greater(t, mark, before, "it is in the log")
		want(late.ID(), store.Cancelled)
		require.Equal(t, mark, s.Stats().Appended, "once")
		want(message.FormatID(plain.StoreHost, before), store.CancelUnknown)

		// It is there after a power cut, and after another one.
		for range 2 {
			left := disk.CrashClone(1)
			meta = meta.CrashClone(vfs.CrashCloneCfg{})
			require.NoError(t, s.Close())
			disk, s = left, open(left)
			synctest.Wait()
			require.EqualValues(t, 1, s.Stats().Delay.Timers)
			want(late.ID(), store.Cancelled)
		}
		pass(time.Minute)
		require.Equal(t, []string{"plain", "level", "soon", "kept"}, in(t, s, "t"))
		want(late.ID(), store.CancelTooLate)
		want(kept.ID(), store.CancelTooLate)
	})
}

// Records of somebody else's that make no sense are reported and passed over; the
// messages around them are delivered.
func TestDelayMalformedRecords(t *testing.T) {
	t.Parallel()
	with := func(topic string, pairs ...string) *message.Message {
		return &message.Message{Topic: topic, Body: []byte("malformed"), Properties: message.NewProperties(pairs...)}
	}
	real := []string{message.PropertyRealTopic, "t", message.PropertyRealQueueID, "0"}
	out := func(pairs ...string) []string { return append(pairs, message.PropertyTimerOutMS, "1000") }
	batch := with(message.TimerTopic, out(real...)...)
	batch.Properties.Set(message.PropertyRealQueueID, "99999999999")
	bad := []*message.Message{
		with(message.TimerTopic), with(message.TimerTopic, real...), with(message.TimerTopic, append(real, message.PropertyTimerOutMS, "x")...),
		with(message.TimerTopic, out()...), with(message.TimerTopic, out(message.PropertyRealTopic, "a/b", message.PropertyRealQueueID, "0")...),
		with(message.TimerTopic, out(message.PropertyRealTopic, message.TimerTopic, message.PropertyRealQueueID, "0")...), batch,
		with(message.TimerTopic, append(out(real...), message.PropertyCancel, "-5")...),
		with(message.DelayTopic), with(message.DelayTopic, message.PropertyDelayLevel, "1"),
		with(message.DelayTopic, message.PropertyDelayLevel, "1", message.PropertyRealTopic, message.DelayTopic, message.PropertyRealQueueID, "0"),
		with(message.DelayTopic, message.PropertyDelayLevel, "1", message.PropertyRealTopic, "t", message.PropertyRealQueueID, "x"),
	}
	synctest.Test(t, func(t *testing.T) {
		disk, meta := crashdisk.New(), vfs.NewMem()
		var reported []error
		change := func(o *store.Options) {
			o.MetaFS, o.Delay.Off = meta, true
			o.Events.Undelivered = func(_ message.Offset, reason error) { reported = append(reported, reason) }
		}
		s := openStore(t, disk, change)
		put(t, s, with(message.TimerTopic, out(real...)...))
		for _, m := range bad {
			put(t, s, m)
		}
		// The level of the queue counts, whatever the record says about one.
		for _, level := range []string{"", "0", "-3", "77"} {
			m := with(message.DelayTopic, real...)
			if m.Body = []byte("level " + level); level != "" {
				m.Properties.Set(message.PropertyDelayLevel, level)
			}
			put(t, s, m)
		}
		put(t, s, with(message.TimerTopic, out(real...)...))
		require.NoError(t, s.Close())
		s = openStore(t, disk, change, func(o *store.Options) { o.Delay.Off = false })
		pass(3 * time.Hour)
		require.Len(t, reported, len(bad))
		require.EqualValues(t, len(bad), s.Stats().Delay.Skipped)
		got := in(t, s, "t")
		require.Len(t, got, 6)
		require.ElementsMatch(t, []string{"malformed", "malformed", "level ", "level 0", "level -3", "level 77"}, got)
		require.Zero(t, s.Stats().Delay.Timers)
		require.NoError(t, s.Close())
		n := len(reported)
		s = openStore(t, disk, change, func(o *store.Options) { o.Delay.Off = false })
		pass(3 * time.Hour)
		require.Len(t, reported, n, "once")
		require.Len(t, in(t, s, "t"), 6)
	})
}

// TestVerbatim stores what wishes to wait, and what waited, as it is, and
// delivers nothing; the next opening does.
func TestVerbatim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashdisk.New()
		s := openStore(t, disk, func(o *store.Options) { o.Verbatim = true })
		waits := msg(message.DelayTopic, 0, "waits")
		waits.Properties = message.NewProperties(
			message.PropertyDelayLevel, "1", message.PropertyRealTopic, "orders", message.PropertyRealQueueID, "3")
		for _, m := range []*message.Message{
			delayedBy("orders", 3, "wish", 3), delayedAt("orders", 3, "time", time.Hour), waits, msg(message.DelayTopic, 17, "no sense"),
		} {
			r := put(t, s, m)
			require.Equal(t, m.Topic, r.Topic)
			require.Equal(t, m.QueueID, r.QueueID)
			require.Zero(t, r.DeliverAt)
		}
		pass(time.Minute)
		all := fetchAll(t, s, "orders", 3)
		require.Equal(t, []string{"wish", "time"}, bodies(all))
		require.Zero(t, all[0].BornTimestamp)
		level, ok := all[0].Properties.Get(message.PropertyDelayLevel)
		require.True(t, ok)
		require.Equal(t, "3", level)
		require.NoError(t, s.Close())

		s = openStore(t, disk)
		pass(time.Minute)
		require.Equal(t, []string{"wish", "time", "waits"}, bodies(fetchAll(t, s, "orders", 3)))
	})
}
