// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/topicmeta"
)

// delayProgress returns how far delayed delivery has come: what the metadata
// says, or a broker's files where they are further, since what either of them has
// delivered is delivered.
func (s *Store) delayProgress() (delay.Progress, error) {
	p := delay.Progress{Levels: map[int32]message.QueueOffset{}}
	levels, err := s.meta.DelayOffsets()
	if err != nil {
		return p, metaError(err)
	}
	for level, next := range levels {
		p.Levels[int32(level)-1] = next
	}
	for level, next := range s.brokerLevels() {
		if level > 0 && message.QueueOffset(next) > p.Levels[level-1] {
			p.Levels[level-1] = message.QueueOffset(next)
		}
	}
	for id, next := range p.Levels {
		// Beyond the end, the log has lost what the progress speaks of.
		end := message.QueueOffset(0)
		if q := s.queues.Get(message.DelayTopic, id); q != nil {
			end = q.Max()
		}
		p.Levels[id] = min(next, end)
	}
	t, _, err := s.meta.Timers()
	if err != nil {
		return p, metaError(err)
	}
	end := message.QueueOffset(0)
	if q := s.queues.Get(message.TimerTopic, 0); q != nil {
		end = q.Max()
	}
	p.Timers = delay.TimerProgress{Low: min(t.Low, end), Next: min(t.Next, end), Due: t.Due, At: t.At}
	p.End = min(t.End, s.log.Appended())
	return p, nil
}

// brokerLevels reads config/delayOffset.json, or the copy of its predecessor. A
// file that can't be read is as good as none: messages come twice then.
func (s *Store) brokerLevels() map[int32]int64 {
	for _, ext := range []string{"", ".bak"} {
		text, err := s.o.Disk.ReadFile(filepath.Join(s.path(layout.Config), brokerconfig.DelayOffsetsFile+ext))
		if err != nil {
			continue
		}
		o, err := brokerconfig.DecodeDelayOffsets(text)
		if err == nil {
			return o.Table
		}
		s.o.Logger.Warn("a broker's progress of delayed messages is not read", "error", err)
	}
	return nil
}

// brokerTimers reads a broker's progress with the timer queue. A file that can't
// be read is as good as none.
func (s *Store) brokerTimers() delay.BrokerProgress {
	b, err := s.o.Disk.ReadFile(filepath.Join(s.path(layout.Config), brokerconfig.TimerCheckFile))
	if err != nil {
		return delay.BrokerProgress{}
	}
	return delay.ReadTimerCheck(b)
}

// findDelivered settles what was delivered before the last crash and is not in
// the progress: it stands in the log behind from, where the progress ends, and
// before to, with a mark of where it waited. There is nothing to find before the
// first record that may have been delivered.
func (s *Store) findDelivered(ctx context.Context, d *delayed, from, to message.Offset) error {
	first, err := s.firstOverdue(d)
	if err != nil {
		return err
	}
	from = max(from, first, s.log.Min())
	if from >= to {
		return nil
	}
	s.o.Logger.Info("looking for delayed messages that were delivered", "from", from, "to", to)
	sc := s.log.Scan(from, to, commitlog.ScanOptions{Resync: commitlog.ResyncAlways})
	defer sc.Close()
	err = mappedfile.Guard(func() error {
		for sc.Next() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if it := sc.Item(); it.Kind == commitlog.ItemRecord {
				s.settleDelivered(d, it.Message)
			}
		}
		return nil
	})
	if st := sc.Stop(); err == nil && st.Kind == commitlog.StopError {
		err = fmt.Errorf("looking for delayed messages from offset %d: %w", st.Offset, st.Err)
	}
	return err
}

// firstOverdue returns the offset in the log of the first message that waits and
// was due when the log ended. Nothing is delivered before it is due, so the time
// of the last record bounds what may have been.
func (s *Store) firstOverdue(d *delayed) (message.Offset, error) {
	first := message.Offset(math.MaxInt64)
	look := func(q delay.Queue, from message.QueueOffset) error {
		_, err := s.readDelayed(q, from, func(it delay.Item) bool {
			if it.Message == nil {
				return true
			}
			first = min(first, it.Message.PhysicalOffset)
			return false
		})
		return err
	}
	var errs []error
	for id, next := range d.Stats().Levels {
		errs = append(errs, look(delay.Queue{Topic: message.DelayTopic, ID: id}, next))
	}
	if at, ok := d.OldestDue(s.log.LastTime()); ok {
		errs = append(errs, look(delay.TimerQueue, at))
	}
	return first, errors.Join(errs...)
}

