// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
)

// DefaultRetentionInterval is RocketMQ's cleanResourceInterval.
const DefaultRetentionInterval = 10 * time.Second

// defaultEnoughFiles is how many files of the log find room on a disk that counts
// as not full, whatever its ratio.
const defaultEnoughFiles = 32

// refusedInterval is how often the disk is looked at while appends are refused.
const refusedInterval = 500 * time.Millisecond

// RetentionOptions says which files of the log expire, and when appends are
// refused for want of space. With the zero value nothing expires, and appends are
// refused above 90 % of the disk.
type RetentionOptions struct {
	// Policy is the rules. EnoughFree is 32 times the size of a log file if it is
	// 0, and no such number if it is negative.
	Policy retention.Policy
	// Interval is how often disk and files are looked at; they are at each new
	// file too, and when an append finds the disk full. 0 means
	// DefaultRetentionInterval.
	Interval time.Duration
	// Manual lets files go only when Expire is called.
	Manual bool
	// Groups says whether files stay for groups of consumers that have not
	// consumed all that is in them. A group counts in the queues in which it
	// ever committed an offset; one that is gone for good holds files until its
	// offsets are deleted.
	Groups Keep
	// Delayed says the same for delayed messages that are not delivered yet. One
	// whose file expires is lost; Expired.Lost says so.
	Delayed Keep
}

// Keep says how firmly files stay for those who still need them.
type Keep uint8

const (
	// KeepNot lets files go when their time has come, as RocketMQ does.
	KeepNot Keep = iota
	// KeepUntilFull lets them go only by Policy.WhenFull.
	KeepUntilFull
	// KeepAlways lets none go. The disk may fill up; then appends are refused.
	KeepAlways
)

func (k Keep) hold() retention.Hold {
	return [...]retention.Hold{retention.Told, retention.Yielding, retention.Firm}[k]
}

// check fills in what is zero and reports what is wrong.
func (o *RetentionOptions) check(bad func(format string, args ...any)) {
	if err := o.Policy.Validate(); err != nil {
		bad("Retention: %w", err)
	}
	if o.Interval < 0 {
		bad("Retention.Interval %v", o.Interval)
	}
	if o.Interval == 0 {
		o.Interval = DefaultRetentionInterval
	}
	if o.Groups > KeepAlways || o.Delayed > KeepAlways {
		bad("Retention.Groups %d, Delayed %d", o.Groups, o.Delayed)
	}
}

// RetentionStats is what the retention did since the store was opened.
type RetentionStats struct {
	Files, Bytes int64 // of the log that expired
	QueueFiles   int64
	// Held is how many bytes of them readers still hold; the disk has them until
	// they are done.
	Held int64
	// DiskUsed is the use of the disk in percent when it was looked at last; 0
	// where it can't be told.
	DiskUsed float64
	// Refused is what appends return for want of space, or nil.
	Refused error
	// Failed is why the last pass did not do all that it meant to, or nil. The
	// next one tries again.
	Failed error
}

// retainer is the state of the retention. What has no lock and is no atomic is
// its goroutine's own.
type retainer struct {
	policy   retention.Policy
	requests chan expireRequest
	kick     chan struct{} // looks at the disk soon
	done     chan struct{} // closed when the goroutine has ended

	// undelivered tells where in the log the first message lies that is delayed
	// and not delivered yet; nil when nothing is delayed. Open sets it.
	undelivered func() (off message.Offset, pending bool)

	// Where the log began when queues and indexes were last corrected.
	cleaned message.Offset
	// Store times of the first messages of files, by their base.
	first map[int64]int64

	refused      atomic.Pointer[error] // what appends return
	failed       atomic.Pointer[error]
	used         atomic.Int64 // a hundredth of a percent
	files, bytes atomic.Int64
	queueFiles   atomic.Int64
}

