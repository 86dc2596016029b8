// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"math"
	"runtime"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// plan decides where the recovery begins, from what the last owner left.
func (s *Store) plan(was past) (plan, error) {
	if s.log.Files().Len() == 0 {
		return plan{kind: NewStore, from: marks.Position{Last: -1, LastTime: -1}, trust: consumequeue.TrustOrder}, nil
	}
	if was.marked {
		p := markedPlan(was)
		if was.abort && p.kind == ProcessKilled {
			live, ok := s.marks.Live(was.state.Session)
			// After a failed flush what is in memory may be on no disk: then
			// everything since the last checkpoint is written again.
			if ok && !s.marks.Failed() {
				fit, damage, err := s.fits(live)
				if err != nil {
					return p, err
				}
				if fit {
					p.from, p.damage, p.whole = live, damage, true
					return p, nil
				}
			}
			p = powerCut(was)
			if ok && int64(live.Offset) <= s.log.Files().End() {
				p.reached = max(p.reached, live.Offset)
			}
		}
		fit, damage, err := s.fits(p.from)
		if err != nil {
			return p, err
		}
		if fit {
			p.damage = damage
			if p.kind == CleanClose && s.emptyAt(p.from.Offset) {
				// Nobody has been there since. That spares a search for records
				// behind the end, which takes long in a file of written zeros.
				p.durable = p.from.Offset
			}
			if p.durable != everything {
				return p, nil
			}
			// A broker may have been there since.
			if p.queued, err = s.queuesKnow(); p.kind == PowerCut && p.queued > p.reached {
				p.kind = ForeignClean
			}
			return p, err
		}
		s.o.Logger.Warn("the marks do not fit the log; going by RocketMQ's rule", "safe", p.from.Offset)
	}
	return s.foreignPlan(was)
}

// markedPlan goes by the marks of a Stele that had the directory before.
func markedPlan(was past) plan {
	st := was.state
	switch {
	case !was.abort && st.Clean:
		// A broker may have been there since and closed it in order: then what
		// it wrote lies behind, and counts as durable.
		return plan{kind: CleanClose, from: st.Safe, marked: true, durable: everything, flushed: st.Flushed, reached: st.Flushed, trust: consumequeue.TrustOrder}
	case !was.abort:
		// We crashed, and somebody has closed it in order since: a broker recovers
		// by its own rules, takes for whole what we call torn, and goes on behind
		// it. Or we were killed in Open, before the first change.
		p := powerCut(was)
		p.durable = everything
		return p
	case was.owner() != 0 && was.bootID != "" && was.bootID == st.BootID:
		return plan{kind: ProcessKilled, from: st.Safe, marked: true, durable: st.Flushed, flushed: st.Flushed, reached: st.Flushed, trust: consumequeue.TrustOrder}
	case was.owner() == 0:
		// A broker had it since, and crashed. It may have been a power cut, but
		// RocketMQ does not say how far it had flushed: nothing that can still
		// be read is given up.
		return plan{kind: ForeignCrash, from: st.Safe, marked: true, durable: everything, flushed: st.Safe.Offset, reached: st.Flushed, trust: consumequeue.TrustNothing}
	default:
		return powerCut(was)
	}
}

func powerCut(was past) plan {
	st := was.state
	return plan{kind: PowerCut, from: st.Safe, marked: true, durable: st.Flushed, flushed: st.Safe.Offset, reached: st.Flushed, trust: consumequeue.TrustNothing}
}

// fits reports whether the log is the one that pos speaks of: the record that
// pos ends with is there, and ends there. That record may be damaged; then it is
// not taken for the end of the log, but reported, if it can still be told which
// one it was. A file that can't be read says neither: that is an error.
func (s *Store) fits(pos marks.Position) (fit bool, damage []*commitlog.CorruptError, err error) {
	files := s.log.Files()
	if pos.Offset < s.log.Min() || int64(pos.Offset) > files.End() {
		return false, nil, nil
	}
	if pos.Last < 0 {
		return pos.Offset == s.log.Min(), nil, nil
	}
	m, err := s.recordAt(pos.Last)
	if err != nil {
		return s.fitsDamaged(pos, err)
	}
	if m.StoreTimestamp != pos.LastTime {
		return false, nil, nil
	}
	end := pos.Last + message.Offset(m.Size)
	if end == pos.Offset {
		return true, nil, nil
	}
	// Between the two lies a filler, or damage that was stepped over.
	if end > pos.Offset {
		return false, nil, nil
	}
	if f := files.Find(int64(pos.Offset)); f == nil || f.Base() == int64(pos.Offset) {
		return true, nil, nil
	}
	_, err = s.recordAt(pos.Offset)
	return err == nil, nil, nil
}

