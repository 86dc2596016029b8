// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"math"
	"runtime"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/message"
)

// plan is where a recovery begins and what it believes.
type plan struct {
	kind RecoveryKind
	from marks.Position
	// counted says that from.Entries is what the queues must add up to.
	counted bool
	// durable is commitlog.RecoverOptions.Durable.
	durable message.Offset
	// flushed is how far the log is known to be on disk.
	flushed message.Offset
	trust   consumequeue.Trust
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
	d, found, err := s.replay(p)
	if errors.Is(err, errGap) || errors.Is(err, errCount) {
		// The queues lack something that the log has. What they say about
		// messages that the log has no more is all that is kept.
		s.o.Logger.Warn("queues do not fit the log, dispatching all of it again", "reason", err)
		s.recovery.Rebuilt = true
		p.from = marks.Position{Offset: s.log.Min(), Last: -1, LastTime: -1}
		p.flushed = min(p.flushed, p.from.Offset)
		p.counted, p.trust = false, consumequeue.TrustNothing
		d, found, err = s.replay(p)
	}
	if err != nil {
		return nil, err
	}
	return d, s.conclude(p, d, found)
}

// errCount says that the queues hold more or fewer entries than they did.
var errCount = errors.New("queues do not add up")

// replay finds the end of the log and dispatches what lies behind p.from.
func (s *Store) replay(p plan) (*dispatcher, commitlog.Recovery, error) {
	d := &dispatcher{s: s, pos: p.from}
	if err := s.queues.Recover(p.from.Offset, p.trust, runtime.GOMAXPROCS(0)); err != nil {
		return nil, commitlog.Recovery{}, err
	}
	entries := int64(0)
	for _, q := range s.queues.Queues() {
		entries += int64(q.Max())
	}
	if p.counted && entries != p.from.Entries {
		return nil, commitlog.Recovery{}, errCount
	}
	d.pos.Entries = entries
	// From the log's first byte on, a gap is in the log itself.
	strict := p.from.Offset > s.log.Min()
	found, err := s.log.Recover(commitlog.RecoverOptions{
		From: p.from.Offset, Durable: p.durable, Time: max(p.from.LastTime, 0),
		Visit: func(_ message.Record, m *message.Message) error {
			return d.record(m.PhysicalOffset, m, strict)
		},
	})
	return d, found, err
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
	// Nothing was written behind the end of a store that was closed in order
	// and not touched since.
	clean := p.kind == CleanClose && found.End == p.from.Offset && found.Stop.Kind != commitlog.StopDamaged
	if err := s.log.Start(found.End, min(p.flushed, found.End), found.LastTime, clean); err != nil {
		return err
	}
	s.report(p, found)

	s.pos = d.pos
	s.dispatched.Reset(int64(d.pos.Offset))
	s.marks.StartLive(s.session.Session, d.pos)
	// Entries that a killed process or a broker left may be in memory only.
	s.flushAllQueues = p.kind == ProcessKilled || p.kind == ForeignClean || p.kind == ForeignCrash
	if p.kind == NewStore {
		// From here on a kill finds marks, however soon it comes.
		return s.saveCheckpoint(false)
	}
	return nil
}

// report fills in what Stats and the Recovered event say.
func (s *Store) report(p plan, found commitlog.Recovery) {
	rec := &s.recovery
	rec.Kind, rec.From, rec.End = p.kind, p.from.Offset, found.End
	rec.Records, rec.Damage = found.Records, found.Damage
	if found.Stop.Kind == commitlog.StopDamaged {
		rec.Torn = found.Stop.Err
	}
	if p.durable != everything {
		rec.Lost = int64(max(0, p.durable-found.End))
	}
	for _, e := range found.Damage {
		s.damaged(e)
	}
}
