// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
)

// Expired is one file of the log that went, or was to go: the decision with its
// reason, and what was lost by it that somebody still needed.
type Expired struct {
	retention.Decision
	Path string
	// Err is why the file could not be removed; nil when it is gone, durably.
	Err error
}

// ExpireResult is what Expire did.
type ExpireResult struct {
	// Plan has the decision about each file of the log, and its reason.
	Plan retention.Plan
	// Removed are the files that went.
	Removed []Expired
	// QueueFiles is how many files of queues went because the log no longer has
	// what they name.
	QueueFiles int
	// Min is where the log begins now.
	Min message.Offset
}

// expireRequest asks the goroutine of the retention for a pass.
type expireRequest struct {
	ctx   context.Context
	reply chan expireAnswer // of length 1
}

type expireAnswer struct {
	res ExpireResult
	err error
}

// Expire removes the files of the log that Options.Retention lets go, at any hour
// of the day, no more than FilesPerPass; Plan.More says that there are others.
// The minimum of each queue moves up to its first message that is still there;
// files of queues and indexes that speak only of what is gone are removed.
// Batches that were fetched stay valid, and their files keep their space on the
// disk until they are released.
//
// What went is gone durably when Expire returns, also when it returns an error
// that came later: the result says how far it came. An error of a removal does
// not poison the store; the next Expire goes on. The error may also be
// ErrPoisoned, ErrClosed or the cause of ctx, which ends it between two files.
func (s *Store) Expire(ctx context.Context) (ExpireResult, error) {
	if s.closing.Load() {
		return ExpireResult{}, ErrClosed
	}
	req := expireRequest{ctx: ctx, reply: make(chan expireAnswer, 1)}
	select {
	case s.retainer.requests <- req:
	case <-ctx.Done():
		return ExpireResult{}, context.Cause(ctx)
	case <-s.retainer.done:
		return ExpireResult{}, ErrClosed
	}
	// The goroutine answers soon after ctx ends.
	a := <-req.reply
	return a.res, a.err
}

// answer does what was asked for. It ends with the store, too.
func (s *Store) answer(ctx context.Context, req expireRequest) expireAnswer {
	both, end := context.WithCancelCause(req.ctx)
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(ErrClosed) })()
	res, err := s.pass(both, s.watchDisk(), true)
	s.passed(both, err)
	return expireAnswer{res, err}
}

// pass makes a plan and carries it out: first the log, then queues and indexes,
// so that whatever a crash leaves of them, they name no less than the log has.
func (s *Store) pass(ctx context.Context, disk retention.Disk, anyHour bool) (res ExpireResult, err error) {
	if err := s.Err(); err != nil {
		return res, err
	}
	in := retention.Input{
		Files: s.logFiles(), Disk: disk, Held: s.log.Files().Held(),
		Now: s.o.Clock(), AnyHour: anyHour,
	}
	if in.Bounds, err = s.bounds(); err != nil {
		return res, fmt.Errorf("expire: %w", err)
	}
	res.Plan = s.retainer.policy.Plan(in)
	if res.Plan.Deletes > 0 {
		err = s.expireLog(ctx, &res)
	}
	res.Min = s.log.Min()
	if err == nil {
		err = s.expireRest(ctx, &res)
	}
	return res, err
}

// expireLog removes the files that the plan lets go, one after the other.
func (s *Store) expireLog(ctx context.Context, res *ExpireResult) error {
	// A recovery must not begin before the log does: the marks would count for
	// nothing. The record that they name lies in a file that stays: see bounds.
	if err := s.checkpointNow(ctx); err != nil {
		return err
	}
	files := s.log.Files().Files()
	for i, d := range res.Plan.Files[:res.Plan.Deletes] {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err := s.log.RemoveBefore(message.Offset(d.End()))
		e := Expired{Decision: d, Path: files[i].Path(), Err: err}
		s.expired(e)
		if err != nil {
			return fmt.Errorf("expire: %w", err)
		}
		res.Removed = append(res.Removed, e)
		delete(s.retainer.first, d.Base)
	}
	return nil
}

// expireRest brings what is derived from the log in line with where it begins.
// What a crash or a failure before left undone is done now.
func (s *Store) expireRest(ctx context.Context, res *ExpireResult) error {
	if res.Min == s.retainer.cleaned {
		return nil
	}
	var errs []error
	for _, q := range s.queues.Queues() {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		n, err := q.RemoveBefore(res.Min)
		res.QueueFiles += n
		s.retainer.queueFiles.Add(int64(n))
		errs = append(errs, err)
	}
	for _, x := range s.derived {
		errs = append(errs, x.expire(res.Min))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("expire: %w", err)
	}
	s.retainer.cleaned = res.Min
	return nil
}