// fitsDamaged is fits for a position whose last record is damaged, or is none.
// Its header still tells which one it was, or its queue does. Zeros were cut off
// or never written: they fit nothing.
func (s *Store) fitsDamaged(pos marks.Position, cause error) (bool, []*commitlog.CorruptError, error) {
	var corrupt *commitlog.CorruptError
	switch {
	case errors.As(cause, &corrupt):
	case errors.Is(cause, commitlog.ErrExpired), errors.Is(cause, commitlog.ErrOutOfRange), errors.Is(cause, mappedfile.ErrFault):
		return false, nil, nil
	default:
		return false, nil, cause
	}
	n := min(pos.Offset-pos.Last, math.MaxInt32)
	v, err := s.log.View(pos.Last, int32(n))
	if err != nil || n < message.MinRecordSize {
		v.Release()
		return false, nil, nil
	}
	defer v.Release()
	rec := message.Record(v.Bytes())
	if allZero(rec) {
		return false, nil, nil
	}
	if (rec.PhysicalOffset() != pos.Last || rec.StoreTimestamp() != pos.LastTime) && !s.queueEndsWith(pos) {
		return false, nil, nil
	}
	return true, []*commitlog.CorruptError{corrupt}, nil
}

// queueEndsWith reports whether the queues hold what pos says, and one of them
// ends with the last record.
func (s *Store) queueEndsWith(pos marks.Position) bool {
	if s.queues.Recover(pos.Offset, consumequeue.TrustOrder, runtime.GOMAXPROCS(0)) != nil {
		return false
	}
	found, entries := false, int64(0)
	for _, q := range s.queues.Queues() {
		entries += int64(q.Max())
		e, _, ok, err := q.Last()
		found = found || err == nil && ok && e.Offset == pos.Last
	}
	return found && entries == pos.Entries
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// emptyAt reports whether nothing was ever written at off.
func (s *Store) emptyAt(off message.Offset) bool {
	v, err := s.log.View(off, message.FillerSize)
	if err != nil {
		return int64(off) == s.log.Files().End()
	}
	defer v.Release()
	_, kind, err := message.Peek(v.Bytes())
	return err == nil && kind == message.KindEmpty
}

// recordAt returns the intact record at off. Its fields are valid, its views
// are not.
func (s *Store) recordAt(off message.Offset) (message.Message, error) {
	var m message.Message
	v, err := s.log.ViewRecord(off)
	if err != nil {
		return m, err
	}
	defer v.Release()
	dec := message.Decoder{Check: message.CheckAll}
	if err = dec.Decode(v.Bytes(), &m); err != nil {
		err = &commitlog.CorruptError{Path: v.File().Path(), Offset: off, Cause: err}
	}
	m.Body, m.Properties = nil, message.Properties{}
	return m, err
}

// queueLag is how much older than RocketMQ's checkpoint entries of its queues may
// be that are on no disk, in milliseconds. The checkpoint is written every second
// and has the newest entry that was put, flushed or not; a page of entries that is
// not full is flushed once a minute (flushConsumeQueueThoroughInterval), which
// itself takes a while.
const queueLag = 120_000

// foreignPlan is RocketMQ's rule (CommitLog.java, isMappedFileMatchedRecover),
// for a directory of a broker: it begins at the start of a file.
//
// After a clean close that is the last file whose first record is in the queues
// already; after a crash the last one whose first record is older than what the
// checkpoint says was flushed, by queueLag: RocketMQ itself begins later, and may
// leave messages out of their queues. In both cases the first file if none is.
func (s *Store) foreignPlan(was past) (plan, error) {
	p := plan{kind: ForeignClean, durable: everything, trust: consumequeue.TrustNothing}
	if was.abort {
		p.kind = ForeignCrash
	}
	if was.marked {
		p.reached = was.state.Flushed
	}
	known, err := s.queuesKnow()
	if err != nil {
		return p, err
	}
	p.queued = known
	files := s.log.Files().Files()
	from := files[0].Base()
	for i := len(files) - 1; i > 0 && known > 0; i-- {
		m, err := s.recordAt(message.Offset(files[i].Base()))
		if err != nil || m.StoreTimestamp == 0 {
			continue
		}
		if was.abort && m.StoreTimestamp <= s.checkpoint.value.MinTimestamp()-queueLag || !was.abort && m.PhysicalOffset <= known {
			from = files[i].Base()
			break
		}
	}
	p.from = marks.Position{Offset: message.Offset(from), Last: -1, LastTime: -1}
	p.flushed = p.from.Offset
	return p, nil
}

// queuesKnow returns the end of the newest record that a queue names.
func (s *Store) queuesKnow() (message.Offset, error) {
	if err := s.queues.Recover(everything, consumequeue.TrustNothing, runtime.GOMAXPROCS(0)); err != nil {
		return 0, err
	}
	known := message.Offset(0)
	for _, q := range s.queues.Queues() {
		e, _, ok, err := q.Last()
		if err != nil {
			return 0, err
		}
		if ok {
			known = max(known, e.End())
		}
	}
	return known, nil
}
