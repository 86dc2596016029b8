// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Flush returns once everything that was put before the call is durable, the
// names of new files included. The first one after a Recover that did not trust
// the directory covers every file. It may run beside everything but Close.
//
// A flush that failed leaves it unknown what is durable, and no later one can
// mend that: Flush returns that first error from then on.
func (s *Set) Flush() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if s.closed.Load() {
		return s.errClosed()
	}
	if err := mappedfile.Guard(s.flush); err != nil {
		s.failed = fmt.Errorf("key index: %w", err)
	}
	return s.failed
}

func (s *Set) flush() error {
	files := s.Files()
	done := s.durable
	if n := len(files); n > 0 {
		done.Newest = files[n-1].name
		err := files[n-1].Read(func(m Image) error {
			done.Time = max(done.Time, m.load64(endTimeAt))
			return nil
		})
		if err != nil && !errors.Is(err, mappedfile.ErrExpired) {
			return err
		}
	}
	if s.unnamed.Swap(false) || s.flushAll && len(files) > 0 {
		if err := s.o.Disk.SyncDir(s.o.Dir); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := f.flush(s.flushAll); err != nil {
			return err
		}
	}
	s.flushAll, s.durable = false, done
	return nil
}

// Redirty makes the next Flush write every page again that holds anything,
// whatever the kernel thinks of it: after a failed sync it takes pages for clean
// that the disk may never have got. Only the writer may call it.
func (s *Set) Redirty() error {
	for _, f := range s.Files() {
		if err := f.redirty(); err != nil {
			return fmt.Errorf("key index: %w", err)
		}
	}
	s.flushAll = true
	return nil
}

// Durable returns what the last Flush covered. It must not run beside one.
func (s *Set) Durable() Durable { return s.durable }

// Expire removes the oldest files, durably, as long as their last record lies
// below min; the newest file stays, as in RocketMQ. It returns how many went.
// Readers that are in one are done first. It may run beside everything but
// Close.
func (s *Set) Expire(min message.Offset) (int, error) {
	removed := 0
	for {
		files := s.Files()
		if len(files) < 2 {
			return removed, nil
		}
		var end message.Offset
		err := files[0].Read(func(m Image) error {
			end = m.Header().EndOffset
			return nil
		})
		if err != nil {
			return removed, err
		}
		if end >= min {
			return removed, nil
		}
		if err := s.drop(files[0]); err != nil {
			return removed, err
		}
		removed++
	}
}

// drop removes a file from the directory, durably, and then from the list.
func (s *Set) drop(f *File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.Files(), f)
	if i < 0 {
		return nil
	}
	if s.closed.Load() {
		return s.errClosed()
	}
	if err := s.o.Disk.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.o.Disk.SyncDir(s.o.Dir); err != nil {
		return err
	}
	files := slices.Delete(slices.Clone(s.Files()), i, i+1)
	s.files.Store(&files)
	f.release()
	return nil
}

// Close gives up all files; each is unmapped when the last reader has left it.
// It does not flush. It must not run beside Put. Closing twice does nothing.
func (s *Set) Close() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	files := s.Files()
	s.files.Store(&[]*File{})
	for _, f := range files {
		f.release()
	}
	return nil
}