// startRetention makes the retention ready to run. The log is open.
func (s *Store) startRetention() {
	r := &s.retainer
	r.policy = s.o.Retention.Policy
	if r.policy.EnoughFree == 0 {
		r.policy.EnoughFree = defaultEnoughFiles * s.log.FileSize()
	}
	r.requests, r.kick, r.done = make(chan expireRequest), make(chan struct{}, 1), make(chan struct{})
	r.first = map[int64]int64{}
}

// retentionLoop is the goroutine of the retention: the only one who removes files
// of the log.
func (s *Store) retentionLoop(ctx context.Context) {
	r := &s.retainer
	defer close(r.done)
	timer := time.NewTimer(0) // a disk may be full from the start
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case req := <-r.requests:
			req.reply <- s.answer(ctx, req)
			s.watchDisk()
			continue
		case <-r.kick:
		case <-timer.C:
		}
		s.retain(ctx)
		if r.refused.Load() != nil {
			timer.Reset(min(refusedInterval, s.o.Retention.Interval))
		} else {
			timer.Reset(s.o.Retention.Interval)
		}
	}
}

// kickRetention has the goroutine look at the disk now. It never waits.
func (s *Store) kickRetention() {
	select {
	case s.retainer.kick <- struct{}{}:
	default: // it will
	}
}

// retain is one round of the goroutine.
func (s *Store) retain(ctx context.Context) {
	disk := s.watchDisk()
	if s.o.Retention.Manual || !s.retainer.policy.Deletes() || s.Err() != nil {
		return
	}
	res, err := s.pass(ctx, disk, false)
	s.passed(ctx, err)
	if len(res.Removed) > 0 {
		s.watchDisk()
	}
}

// passed notes how a pass ended.
func (s *Store) passed(ctx context.Context, err error) {
	if err == nil {
		s.retainer.failed.Store(nil)
		return
	}
	if ctx.Err() != nil || s.closing.Load() {
		return // it was broken off
	}
	s.retainer.failed.Store(&err)
	s.o.Logger.Error("expiring files failed; the next pass tries again", "error", err)
	if f := s.o.Events.ExpireFailed; f != nil {
		f(err)
	}
}

// watchDisk looks at the disk, and begins or ends to refuse appends.
func (s *Store) watchDisk() retention.Disk {
	r := &s.retainer
	u, err := mappedfile.DiskUsage(s.o.Disk, s.dir)
	if err != nil {
		// Nothing is known: what a full disk does is told by who needs space.
		s.o.Logger.Warn("use of the disk is not known", "error", err)
		u = mappedfile.Usage{}
	}
	disk := retention.Disk(u)
	r.used.Store(int64(disk.Percent() * 100))
	s.refuse(r.policy.Refuse(disk))
	return disk
}

// refuse makes appends return ErrDiskFull, with why, until it is called with "".
func (s *Store) refuse(why string) {
	r := &s.retainer
	var refused *error
	if why != "" {
		err := fmt.Errorf("%w: %s: %s", ErrDiskFull, s.dir, why)
		refused = &err
	}
	was := r.refused.Swap(refused)
	if (was == nil) == (refused == nil) {
		return
	}
	var err error
	if refused == nil {
		s.o.Logger.Info("appends are taken again: the disk has room")
	} else {
		err = *refused
		s.o.Logger.Warn("appends are refused", "error", err)
	}
	if f := s.o.Events.Refused; f != nil {
		f(err)
	}
}

// diskRefusal is what appends return because of the disk's ratio, or nil.
func (s *Store) diskRefusal() error {
	if p := s.retainer.refused.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *Store) retentionStats() RetentionStats {
	r := &s.retainer
	st := RetentionStats{
		Files: r.files.Load(), Bytes: r.bytes.Load(), QueueFiles: r.queueFiles.Load(),
		Held: s.log.Files().Held(), DiskUsed: float64(r.used.Load()) / 100, Refused: s.diskRefusal(),
	}
	if p := r.failed.Load(); p != nil {
		st.Failed = *p
	}
	return st
}

// fullNow has the disk looked at when err says that it is full, and returns err.
func (s *Store) fullNow(err error) error {
	if errors.Is(err, ErrDiskFull) {
		s.kickRetention()
	}
	return err
}
