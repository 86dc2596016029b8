// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Forecast is what Open would do to a directory.
type Forecast struct {
	// Recovery is as after Open, without Offsets and Took. Unfinished files would be
	// removed.
	Recovery
	// Cuts are files of the log that would lose something behind Recovery.End, or
	// be removed.
	Cuts []Cut
	// Losses is how many Losses were reported that are not of LossStale.
	Losses int64
}

// Cut is a file of the log that ends behind the end of the log.
type Cut struct {
	Path string
	// At is where the cut begins, in the log.
	At message.Offset
	// Bytes is how many bytes from there on are not all zeros, to the last one that
	// is none.
	Bytes int64
	// Removed says that the whole file goes; otherwise what is behind At becomes
	// zeros.
	Removed bool

	from int64 // At in the file
}

// LossKind says what would be lost.
type LossKind string

const (
	// LossMessage is an intact record behind the end of the log.
	LossMessage LossKind = "message"
	// LossTorn is bytes behind the end that are no intact record.
	LossTorn LossKind = "torn"
	// LossStale is an intact record behind the end that is older than the newest
	// one before it: RocketMQ leaves such when it cuts a log. It was given up
	// already.
	LossStale LossKind = "stale"
	// LossMissing is a message that a queue knows, and of which the log has
	// nothing that could be read.
	LossMissing LossKind = "missing"
	// LossDamage is a stretch of the log that can't be read. Open steps over it and
	// leaves it as it is: what was there is lost already.
	LossDamage LossKind = "damage"
)

// Loss is a message, or what is left of one, that an opened store would not have.
type Loss struct {
	Kind   LossKind
	Path   string // the file of the log; "" when there is none
	Offset message.Offset
	Size   int64 // bytes
	// Topic, Queue and QueueOffset are set if Queued. Of a record that is not
	// intact they are what its header says.
	Queued      bool
	Topic       string
	Queue       int32
	QueueOffset message.QueueOffset
	StoreTime   int64 // milliseconds since the Unix epoch; 0 when not known
	// Err is why it is lost, if there is more to say.
	Err error
}

// Foreseeing says who is told of what Foresee and Recover come upon. Each may be
// nil, and is called on the caller's goroutine.
type Foreseeing struct {
	// Loss is told of each Loss: what is behind the end in the order of the log,
	// then what queues know. Its error ends the look, and is returned.
	Loss func(Loss) error
	// Progress is told how many bytes of how many of the log were read.
	Progress func(done, total int64)
}

// Foresee finds out what Open would do to the directory, and changes nothing. It
// takes no lock; the error is a mappedfile.LockedError when somebody has the store
// open, or what Open would return, or the cause of ctx. Memory does not grow with
// the log, but with the number of queues and of damaged places.
//
// Metadata is not looked at: whether an offset that a group committed would be set
// back, Open says.
func Foresee(ctx context.Context, dir string, o Options, f Foreseeing) (*Forecast, error) {
	o.MustExist = true
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, err := checkDir(dir, &o); err != nil {
		return nil, err
	}
	lock := filepath.Join(dir, layout.Lock)
	if pid, locked, err := mappedfile.LockHolder(lock); err != nil || locked {
		if err == nil {
			err = &mappedfile.LockedError{Path: lock, PID: pid}
		}
		return nil, err
	}
	return foresee(ctx, dir, o, f)
}

// Recover opens the store in dir, which recovers it, and closes it again. Under the
// store's lock, and before anything is changed, it does what Foresee does and hands
// the result to before, which may keep what would be cut (Forecast.SaveCuts). An
// error of before leaves all as it is, and is returned. No delayed message is
// delivered meanwhile.
func Recover(ctx context.Context, dir string, o Options, f Foreseeing, before func(*Forecast) error) (rec Recovery, err error) {
	o.MustExist, o.Delay.Off = true, true
	s, err := openStore(dir, o, func(s *Store) error {
		fc, err := foresee(ctx, dir, s.o, f)
		if err != nil {
			return err
		}
		return before(fc)
	})
	if err != nil {
		return rec, err
	}
	return s.recovery, s.Close()
}

// foresight is a Store that is open for reading alone, and what a recovery would
// make of its queues.
type foresight struct {
	ctx context.Context
	Foreseeing
	s     *Store
	fc    Forecast
	total int64
	ends  map[queueName]*queueEnd
	told  map[message.Offset]bool // torn records that were told apart
}

type queueName struct {
	topic string
	id    int32
}

// queueEnd is where a queue ends.
type queueEnd struct {
	was, max message.QueueOffset
	end      message.Offset // of the last record that it names
	empty    bool
}

