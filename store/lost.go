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
	if s.endsEarly() {
		return nil
	}
	for _, q := range queues {
		at, ok, err := s.namesBeyond(q, end)
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
func (s *Store) endsEarly() bool {
	all := s.log.Files().Files()
	last := all[len(all)-1]
	sc := s.log.Scan(message.Offset(last.Base()), message.Offset(s.log.Files().End()), commitlog.ScanOptions{
		Check: message.CheckAll, Resync: commitlog.ResyncAlways,
	})
	defer sc.Close()
	for sc.Next() {
	}
	return sc.Stop().Kind == commitlog.StopEmpty
}

// namesBeyond looks for an entry whose record lies in the file that would begin
// at end. An entry that names a place further off may be damaged, and proves
// nothing.
func (s *Store) namesBeyond(q *consumequeue.Queue, end message.Offset) (message.QueueOffset, bool, error) {
	for at := q.Max() - 1; at >= q.Min(); at-- {
		e, err := q.EntryAt(at)
		if err != nil {
			return 0, false, err
		}
		if e.Valid() && e.Offset < end {
			break
		}
		if e.Valid() && e.Offset < end+message.Offset(s.log.FileSize()) {
			return at, true, nil
		}
	}
	return 0, false, nil
}
