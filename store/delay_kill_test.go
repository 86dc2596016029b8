// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

var (
	delayMessages = flag.Int("delay.messages", 2000, "how many delayed messages TestDelayKills appends")
	delaySpread   = flag.Duration("delay.spread", 1500*time.Millisecond, "over how long they are to be delivered")
)

// delayKillLevels are those of the child: messages with a level lie among the
// others.
const delayKillLevels = "1s 2s 3s 4s 5s 6s 7s 8s 9s"

// jobDelay opens a store and appends messages for later: from number words[2] up
// to words[3], for random times from words[4] (milliseconds since 1970) on, over
// words[5] milliseconds, one in ten with a level. It prints "up" and the time,
// "acked" and how many are acknowledged, and once everything is delivered "done"
// and the statistics.
const jobDelay = "delay"

func delayKillOptions() store.Options {
	return store.Options{FileSize: 16 << 20, Delay: store.DelayOptions{Levels: delayKillLevels}}
}

func childDelay(words []string) error {
	var from, n int
	var begin, spread int64
	if _, err := fmt.Sscan(strings.Join(words[2:], " "), &from, &n, &begin, &spread); err != nil {
		return err
	}
	s, err := store.Open(words[1], delayKillOptions())
	if err != nil {
		return err
	}
	fmt.Println("up", time.Now().UnixMilli())
	rng := rand.New(rand.NewPCG(uint64(from), 1))
	const together = 200
	for at := from; at < n; {
		msgs := make([]*message.Message, 0, together)
		for ; at < n && len(msgs) < together; at++ {
			m := msg("timers", int32(at%4), strconv.Itoa(at))
			if at%10 == 0 {
				m.Topic, m.QueueID = "levels", 0
				m.SetDelayLevel(1 + rng.IntN(max(1, min(9, int(spread/1000)))))
			} else {
				m.SetDeliverAt(time.UnixMilli(begin + rng.Int64N(spread)))
			}
			msgs = append(msgs, m)
		}
		if _, err := s.AppendBatch(context.Background(), msgs); err != nil {
			return err
		}
		fmt.Println("acked", at)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		<-tick.C
		if err := s.WaitDispatched(context.Background(), s.Stats().Appended); err != nil {
			return err
		}
		if d := s.Stats().Delay; d.Loaded && d.Timers == 0 && len(d.Pending) == 0 {
			fmt.Printf("done delivered here %d, found in the log %d, late at most %v, p99 %v\n", d.Delivered, d.Avoided, d.LateMax, d.LateP99)
			return s.Close()
		}
	}
}

// delayChild is one life of the child, as it tells it.
type delayChild struct {
	up    int64
	acked int
	done  string
}

func (c *delayChild) listen(lines *bufio.Scanner) {
	for lines.Scan() {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "up":
			c.up, _ = strconv.ParseInt(rest, 10, 64)
		case "acked":
			c.acked, _ = strconv.Atoi(rest)
		case "done":
			c.done = rest
		}
	}
}

// TestDelayKills has a process deliver messages over some time, kills it twice
// meanwhile, and counts. Nothing but that none is early depends on the time here;
// the figures are printed.
func TestDelayKills(t *testing.T) {
	t.Parallel()
	n, spread := *delayMessages, *delaySpread
	dir := t.TempDir()
	// Appending takes a moment; then a third of the time before each kill.
	begin := time.Now().Add(spread / 10)
	var lives []*delayChild
	acked := 0
	for life := range 3 {
		c, _, out := startChild(t, jobDelay, dir, strconv.Itoa(acked), strconv.Itoa(n),
			strconv.FormatInt(begin.UnixMilli(), 10), strconv.FormatInt(spread.Milliseconds(), 10))
		child := &delayChild{acked: acked}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			child.listen(bufio.NewScanner(out))
		}()
		if life < 2 {
			select {
			case <-time.After(time.Until(begin.Add(spread * time.Duration(life+1) / 3))):
				_ = c.Process.Kill()
			case <-heard:
			}
		}
		<-heard
		err := c.Wait()
		var exit *exec.ExitError
		if life == 2 || child.done != "" {
			require.NoError(t, err)
		} else {
			require.ErrorAs(t, err, &exit)
		}
		acked = child.acked
		lives = append(lives, child)
		t.Logf("life %d: up %v after the first is due, %d acknowledged; %s", life+1,
			time.UnixMilli(child.up).Sub(begin).Round(time.Millisecond), acked, child.done)
	}
	require.Equal(t, n, acked)
	checkDelayKills(t, dir, n, lives)
}