func foresee(ctx context.Context, dir string, o Options, report Foreseeing) (fc *Forecast, err error) {
	// No lock is held by it and nothing written, so it is not closed as one that is
	// open.
	s := &Store{dir: dir, o: o}
	f := &foresight{ctx: ctx, Foreseeing: report, s: s, told: map[message.Offset]bool{}}
	defer func() { err = errors.Join(err, f.close()) }()
	err = mappedfile.Guard(func() error {
		if err := f.open(); err != nil {
			return err
		}
		return f.look()
	})
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	return &f.fc, nil
}

// open is Store.openFiles and what comes after it, without a change on disk.
func (f *foresight) open() (err error) {
	s, o := f.s, &f.s.o
	_, ours := marks.Reached(o.Disk, s.path(layout.Stele))
	if s.log, err = commitlog.Open(commitlog.Options{
		Dir: s.path(layout.CommitLog), FileSize: o.FileSize, Disk: o.Disk, Ours: ours, ReadOnly: true,
	}); err != nil {
		return err
	}
	f.total = s.log.Files().End() - s.log.Files().Min()
	if s.queues, err = consumequeue.OpenSet(consumequeue.Options{
		Dir: s.path(layout.ConsumeQueue), Disk: o.Disk, FileSize: o.QueueFileSize, ReadOnly: true,
	}); err != nil {
		return err
	}
	if path := s.log.Files().Unfinished(); path != "" {
		s.recovery.Unfinished = append(s.recovery.Unfinished, path)
	}
	s.recovery.Unfinished = append(s.recovery.Unfinished, s.queues.Unfinished()...)
	if err := s.openIndex(true); err != nil {
		return err
	}
	if s.marks, err = marks.Look(o.Disk, s.path(layout.Stele)); err != nil {
		return err
	}
	b, err := o.Disk.ReadFile(s.path(layout.Checkpoint))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.checkpoint = &checkpointFile{}
	if c, err := checkpoint.Decode(b); err == nil && len(b) >= checkpoint.Size {
		s.checkpoint.value = c
	}
	return s.checkLost()
}

func (f *foresight) close() error {
	errs := []error{f.s.closeDerived()}
	if f.s.queues != nil {
		errs = append(errs, f.s.queues.Close())
	}
	if f.s.log != nil {
		errs = append(errs, f.s.log.Close())
	}
	return errors.Join(errs...)
}

// look follows Store.recover.
func (f *foresight) look() error {
	s := f.s
	was := past{}
	if err := s.readAbort(&was); err != nil {
		return err
	}
	was.state, was.marked = s.marks.State()
	was.bootID, _ = s.o.Disk.BootID()
	p, err := s.plan(was)
	if err != nil {
		return err
	}
	found, err := f.replay(p)
	if errors.Is(err, consumequeue.ErrGap) || errors.Is(err, errCount) {
		s.rebuildBy(&p)
		found, err = f.replay(p)
	}
	if err != nil {
		return err
	}
	s.recovery.Filled = f.filled()
	s.fill(p, found)
	f.fc.Recovery = s.recovery
	for _, e := range found.Damage {
		if err := f.lose(Loss{Kind: LossDamage, Path: e.Path, Offset: e.Offset, Err: e.Cause}); err != nil {
			return err
		}
	}
	if err := f.behind(found, p.untouched(found)); err != nil {
		return err
	}
	return f.missing()
}

// replay is Store.replay without a queue that is written.
func (f *foresight) replay(p plan) (commitlog.Recovery, error) {
	s := f.s
	if _, err := s.recoverQueues(p); err != nil {
		return commitlog.Recovery{}, err
	}
	f.ends = map[queueName]*queueEnd{}
	for _, q := range s.queues.Queues() {
		last, _, ok, err := q.Last()
		if err != nil {
			return commitlog.Recovery{}, err
		}
		e := &queueEnd{was: q.Max(), max: q.Max(), empty: !ok}
		if ok {
			e.end = last.End()
		}
		f.ends[queueName{q.Topic(), q.ID()}] = e
	}
	n := 0
	return s.findEnd(p, func(m *message.Message, strict bool) error {
		if n++; n%publishEvery == 0 {
			if f.ctx.Err() != nil {
				return context.Cause(f.ctx)
			}
			f.progress(m.PhysicalOffset)
		}
		return f.put(m, strict)
	}, func(q *consumequeue.Queue) message.QueueOffset { return f.ends[queueName{q.Topic(), q.ID()}].max })
}

func (f *foresight) progress(at message.Offset) {
	if f.Progress != nil {
		f.Progress(int64(at)-f.s.log.Files().Min(), f.total)
	}
}