func (s *Store) expired(e Expired) {
	if e.Err == nil {
		s.retainer.files.Add(1)
		s.retainer.bytes.Add(e.Size)
		s.o.Logger.Info("file expired", "path", e.Path, "reason", e.Reason)
	}
	if f := s.o.Events.Expired; f != nil {
		f(e)
	}
}

// logFiles describes the files of the log.
func (s *Store) logFiles() []retention.File {
	run := s.log.Files().Files()
	files := make([]retention.File, len(run))
	for i, f := range run {
		files[i] = retention.File{Base: f.Base(), Size: f.Size(), First: s.firstStored(f)}
		if i > 0 {
			files[i-1].Until = files[i].First
		}
	}
	// The newest message may be in the file before the active one.
	if n := len(files); n > 1 && files[n-2].Until == 0 && int64(s.log.Committed()) <= files[n-1].Base {
		files[n-2].Until = s.log.LastTime()
	}
	s.addModTimes(files)
	return files
}

// addModTimes fills in the times of the files of which no message tells.
func (s *Store) addModTimes(files []retention.File) {
	known := true
	for _, f := range files[:max(0, len(files)-1)] {
		known = known && f.Until > 0
	}
	if known {
		return
	}
	entries, err := s.o.Disk.List(s.log.Files().Dir())
	for i := range files {
		// A file whose time is not known is young.
		files[i].ModTime = s.o.Clock()
	}
	if err != nil {
		s.o.Logger.Warn("times of the log's files are not known", "error", err)
		return
	}
	for _, e := range entries {
		base, ok := mappedfile.ParseFileName(e.Name)
		for i := range files {
			if ok && files[i].Base == base {
				files[i].ModTime = e.ModTime
			}
		}
	}
}

// firstStored is the store time of the record that begins a file, 0 when there is
// no intact one. It is read through a mapping of its own, which does not stay:
// old files are not mapped for this.
func (s *Store) firstStored(f *mappedfile.File) int64 {
	if ms := s.retainer.first[f.Base()]; ms > 0 {
		return ms
	}
	if int64(s.log.Committed()) <= f.Base() {
		return 0
	}
	ms := int64(0)
	r, err := s.o.Disk.Open(f.Path(), mappedfile.Mapping{ReadOnly: true, Lean: true, Random: true})
	if err == nil {
		err = mappedfile.Guard(func() error {
			var m message.Message
			dec := message.Decoder{Check: message.CheckAll}
			if dec.Decode(r.Bytes(), &m) == nil && int64(m.PhysicalOffset) == f.Base() {
				ms = m.StoreTimestamp
			}
			return nil
		})
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		s.o.Logger.Warn("age of a file is not known by its messages", "path", f.Path(), "error", err)
		return 0
	}
	if ms > 0 {
		s.retainer.first[f.Base()] = ms
	}
	return ms
}

// bounds are what keeps files from going.
func (s *Store) bounds() ([]retention.Bound, error) {
	s.posMu.Lock()
	pos := s.pos
	s.posMu.Unlock()
	all := []retention.Bound{{Offset: int64(max(pos.Last, 0)), Why: "the recovery, as the last message that is in its queue"}}
	if s.o.Retention.Groups != KeepNot {
		groups, err := s.groupBounds()
		if err != nil {
			return nil, err
		}
		all = append(all, groups...)
	}
	if s.retainer.undelivered != nil {
		if off, pending := s.retainer.undelivered(); pending {
			all = append(all, retention.Bound{
				Offset: int64(off), Why: "a delayed message that is not delivered", Hold: s.o.Retention.Delayed.hold(),
			})
		}
	}
	return all, nil
}

// groupBounds returns, for each group that has not consumed everything, where the
// first message lies that it has not.
func (s *Store) groupBounds() ([]retention.Bound, error) {
	groups, err := s.meta.Groups()
	if err != nil {
		return nil, metaError(err)
	}
	var all []retention.Bound
	for _, g := range groups {
		offsets, err := s.meta.Offsets(g)
		if err != nil {
			return nil, metaError(err)
		}
		slowest := retention.Bound{Offset: -1}
		for _, o := range offsets {
			q := s.queues.Get(o.Topic, o.Queue)
			if q == nil {
				continue
			}
			at, ok, err := q.FirstFrom(o.Offset)
			if err != nil {
				return nil, err
			}
			if ok && (slowest.Offset < 0 || int64(at) < slowest.Offset) {
				slowest = retention.Bound{
					Offset: int64(at), Hold: s.o.Retention.Groups.hold(),
					Why: fmt.Sprintf("group %s, which is at %d of %s/%d", g, o.Offset, o.Topic, o.Queue),
				}
			}
		}
		if slowest.Offset >= 0 {
			all = append(all, slowest)
		}
	}
	return all, nil
}
