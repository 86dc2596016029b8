// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// checkLost refuses a directory whose log was lost, or the last files of it: it
// must not be begun anew, or go on, under queues that know more. It changes
// nothing.
//
// A broker that crashed may have lost its last file, since RocketMQ does not
// sync names. What Stele's marks call flushed, or a broker that closed had, can't
// get lost by itself: its names were synced before it was written.
func (s *Store) checkLost() error {
	files, queues := s.log.Files(), s.queues.Queues()
	if len(queues) == 0 {
		return nil
	}
	if files.Len() == 0 {
		return &mappedfile.FileError{
			Path: s.path(layout.CommitLog),
			Cause: fmt.Errorf("%w: the log is empty, but there are %d consume queues, one of topic %q",
				ErrMissingFile, len(queues), queues[0].Topic()),
		}
	}
	end := message.Offset(files.End())
	reached, marked := marks.Reached(s.o.Disk, s.path(layout.Stele))
	if marked && (reached <= end || reached == everything) {
		return nil
	}
	_, err := s.o.Disk.ReadFile(s.path(layout.Abort))
	if !marked && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := s.queuesKnow(); err != nil {
		return err
	}
	if early, err := s.endsEarly(); early || err != nil {
		return err
	}
	for _, q := range queues {
		at, ok, err := namesIn(q, end, end+message.Offset(s.log.FileSize()))
		if err != nil {
			return err
		}
		if ok {
			return &mappedfile.FileError{
				Path: filepath.Join(files.Dir(), mappedfile.FileName(int64(end))),
				Cause: fmt.Errorf("%w: the log ends at %d, but offset %d of queue %s/%d lies there",
					ErrMissingFile, end, at, q.Topic(), q.ID()),
			}
		}
	}
	return nil
}

// endsEarly reports whether the last file of the log is not full, and so no other
// one came behind it. What queues name there is left of a log that was cut:
// RocketMQ leaves old entries in place, and new ones can end right before them.
// It leaves old bytes in the log, too, so that behind the last record something
// may stand that is none. It may be a record that was damaged, if an entry names
// that place, or a filler, if zeros follow it; then nothing is told.
func (s *Store) endsEarly() (bool, error) {
	all := s.log.Files().Files()
	last := all[len(all)-1]
	sc := s.log.Scan(message.Offset(last.Base()), message.Offset(s.log.Files().End()), commitlog.ScanOptions{
		Check: message.CheckAll, Resync: commitlog.ResyncAlways,
	})
	defer sc.Close()
	for sc.Next() {
	}
	stop := sc.Stop()
	switch stop.Kind {
	case commitlog.StopEmpty:
		return true, nil
	case commitlog.StopDamaged:
	default:
		return false, nil
	}
	v, err := s.log.View(stop.Offset, int32(s.log.Files().End()-int64(stop.Offset)))
	if err != nil {
		return false, err
	}
	filler := len(v.Bytes()) < message.FillerSize || allZero(v.Bytes()[message.FillerSize:])
	v.Release()
	if filler {
		return false, nil
	}
	for _, q := range s.queues.Queues() {
		if _, named, err := namesIn(q, stop.Offset, stop.Offset+1); err != nil || named {
			return false, err
		}
	}
	return true, nil
}

// namesIn looks for an entry whose record begins at lo or behind it, and before hi:
// one that names a place further off may be damaged, and proves nothing.
func namesIn(q *consumequeue.Queue, lo, hi message.Offset) (message.QueueOffset, bool, error) {
	for at := q.Max() - 1; at >= q.Min(); at-- {
		e, err := q.EntryAt(at)
		if err != nil {
			return 0, false, err
		}
		if e.Valid() && e.Offset < lo {
			break
		}
		if e.Valid() && e.Offset < hi {
			return at, true, nil
		}
	}
	return 0, false, nil
}
