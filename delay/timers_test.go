// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

// timer is a record of the timer queue.
func timer(due int64, pairs ...string) *message.Message {
	m := &message.Message{Topic: message.TimerTopic}
	m.Properties.Set(message.PropertyTimerOutMS, strconv.FormatInt(due, 10))
	m.Properties.Set(message.PropertyRealTopic, "orders")
	m.Properties.Set(message.PropertyRealQueueID, "2")
	for i := 0; i < len(pairs); i += 2 {
		m.Properties.Set(pairs[i], pairs[i+1])
	}
	return m
}

func cancelling(due int64, victim string) *message.Message {
	return timer(due, message.PropertyTimerDelUniqKey, "k", message.PropertyCancel, victim)
}

// drain delivers everything up to a time and returns the queue offsets.
func drain(x *Timers, upTo int64) (all []message.QueueOffset) {
	for top, ok := x.Top(); ok && top.Due <= upTo; top, ok = x.Top() {
		all = append(all, top.At)
		x.Delivered(top)
	}
	return all
}

func TestTimersOrder(t *testing.T) {
	x := NewTimers(TimerProgress{}, BrokerProgress{})
	for at, due := range []int64{50, 10, 30, 10, 20, 30} {
		require.NoError(t, x.Add(message.QueueOffset(at), timer(due)))
	}
	require.EqualValues(t, 6, x.Pending())
	require.Equal(t, []message.QueueOffset{1, 3, 4}, drain(x, 29))
	p, ok := x.Progress()
	require.True(t, ok)
	require.Equal(t, TimerProgress{Low: 0, Next: 6, Due: 30, At: 2}, p)
	require.Equal(t, []message.QueueOffset{2, 5, 0}, drain(x, 99))
	require.Zero(t, x.Pending())
	p, ok = x.Progress()
	require.True(t, ok)
	require.Equal(t, TimerProgress{Low: 6, Next: 6}, p)
}

// After a restart from any progress exactly those wait that had not been
// delivered, whatever was cancelled, malformed, or came in late.
func TestTimersRestart(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var log []*message.Message
		x := NewTimers(TimerProgress{}, BrokerProgress{})
		settled := map[message.QueueOffset]bool{}
		for range 60 {
			now := int64(len(log)) * 3
			at := message.QueueOffset(len(log))
			m := timer(max(1, now-20+rng.Int64N(150)))
			switch {
			case rng.IntN(8) == 0 && at > 0:
				victim := rng.Int64N(int64(at))
				m = cancelling(1000, strconv.FormatInt(victim, 10))
				settled[at], settled[message.QueueOffset(victim)] = true, true
			case rng.IntN(10) == 0:
				m.Properties.Delete(message.PropertyRealTopic)
				settled[at] = true
			}
			log = append(log, m)
			_ = x.Add(at, m)
			if rng.IntN(2) == 0 {
				for _, at := range drain(x, now) {
					settled[at] = true
				}
			}
			if rng.IntN(4) > 0 {
				continue
			}
			p, ok := x.Progress()
			if !ok {
				continue
			}
			require.LessOrEqual(t, p.Low, p.Next)
			y := NewTimers(p, BrokerProgress{})
			for i := p.Low; i < message.QueueOffset(len(log)); i++ {
				_ = y.Add(i, log[i])
			}
			require.Equal(t, x.Pending(), y.Pending(), "seed %d", seed)
			for i := range log {
				require.Equal(t, settled[message.QueueOffset(i)], y.Settled(message.QueueOffset(i)), "seed %d, %d of %d, %+v", seed, i, len(log), p)
			}
			if rng.IntN(3) == 0 {
				x = y // the process was killed
			}
		}
	}
}