// checkDelayKills compares what waited with what was delivered.
func checkDelayKills(t *testing.T, dir string, n int, lives []*delayChild) {
	o := delayKillOptions()
	o.Delay.Off = true
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	levels, err := message.ParseDelayLevels(delayKillLevels)
	require.NoError(t, err)
	waited := map[string]*message.Message{} // by offset
	times := map[string]int{}
	bodies := map[string]bool{}
	type visit struct{ wait, got *message.Message }
	perLevel := map[int32][]visit{}
	for _, q := range s.Queues() {
		if message.IsDelayTopic(q.Topic) {
			for _, m := range fetchAll(t, s, q.Topic, q.QueueID) {
				waited[strconv.FormatInt(int64(m.PhysicalOffset), 10)] = m
			}
		}
	}
	var late []int64
	down, early := 0, 0
	for _, q := range s.Queues() {
		if message.IsDelayTopic(q.Topic) {
			continue
		}
		for _, m := range fetchAll(t, s, q.Topic, q.QueueID) {
			mark, waits := m.Properties.Get(message.PropertyDelayed)
			if !waits { // on a busy machine its time had come when it was appended
				bodies[string(m.Body)] = true
				continue
			}
			w := waited[mark]
			require.NotNil(t, w, "delivered, and never waited: %s at %d", m.Body, m.PhysicalOffset)
			require.Equal(t, string(w.Body), string(m.Body))
			bodies[string(m.Body)] = true
			times[mark]++
			var due int64
			if w.Topic == message.DelayTopic {
				due = w.StoreTimestamp + levels[w.QueueID].Milliseconds()
				perLevel[w.QueueID] = append(perLevel[w.QueueID], visit{w, m})
			} else {
				v, _ := w.Properties.Get(message.PropertyTimerDeliverMS)
				due, err = strconv.ParseInt(v, 10, 64)
				require.NoError(t, err)
			}
			if m.StoreTimestamp < due {
				early++
			}
			// Who delivered it, and was it up when the message was due?
			i := len(lives) - 1
			for i > 0 && lives[i].up > m.StoreTimestamp {
				i--
			}
			if due < lives[i].up {
				down++
				continue
			}
			late = append(late, m.StoreTimestamp-due)
		}
	}
	require.Zero(t, early, "early")
	require.Len(t, bodies, n, "each at least once")
	require.Len(t, times, len(waited), "each that waited")
	twice := 0
	for _, k := range times {
		twice += k - 1
	}
	for level, all := range perLevel {
		require.True(t, slices.IsSortedFunc(all, func(a, b visit) int { return int(a.wait.QueueOffset - b.wait.QueueOffset) }),
			"level %d is out of order", level+1)
	}
	require.Zero(t, twice, "duplicates: what a kill cut off is found in the log")
	slices.Sort(late)
	at := func(share float64) time.Duration {
		if len(late) == 0 {
			return 0
		}
		return time.Duration(late[int(share*float64(len(late)-1))]) * time.Millisecond
	}
	t.Logf("%d messages waited, %d of them with a level: each delivered, 0 early, %d twice; %d were due while no process was up",
		len(waited), len(fetchAll(t, s, "levels", 0)), twice, down)
	t.Logf("lateness while a process was up: p50 %v, p99 %v, max %v", at(0.5), at(0.99), at(1))
}
