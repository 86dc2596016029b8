// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// TimeIndexOptions is about the index that finds a place in the log by time, in
// `stele/timeindex`. It can be deleted while the store is closed.
type TimeIndexOptions struct {
	// Stretch is how much of the log, in bytes, one entry of 16 bytes stands for,
	// and how much a search scans at most; 0 means timeindex.DefaultStretch, 256
	// KiB. With another one than it has, the index is made anew.
	Stretch int64
	// Rebuild is how much of the log Open reads at most to fill in what the index
	// lacks; 0 means timeindex.DefaultRebuild, 256 MiB. In a longer log the index
	// begins where dispatch does; below, a search goes by the files of the log.
	Rebuild int64
}

func (o *TimeIndexOptions) check(bad func(format string, args ...any)) {
	if o.Stretch != 0 && (o.Stretch < timeindex.MinStretch || o.Stretch > timeindex.MaxStretch) {
		bad("TimeIndex.Stretch %d, between %d and %d bytes", o.Stretch, timeindex.MinStretch, timeindex.MaxStretch)
	}
	if o.Rebuild < 0 {
		bad("TimeIndex.Rebuild %d", o.Rebuild)
	}
}

func (s *Store) openTimeIndex() (err error) {
	s.times, err = timeindex.Open(timeindex.Options{
		Dir: filepath.Join(s.path(layout.Stele), timeindex.DirName), Disk: s.o.Disk,
		Stretch: s.o.TimeIndex.Stretch, Rebuild: s.o.TimeIndex.Rebuild, Damaged: s.damagedTimeIndex,
	})
	if err == nil {
		s.derived = append(s.derived, timeFeed{s})
	}
	return err
}

func (s *Store) damagedTimeIndex(e *timeindex.DamageError) {
	s.o.Logger.Warn("damage in the time index", "error", e)
	if f := s.o.Events.DamagedTimeIndex; f != nil {
		f(e)
	}
}

// timeFeed is the time index as the dispatcher sees it.
type timeFeed struct{ s *Store }

func (f timeFeed) recover(from message.Offset) (message.Offset, error) {
	return f.s.times.Recover(from, f.s.log.Min(), f.s.log)
}

func (f timeFeed) put(m *message.Message) error { return f.s.times.Put(m) }

func (f timeFeed) flush() error { return f.s.times.Flush() }

func (f timeFeed) expire(lo message.Offset) error { return f.s.times.Expire(lo) }

func (f timeFeed) close() error { return f.s.times.Close() }

// OffsetAt returns where in the log the first message begins that was stored at t
// or later, in the order of the log; where there is none, the offset behind the
// last message that is in its queue. Get, and a scan of Log, can begin there.
//
// A message that was stored earlier can lie behind it if the clock was set back:
// "first" is by place, not by time. That holds exactly where the time index
// reaches, in all of a log that Stele wrote. In a longer log of a broker's,
// before the place where Stele came to it, store times are taken to grow from
// file to file, within timeindex.SetBack.
//
// It looks at a few entries of the index and scans one stretch of the log, of any
// size.
func (s *Store) OffsetAt(t time.Time) (message.Offset, error) {
	for {
		if s.closing.Load() {
			return 0, ErrClosed
		}
		lo := s.log.Min()
		// Record times are whole milliseconds: the next one, if t lies between.
		ms := t.Add(time.Millisecond - 1).UnixMilli()
		found, err := timeindex.Search(context.Background(), s.log, s.times, s.Dispatched(), ms)
		switch {
		case err == nil:
			return found.Offset, nil
		case s.closing.Load():
			return 0, ErrClosed
		case lo != s.log.Min() && (errors.Is(err, ErrExpired) || errors.Is(err, mappedfile.ErrExpired)):
			// Files expired meanwhile.
		default:
			return 0, fmt.Errorf("the offset of %v: %w", t, err)
		}
	}
}
