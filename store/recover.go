// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/message"
)

// plan is where a recovery begins and what it believes.
type plan struct {
	kind RecoveryKind
	from marks.Position
	// marked says that from comes from the marks: what they say about the
	// queues must hold.
	marked bool
	// durable is commitlog.RecoverOptions.Durable.
	durable message.Offset
	// flushed is how far the log is known to be on disk.
	flushed message.Offset
	trust   consumequeue.Trust
	// reached is how far the log once came, as far as that is known.
	reached message.Offset
	// whole and queued are commitlog.RecoverOptions'.
	whole  bool
	queued message.Offset
	// damage was met when from was looked at.
	damage []*commitlog.CorruptError
}

// everything is beyond any offset.
const everything = message.Offset(math.MaxInt64)

// recover brings log and queues in step, makes the log appendable, and returns
// the dispatcher that goes on from there.
func (s *Store) recover(was past) (*dispatcher, error) {
	p, err := s.plan(was)
	if err != nil {
		return nil, err
	}
	if !p.whole {
		// Metadata that can't be opened leave everything as it was. After a kill
		// there is nothing that this recovery would do otherwise than the next.
		if err := s.awaitMeta(); err != nil {
			return nil, errors.Join(err, s.withdraw(was))
		}
	}
	if err := s.endIndex(); err != nil {
		return nil, err
	}
	if err := s.lower(p); err != nil {
		return nil, err
	}
	d, found, err := s.replay(p)
	if errors.Is(err, consumequeue.ErrGap) || errors.Is(err, errCount) {
		// The queues lack something that the log has. What they say about
		// messages that the log has no more is all that is kept.
		s.o.Logger.Warn("queues do not fit the log, dispatching all of it again", "reason", err)
		s.rebuildBy(&p)
		if err := s.lower(p); err != nil {
			return nil, err
		}
		d, found, err = s.replay(p)
	}
	if err != nil {
		return nil, err
	}
	return d, s.conclude(p, d, found)
}

// rebuildBy makes a plan one that fills all queues from the log's first byte.
func (s *Store) rebuildBy(p *plan) {
	s.recovery.Rebuilt = true
	p.from = s.start()
	p.flushed = min(p.flushed, p.from.Offset)
	p.marked, p.trust, p.damage = false, consumequeue.TrustNothing, nil // it is met again
}

// start is the Position at the log's first byte.
func (s *Store) start() marks.Position {
	return marks.Position{Offset: s.log.Min(), Last: -1, LastTime: -1}
}

// lower takes back, before anything is changed, what the marks promise about
// queues and log if it does not hold: a crash in the middle of the recovery must
// not be recovered from by it. Without it, queues that were filled again and not
// flushed yet would count as durable.
func (s *Store) lower(p plan) error {
	if p.kind == NewStore {
		return nil // it has no queues, and marks as soon as it is open
	}
	st := s.session
	if !p.marked {
		st.Safe = s.start()
	}
	if p.durable == everything || !p.marked {
		st.Flushed = max(p.durable, st.Safe.Offset)
	}
	if st == s.session {
		return nil
	}
	s.session = st
	return s.marks.Save(st)
}

// errCount says that the queues hold more or fewer entries than they did.
var errCount = errors.New("queues do not add up")

// replay finds the end of the log and dispatches what lies behind p.from.
func (s *Store) replay(p plan) (*dispatcher, commitlog.Recovery, error) {
	d := s.newDispatcher(p.from)
	s.recovery.Kind, s.marked = p.kind, p.marked // for what is derived
	entries, err := s.recoverQueues(p)
	if err != nil {
		return nil, commitlog.Recovery{}, err
	}
	d.pos.Entries = entries
	was := s.maxima()
	if err := s.recoverDerived(p.from.Offset); err != nil {
		return nil, commitlog.Recovery{}, err
	}
	found, err := s.findEnd(p, func(m *message.Message, strict bool) error {
		return d.record(m.PhysicalOffset, m, strict)
	}, (*consumequeue.Queue).Max)
	s.recovery.Filled = s.filled(was)
	return d, found, err
}

// recoverQueues finds the ends of the queues below p.from, and returns the sum of
// their maxima. Nothing changes on disk. The error is errCount, or wraps
// consumequeue.ErrGap, when they can't be those of the log.
func (s *Store) recoverQueues(p plan) (entries int64, err error) {
	if err := s.queues.Recover(p.from.Offset, p.trust, runtime.GOMAXPROCS(0)); err != nil {
		return 0, err
	}
	for _, q := range s.queues.Queues() {
		entries += int64(q.Max())
	}
	// From the log's start on all queues are filled anew, whatever they held.
	if p.marked && p.from.Last >= 0 && entries != p.from.Entries {
		return 0, errCount
	}
	if p.from.Offset > s.log.Min() && s.queueLacksFront() {
		return 0, consumequeue.ErrGap
	}
	return entries, nil
}