// settleDelivered settles the message that a record of the log is a delivery of,
// if it is one: the mark alone is not believed, since whoever has read a message
// may append it again, to another store too.
func (s *Store) settleDelivered(d *delayed, m *message.Message) {
	v, ok := m.Properties.Lookup(message.PropertyDelayed)
	if !ok {
		return
	}
	off, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || message.Offset(off) >= m.PhysicalOffset {
		return
	}
	was, err := s.Get(message.Offset(off))
	if err != nil || !message.IsDelayTopic(was.Topic) {
		return
	}
	topic, queue, err := delay.Target(was)
	if err == nil && topic == m.Topic && queue == m.QueueID &&
		was.BodyCRC == m.BodyCRC && was.BornTimestamp == m.BornTimestamp {
		d.Settle(delay.Queue{Topic: was.Topic, ID: was.QueueID}, was.QueueOffset)
	}
}

// refreshAfter is by how much the log grows before a progress that has not
// changed is taken again: what lies behind its end is read after a crash.
const refreshAfter = 64 << 20

// keepDelayProgress takes a progress over into the metadata, once everything
// that it speaks of is on disk: a power cut must not take a message that it says
// is delivered. The checkpointer calls it, and Close.
func (s *Store) keepDelayProgress() error {
	d := s.delayed.Load()
	if d == nil {
		return nil
	}
	d.keeping.Lock()
	defer d.keeping.Unlock()
	if d.candidate == nil {
		p := d.Progress()
		d.candidate = &p
		if s.log.Appended()-p.End > refreshAfter {
			d.Refresh()
		}
	}
	if s.log.Flushed() < d.candidate.End {
		return nil
	}
	p := *d.candidate
	next := d.Progress()
	d.candidate = &next
	return s.setDelayProgress(d, p)
}

// keepLatestDelay takes the present progress over into the metadata, and flushes
// the log for that.
func (s *Store) keepLatestDelay(d *delayed) error {
	p := d.Progress()
	if err := s.log.WaitFlushed(context.Background(), p.End, 0); err != nil {
		return err
	}
	d.keeping.Lock()
	defer d.keeping.Unlock()
	d.candidate = nil // an older one must not come after it
	return s.setDelayProgress(d, p)
}

func (s *Store) setDelayProgress(d *delayed, p delay.Progress) error {
	levels := make(map[int]message.QueueOffset, len(p.Levels))
	for id, next := range p.Levels {
		levels[int(id)+1] = next
	}
	t := topicmeta.TimerProgress{Low: p.Timers.Low, Next: p.Timers.Next, Due: p.Timers.Due, At: p.Timers.At, End: p.End}
	if err := s.meta.SetDelays(levels, t); err != nil {
		return metaError(err)
	}
	d.saved.Store(p.Delivered)
	return nil
}

// firstUndelivered returns the offset in the log of the first message that waits;
// ok is false when none does.
func (s *Store) firstUndelivered() (off message.Offset, ok bool) {
	off = math.MaxInt64
	for q, next := range s.delayed.Load().Waiting() {
		cq := s.queues.Get(q.Topic, q.ID)
		if cq == nil {
			continue
		}
		for at := max(next, cq.Min()); at < cq.Max(); at++ {
			if e, err := cq.EntryAt(at); err == nil && e.Valid() {
				off, ok = min(off, e.Offset), true
				break
			}
		}
	}
	return off, ok
}

// timerLogDir is where a broker indexes the timer queue.
const timerLogDir = "timerlog"

// exportTimers writes how far the timer queue has come into config/timercheck of a
// broker, which otherwise delivers all of it again. What a broker's own index has
// taken over stays so: from that it goes on, and skips what is due before Read.
func (s *Store) exportTimers(dir string) error {
	t, ok, err := s.meta.Timers()
	if err != nil || !ok || t.Next == 0 {
		return metaError(err)
	}
	old, _, err := brokerconfig.ReadTimerCheck(dir)
	if err != nil && !errors.Is(err, brokerconfig.ErrMalformed) {
		return err
	}
	if old.Next > int64(t.Next) {
		return nil // a broker was here since, and is further
	}
	now := s.o.Clock().UnixMilli()
	read := now
	if t.Low < t.Next {
		read = min(now, t.Due)
	}
	c := old
	c.Read = max(c.Read, read)
	if _, err := s.o.Disk.List(s.path(timerLogDir)); errors.Is(err, fs.ErrNotExist) {
		c.LogFlushed, c.Next, c.MasterNext = 0, int64(t.Low), int64(t.Low)
	}
	c.Timestamp, c.Counter = now, c.Counter+1
	return brokerconfig.WriteTimerCheck(dir, c)
}