func TestTimersMalformed(t *testing.T) {
	without := func(name string) *message.Message {
		m := timer(10)
		m.Properties.Delete(name)
		return m
	}
	batch := timer(10)
	batch.SysFlag = message.InnerBatch
	for name, c := range map[string]struct {
		m   *message.Message
		err error
	}{
		"no time":                 {without(message.PropertyTimerOutMS), errNoTime},
		"time is no number":       {timer(10, message.PropertyTimerOutMS, "soon"), errNoTime},
		"time is negative":        {timer(-1), errNoTime},
		"time is too large":       {timer(10, message.PropertyTimerOutMS, "99999999999999999999"), errNoTime},
		"no topic":                {without(message.PropertyRealTopic), errNoTarget},
		"topic leads elsewhere":   {timer(10, message.PropertyRealTopic, "../x"), errNoTarget},
		"topic waits itself":      {timer(10, message.PropertyRealTopic, message.TimerTopic), errLoop},
		"topic is a level's":      {timer(10, message.PropertyRealTopic, message.DelayTopic), errLoop},
		"half transactions":       {timer(10, message.PropertyRealTopic, halfTopic), errHalf},
		"no queue":                {without(message.PropertyRealQueueID), errNoTarget},
		"queue is no number":      {timer(10, message.PropertyRealQueueID, "x"), errNoTarget},
		"queue is negative":       {timer(10, message.PropertyRealQueueID, "-1"), errNoTarget},
		"queue is too large":      {timer(10, message.PropertyRealQueueID, "65536"), errNoTarget},
		"inner batch":             {batch, errBatch},
		"cancels nothing":         {cancelling(10, "x"), errCancel},
		"cancels what comes":      {cancelling(10, "7"), errCancel},
		"cancels below the queue": {cancelling(10, "-1"), errCancel},
	} {
		t.Run(name, func(t *testing.T) {
			x := NewTimers(TimerProgress{}, BrokerProgress{})
			require.NoError(t, x.Add(0, timer(20)))
			require.ErrorIs(t, x.Add(1, c.m), c.err)
			require.NoError(t, x.Add(2, timer(5)))
			require.Equal(t, []message.QueueOffset{2, 0}, drain(x, 99), "the others go on")
			require.Zero(t, x.Pending())
		})
	}
}

// A broker's cancellation counts for messages of its topic and key at its time,
// on either side of it, and its own second record of a message for the first.
func TestTimersStruck(t *testing.T) {
	key := func(k string) []string { return []string{message.PropertyUniqKey, k} }
	x := NewTimers(TimerProgress{}, BrokerProgress{})
	all := []*message.Message{
		timer(10, key("a")...), timer(10, key("b")...),
		timer(10, message.PropertyTimerDelUniqKey, "a"),
		timer(10, key("a")...), timer(20, key("a")...), timer(10),
		timer(30, key("r")...), timer(30, append(key("r"), message.PropertyTimerRollTimes, "1")...),
	}
	for at, m := range all {
		require.NoError(t, x.Add(message.QueueOffset(at), m))
	}
	var delivered []message.QueueOffset
	for top, ok := x.Top(); ok; top, ok = x.Top() {
		if !x.Struck(top, all[top.At]) {
			delivered = append(delivered, top.At)
		}
		x.Delivered(top)
		_, _ = x.Progress()
	}
	require.Equal(t, []message.QueueOffset{1, 5, 4, 7}, delivered)
	require.Empty(t, x.strikes)
}

func TestTimersBroker(t *testing.T) {
	x := NewTimers(TimerProgress{}, BrokerProgress{Next: 3, Read: 20})
	for at, due := range []int64{10, 20, 30, 10} {
		require.NoError(t, x.Add(message.QueueOffset(at), timer(due)))
	}
	require.Equal(t, []message.QueueOffset{3, 1, 2}, drain(x, 99))
}

// A queue need not begin at 0, and a bit set is no longer than what waits.
func TestTimersFar(t *testing.T) {
	x := NewTimers(TimerProgress{}, BrokerProgress{})
	const far = 1 << 40
	require.NoError(t, x.Add(far, timer(10)))
	require.NoError(t, x.Add(far+100, timer(20)))
	require.Less(t, words(x), 10)
	require.Equal(t, []message.QueueOffset{far, far + 100}, drain(x, 99))
	p, ok := x.Progress()
	require.True(t, ok)
	require.EqualValues(t, far+101, p.Low)
	for i := range message.QueueOffset(1 << 16) {
		require.NoError(t, x.Add(far+101+i, timer(int64(i)+100)))
	}
	require.Len(t, drain(x, 1<<20), 1<<16)
	_, _ = x.Progress()
	require.Less(t, words(x), 100)
	require.LessOrEqual(t, cap(x.heap.all), 2*keepTimers)
}