// findEnd finds the end of the log, and hands each record from p.from on to visit;
// strict says that a gap before it means that its queue does not fit the log. ends
// tells where a queue ends afterwards.
func (s *Store) findEnd(p plan, visit func(m *message.Message, strict bool) error, ends func(*consumequeue.Queue) message.QueueOffset) (commitlog.Recovery, error) {
	// From the log's first byte on, a gap is in the log itself.
	strict := p.from.Offset > s.log.Min()
	found, err := s.log.Recover(commitlog.RecoverOptions{
		From: p.from.Offset, Durable: p.durable, Time: max(p.from.LastTime, 0),
		Whole: p.whole, Queued: p.queued,
		Visit: func(_ message.Record, m *message.Message) error { return visit(m, strict) },
	})
	if err == nil && p.kind == ForeignClean && strict {
		err = s.checkBehind(ends)
	}
	found.Damage = append(slices.Clip(p.damage), found.Damage...)
	return found, err
}

// checkBehind is for a broker's directory that was closed in order: there a queue
// ends in zeros. Something behind its end is an entry that was damaged, and
// there may be sound ones behind it whose records lie before what was read.
func (s *Store) checkBehind(ends func(*consumequeue.Queue) message.QueueOffset) error {
	for _, q := range s.queues.Queues() {
		more, err := q.GoesOn(ends(q))
		if err != nil {
			return err
		}
		if more {
			return fmt.Errorf("%w: topic %q, queue %d goes on behind offset %d", errCount, q.Topic(), q.ID(), ends(q))
		}
	}
	return nil
}

// queueLacksFront reports whether a queue begins behind files that can't have
// expired, since nothing of the log has. It can't be told of a queue whose
// beginning may have expired.
func (s *Store) queueLacksFront() bool {
	if s.log.Min() > 0 {
		return false
	}
	perFile := message.QueueOffset(s.queues.FileSize() / consumequeue.EntrySize)
	return slices.ContainsFunc(s.queues.Queues(), func(q *consumequeue.Queue) bool {
		// One that began in mid-file begins with blank entries.
		return q.Min() > 0 && q.Min()%perFile == 0
	})
}

// conclude cuts log and queues to what was found and lets appends begin.
func (s *Store) conclude(p plan, d *dispatcher, found commitlog.Recovery) error {
	d.pos.Offset = found.End
	if err := s.queues.Trim(p.trust, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	for _, q := range s.queues.Queues() {
		if err := q.CorrectMin(s.log.Min()); err != nil {
			return err
		}
	}
	if s.log.Files().Len() > 0 {
		// Whoever made the files may have been killed before their names were
		// durable.
		if err := s.o.Disk.SyncDir(s.log.Files().Dir()); err != nil {
			return err
		}
	}
	if err := s.log.Start(commitlog.StartOptions{
		End: found.End, Flushed: p.flushed, LastTime: found.LastTime, Clean: p.untouched(found),
		Killed: p.whole,
		// What a killed process had not flushed is as safe as it was before, and
		// nobody was told more.
		Later: p.whole && s.o.Flush == FlushAsync,
	}); err != nil {
		return err
	}
	s.report(p, found)
	if s.recovery.cut() {
		if err := s.awaitMeta(); err != nil {
			return err
		}
		if err := s.cutOffsets(); err != nil {
			return err
		}
	}

	s.pos = d.pos
	s.dispatched.Reset(int64(d.pos.Offset))
	s.marks.StartLive(s.session.Session, d.pos)
	s.marks.SetFailed(false)
	// Entries that a killed process or a broker left may be in memory only.
	s.flushAllQueues = p.kind == ProcessKilled || p.kind == ForeignClean || p.kind == ForeignCrash
	if p.kind == NewStore {
		// From here on a kill finds marks, however soon it comes.
		return s.saveCheckpoint(false)
	}
	if s.session.Flushed > found.End {
		// What stood beyond the end is gone, or was never there; what comes there
		// now is not durable yet.
		s.session.Flushed = found.End
		if err := s.marks.Save(s.session); err != nil {
			return err
		}
	}
	return s.awaitMeta()
}

// untouched reports that nothing was written behind the end of the log: the store
// was closed in order, and nobody has been there since.
func (p *plan) untouched(found commitlog.Recovery) bool {
	return p.kind == CleanClose && found.End == p.from.Offset && found.Stop.Kind != commitlog.StopDamaged
}

// report says what a recovery came upon.
func (s *Store) report(p plan, found commitlog.Recovery) {
	s.fill(p, found)
	for _, e := range found.Damage {
		s.damaged(e)
	}
}

// fill fills in what Stats and the Recovered event say.
func (s *Store) fill(p plan, found commitlog.Recovery) {
	rec := &s.recovery
	rec.Kind, rec.From, rec.End = p.kind, p.from.Offset, found.End
	rec.Records, rec.Damage = found.Records, found.Damage
	if found.Stop.Kind == commitlog.StopDamaged {
		rec.Torn = found.Stop.Err
	}
	if p.reached != everything { // a recovery of a broker's log that was cut short
		rec.Lost = int64(max(0, p.reached-found.End))
	}
}
