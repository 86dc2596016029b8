// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// errNoRoom marks a failure that resume can mend: a write that the disk had
	// no room for. A sync that failed for it is not one: what was written before
	// may be lost, and the kernel takes it for clean.
	errNoRoom = errors.New("no room")
	// errBlown is what a fuse says that blew while it was taken over.
	errBlown = errors.New("the disk failed while the database was opened again")
)

// IsFull reports whether an error of a change or of Sync says that the disk has
// no room: the Store goes on when there is some. An error of Open says so too;
// then there is no Store.
func IsFull(err error) bool { return errors.Is(err, errNoRoom) }

// markFull adds errNoRoom to the failure of an operation if that is what it was.
func markFull(op string, err error) error {
	if op != "sync" && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return err
}

// roomWanted is how many bytes must be free before the database is opened again:
// its new files, and a memtable that is written out, take less.
const roomWanted = 2 * memTableSize

// resume ends a failure for want of room once there is some. The fuse has left
// the directory as a crash would have, so the database is opened as after one;
// the next commit writes everything that is in memory over it. failure is
// returned as long as that does not work. s.commitMu is held.
func (s *Store) resume(failure error) error {
	if !IsFull(failure) || !s.hasRoom() {
		return failure
	}
	if s.db != nil {
		_ = s.db.Close() // of what it writes nothing reaches the disk
		s.db = nil
	}
	db, f, err := s.openPebble()
	if err != nil {
		return errors.Join(failure, err)
	}
	if f.blown.Load() {
		return errors.Join(failure, db.Close())
	}
	s.db, s.fuse, s.rewrite = db, f, true
	s.failed.Store(nil)
	return nil
}

// hasRoom reports whether a file of roomWanted bytes can be written.
func (s *Store) hasRoom() bool {
	name := s.o.FS.PathJoin(s.dir, "room")
	f, err := s.o.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	_, err = f.Write(make([]byte, roomWanted))
	return errors.Join(err, f.Close(), s.o.FS.Remove(name)) == nil
}

// soil marks everything in memory as dirty. s.mu is held.
func (s *Store) soil() {
	for name := range *s.topics.Load() {
		s.dirty.topic(name)
	}
	for _, queues := range s.offsets {
		for _, p := range queues {
			s.dirty.offset(p)
		}
	}
	for level := range s.delays {
		s.dirty.delay(level)
	}
	s.dirty.timer = s.timer != nil
}