// words is how many words of bits an index keeps.
func words(x *Timers) (n int) {
	for _, p := range x.done.parts {
		n += cap(p.words)
	}
	return n
}

// Nor need it go on where it ended: a stretch that holds nothing costs nothing,
// whatever waits before it.
func TestTimersFarBehindWhatWaits(t *testing.T) {
	const far = 1 << 40
	for _, first := range []message.QueueOffset{1, 63, 64, 65, 130} {
		for _, settled := range []message.QueueOffset{-1, 0, first - 1, far - 5, far, far + 3, 2 * far} {
			x := NewTimers(TimerProgress{}, BrokerProgress{})
			want := []message.QueueOffset{}
			add := func(at message.QueueOffset) {
				require.NoError(t, x.Add(at, timer(int64(at)+10)))
				if at != settled {
					want = append(want, at)
				}
			}
			for at := range first {
				add(at)
			}
			if settled >= 0 {
				require.True(t, x.Settle(settled))
				require.False(t, x.Settle(settled))
			}
			for _, at := range []message.QueueOffset{far - 5, far, far + 1, far + 3, 2 * far} {
				add(at)
			}
			require.EqualValues(t, len(want), x.Pending())
			require.Less(t, words(x), 100)
			require.True(t, x.Settled(first))
			require.True(t, x.Settled(far-6))
			require.False(t, x.Settled(2*far+1))
			require.Equal(t, want, drain(x, 3*far), "%d, then far, %d settled", first, settled)
			require.Zero(t, x.Pending())
			require.EqualValues(t, 2*far+1, x.Low())
			require.Len(t, x.done.parts, 1)
			require.Empty(t, x.early)
		}
	}
}

func TestLateness(t *testing.T) {
	var l lateness
	require.Zero(t, l.quantile(0.99))
	rng := rand.New(rand.NewPCG(1, 1))
	var all []int64
	for range 10000 {
		ms := rng.Int64N(1 << rng.IntN(40))
		all = append(all, ms)
		l.add(ms)
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.99, 1} {
		want := all[int(q*10000)-1]
		got := l.quantile(q).Milliseconds()
		require.GreaterOrEqual(t, got, want)
		require.LessOrEqual(t, got, want+want/8+1)
	}
	l.add(-5)
	l.add(1<<63 - 1)
}

// FuzzTimers: no property block of a record makes the index panic, wait for ever
// below what it has settled, or lose count.
func FuzzTimers(f *testing.F) {
	for _, m := range []*message.Message{timer(10), cancelling(10, "0"), timer(5, message.PropertyTimerRollTimes, "1", message.PropertyUniqKey, "k")} {
		f.Add(m.Properties.Encoded(), []byte("3"), int64(3))
	}
	f.Add([]byte("TIMER_OUT_MS\x01x"), []byte{}, int64(1<<62))
	f.Add([]byte("0"), []byte{}, int64(1<<62-46)) // 2^40-46, behind one that waits
	f.Fuzz(func(t *testing.T, block, more []byte, at int64) {
		x := NewTimers(TimerProgress{}, ReadTimerCheck(more))
		first := timer(7)
		_ = x.Add(0, first)
		m := &message.Message{Topic: message.TimerTopic, Properties: message.PropertiesFromEncoded(block)}
		_ = x.Add(message.QueueOffset(max(1, at%(1<<40))), m)
		_ = x.Add(x.Next(), timer(9))
		p, _ := x.Progress()
		require.GreaterOrEqual(t, p.Low, message.QueueOffset(0))
		require.LessOrEqual(t, p.Low, p.Next)
		n := x.Pending()
		for top, ok := x.Top(); ok; top, ok = x.Top() {
			require.Positive(t, top.Due)
			_ = x.Struck(top, m)
			x.Delivered(top)
			n--
		}
		require.Zero(t, n)
		require.Zero(t, x.Pending())
	})
}
