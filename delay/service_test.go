// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is queues and a log in memory.
type world struct {
	mu        sync.Mutex
	queues    map[Queue][]Item
	end       message.Offset
	delivered []delivery
	skipped   []string
	fail      func(m *message.Message) error
}

type delivery struct {
	body string
	at   time.Time
}

func newWorld() *world { return &world{queues: map[Queue][]Item{}} }

func (w *world) read(q Queue, from message.QueueOffset, visit func(Item) bool) (message.QueueOffset, error) {
	for {
		w.mu.Lock()
		all := w.queues[q]
		w.mu.Unlock()
		if int(from) >= len(all) {
			return from, nil
		}
		if !visit(all[from]) {
			return from, nil
		}
		from++
	}
}

func (w *world) deliver(m *message.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		if err := w.fail(m); err != nil {
			return err
		}
	}
	w.end++
	w.delivered = append(w.delivered, delivery{string(m.Body), time.Now()})
	return nil
}

func (w *world) put(s *Service, q Queue, due time.Time, body string) message.QueueOffset {
	m := timer(due.UnixMilli())
	m.Body, m.StoreTimestamp = []byte(body), time.Now().UnixMilli()
	w.mu.Lock()
	at := message.QueueOffset(len(w.queues[q]))
	w.end++
	m.PhysicalOffset = w.end
	w.queues[q] = append(w.queues[q], Item{At: at, Due: due.UnixMilli(), Message: m})
	w.mu.Unlock()
	if s != nil {
		s.Notify(q, due.UnixMilli())
	}
	return at
}

func (w *world) bodies() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.delivered {
		all = append(all, d.body)
	}
	return all
}

func (w *world) service(was Progress) *Service {
	levels, _ := message.ParseDelayLevels("1s 5s 1h")
	return New(Options{
		Read: w.read, Deliver: w.deliver, Levels: levels,
		End: func() message.Offset { w.mu.Lock(); defer w.mu.Unlock(); return w.end },
		Skipped: func(q Queue, at message.QueueOffset, _ message.Offset, reason error) {
			w.skipped = append(w.skipped, fmt.Sprintf("%s/%d/%d: %v", q.Topic, q.ID, at, reason))
		},
	}, was, BrokerProgress{})
}

// start runs a service until the test or stop ends it.
func start(t *testing.T, s *Service) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Load(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func after(d time.Duration) time.Time { return time.Now().Add(d) }

func levelQueue(n int32) Queue { return Queue{message.DelayTopic, n - 1} }

func TestServiceDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin := time.Now()
		w.put(nil, TimerQueue, after(3*time.Second), "t3")
		w.put(nil, TimerQueue, after(1500*time.Millisecond), "t1.5")
		w.put(nil, levelQueue(1), after(time.Second), "l1")
		s := w.service(Progress{})
		defer start(t, s)()
		synctest.Wait()
		require.Empty(t, w.bodies())
		require.Equal(t, begin.Add(time.Second).UnixMilli(), s.Stats().NextDue)
		w.put(s, levelQueue(2), after(5*time.Second), "l2")
		w.put(s, levelQueue(1), after(time.Second), "l1 again")
		w.put(s, TimerQueue, after(time.Millisecond), "t0")
		<-time.After(10 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"t0", "l1", "l1 again", "t1.5", "t3", "l2"}, w.bodies())
		for i, ms := range []int{1, 1000, 1000, 1500, 3000, 5000} {
			require.Equal(t, time.Duration(ms)*time.Millisecond, w.delivered[i].at.Sub(begin), "exactly when it is due")
		}
		st := s.Stats()
		require.EqualValues(t, 6, st.Delivered)
		require.Zero(t, st.LateMax)
		require.Zero(t, st.Timers)
		require.Zero(t, st.NextDue)
		p := s.Progress()
		require.Equal(t, map[int32]message.QueueOffset{0: 2, 1: 1, 2: 0}, p.Levels)
		require.Equal(t, TimerProgress{Low: 3, Next: 3}, p.Timers)
		require.Equal(t, w.end, p.End)
	})
}

// A level whose head waits does not look at the messages behind it, and a level
// that nobody configured is served.
func TestServiceLevelOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin := time.Now()
		s := w.service(Progress{})
		defer start(t, s)()
		w.put(s, levelQueue(1), after(time.Second), "first")
		w.put(s, levelQueue(1), after(-time.Hour), "damaged entry")
		w.put(s, levelQueue(1), after(1000*time.Hour), "another")
		w.put(s, levelQueue(7), after(-time.Hour), "unknown level")
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, w.bodies())
		<-time.After(time.Millisecond)
		synctest.Wait()
		require.ElementsMatch(t, []string{"first", "damaged entry", "another", "unknown level"}, w.bodies())
		require.Equal(t, time.Second, w.delivered[3].at.Sub(begin))
	})
}

func TestServiceRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		full := errors.New("full")
		w.fail = func(m *message.Message) error {
			if string(m.Body) == "bad" {
				return fmt.Errorf("%w: too long", ErrUndeliverable)
			}
			return full
		}
		s := w.service(Progress{})
		defer start(t, s)()
		for i := range 3 {
			w.put(s, levelQueue(1), after(time.Second), strconv.Itoa(i))
		}
		w.put(s, TimerQueue, after(time.Second), "bad")
		w.put(s, TimerQueue, after(time.Second), "good")
		<-time.After(time.Minute)
		synctest.Wait()
		require.ErrorIs(t, s.Stats().Stalled, full)
		require.Zero(t, s.Progress().Levels[0])
		w.mu.Lock()
		was := w.fail
		w.fail = func(m *message.Message) error {
			if err := was(m); !errors.Is(err, full) {
				return err
			}
			return nil
		}
		w.mu.Unlock()
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"0", "1", "2", "good"}, w.bodies())
		require.NoError(t, s.Stats().Stalled)
		require.EqualValues(t, 1, s.Stats().Skipped)
		require.Len(t, w.skipped, 1)
		require.Greater(t, s.Stats().LateMax, 59*time.Second-time.Second)
	})
}

func TestServiceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.fail = func(*message.Message) error { return ErrStopped }
		s := w.service(Progress{})
		defer start(t, s)()
		w.put(s, levelQueue(1), after(time.Second), "x")
		<-time.After(time.Hour)
		synctest.Wait()
		require.Empty(t, w.bodies())
		require.Zero(t, s.Progress().Levels[0], "it is there for the next one")
		s.Notify(levelQueue(1), 0) // nobody hears it, and nobody waits
		s.Notify(levelQueue(1), 0)
	})
}

// What is unreadable or malformed is reported and delays nobody.
func TestServiceSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		torn := errors.New("torn")
		w.queues[levelQueue(1)] = []Item{{At: 0, Err: torn}}
		w.queues[TimerQueue] = []Item{{At: 0, Err: torn}, {At: 1, Message: &message.Message{PhysicalOffset: 4711}}}
		w.put(nil, levelQueue(1), after(time.Second), "level")
		w.put(nil, TimerQueue, after(time.Second), "timer")
		s := w.service(Progress{})
		defer start(t, s)()
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"level", "timer"}, w.bodies())
		require.Len(t, w.skipped, 3)
		require.EqualValues(t, 3, s.Stats().Skipped)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := w.service(Progress{})
		defer start(t, s)()
		yes := func() (bool, error) { return true, nil }
		due := after(time.Second)
		a := Timer{due.UnixMilli(), w.put(s, TimerQueue, due, "a")}
		b := Timer{due.UnixMilli(), w.put(s, TimerQueue, due, "b")}
		c := Timer{due.UnixMilli(), w.put(s, TimerQueue, due, "c")}
		synctest.Wait()

		r, err := s.Cancel(a, yes)
		require.NoError(t, err)
		require.Equal(t, Cancelled, r)
		r, err = s.Cancel(a, func() (bool, error) { t.Error("again"); return false, nil })
		require.NoError(t, err)
		require.Equal(t, Cancelled, r)

		// While it is being written down nothing is delivered, and if that fails
		// it is.
		failed := errors.New("failed")
		r, err = s.Cancel(b, func() (bool, error) {
			<-time.After(3 * time.Second)
			synctest.Wait()
			require.Empty(t, w.bodies())
			return false, failed
		})
		require.ErrorIs(t, err, failed)
		require.Equal(t, CancelUnknown, r)
		synctest.Wait()
		require.Equal(t, []string{"b", "c"}, w.bodies())
		for _, x := range []Timer{b, c} {
			r, err = s.Cancel(x, yes)
			require.NoError(t, err)
			require.Equal(t, CancelTooLate, r)
		}
		// One that was appended and is not in the queue yet.
		due = after(time.Second)
		r, err = s.Cancel(Timer{due.UnixMilli(), 3}, yes)
		require.NoError(t, err)
		require.Equal(t, Cancelled, r)
		w.put(s, TimerQueue, due, "d")
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"b", "c"}, w.bodies())
		require.EqualValues(t, 2, s.Stats().Cancelled)
		require.Equal(t, TimerProgress{Low: 4, Next: 4}, s.Progress().Timers)
	})
}

// What Settle was told of is not delivered again, and all others are: the log may
// have lost the delivery of an earlier one.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 4 {
			w.put(nil, levelQueue(1), after(time.Second), fmt.Sprint("l", i))
			w.put(nil, TimerQueue, after(time.Second), fmt.Sprint("t", i))
		}
		s := w.service(Progress{Levels: map[int32]message.QueueOffset{0: 1}, Timers: TimerProgress{Low: 1, Next: 1}})
		require.NoError(t, s.Load(t.Context()))
		require.EqualValues(t, 3, s.Pending())
		require.True(t, s.Settle(levelQueue(1), 2))
		require.False(t, s.Settle(levelQueue(1), 2))
		require.False(t, s.Settle(levelQueue(1), 0))
		require.True(t, s.Settle(TimerQueue, 2))
		require.False(t, s.Settle(TimerQueue, 2))
		require.False(t, s.Settle(TimerQueue, 0))
		require.False(t, s.Settle(Queue{Topic: "orders"}, 9))
		defer start(t, s)()
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"l1", "l3", "t1", "t3"}, w.bodies())
		require.EqualValues(t, 2, s.Stats().Avoided)
		require.EqualValues(t, 4, s.Progress().Levels[0])
	})
}

func TestOldestDue(t *testing.T) {
	s := newWorld().service(Progress{})
	for at, due := range []int64{50, 20, 30} {
		require.NoError(t, s.timers.Add(message.QueueOffset(at), timer(due)))
	}
	_, ok := s.OldestDue(19)
	require.False(t, ok)
	at, ok := s.OldestDue(49)
	require.True(t, ok)
	require.EqualValues(t, 1, at)
}
