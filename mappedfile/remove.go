// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// RemoveBefore removes the files that end at or below off from the front, one
// after the other, each durably before the next, and returns how many went. Views
// on them stay valid. A file that could not be removed is the first of the run
// again. One that was removed when the directory could not be synced is out of
// the run, and may come back after a power cut: no further one is removed until
// that sync succeeded.
func (q *Queue) RemoveBefore(off int64) (int, error) {
	if q.o.Mapping.ReadOnly {
		return 0, fmt.Errorf("%s: remove files: %w", q.o.Dir, ErrReadOnly)
	}
	q.cutMu.Lock()
	defer q.cutMu.Unlock()
	removed := 0
	for {
		f, err := q.cutFront(off)
		if err != nil || f == nil {
			return removed, err
		}
		// The names of new files before that of an old one: a power cut could
		// take those and leave a run that ends too early, or none.
		err = q.syncNames()
		if err == nil && q.unsettled {
			err = q.settle()
		}
		if err == nil {
			err = q.o.Disk.Remove(f.path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, errors.Join(err, q.restore(f))
		}
		removed++
		q.let(f)
		q.unsettled = true
		if err := q.settle(); err != nil {
			return removed, err
		}
	}
}

// settle makes a removal durable. q.cutMu is held.
func (q *Queue) settle() error {
	if err := q.o.Disk.SyncDir(q.o.Dir); err != nil {
		return err
	}
	q.unsettled = false
	return nil
}

// cutFront takes the first file out of the run if it ends at or below off.
func (q *Queue) cutFront(off int64) (*File, error) {
	gone, err := q.cutRun(func(files []*File) (gone, kept []*File) {
		n := 0
		if len(files) > 0 && files[0].End() <= off {
			n = 1
		}
		return files[:n], files[n:]
	})
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	return gone[0], nil
}

// restore makes a file the first of the run again.
func (q *Queue) restore(f *File) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		f.release()
		return nil
	}
	files := append([]*File{f}, q.Files()...)
	q.files.Store(&files)
	return nil
}

// let gives up a file that was removed, and keeps an eye on it while others hold
// it. q.cutMu is held.
func (q *Queue) let(f *File) {
	f.release()
	q.heldMu.Lock()
	defer q.heldMu.Unlock()
	q.held = append(slices.DeleteFunc(q.held, (*File).released), f)
}

// Held returns how many bytes of removed files have not been given back to the
// disk, because a View still holds them.
func (q *Queue) Held() int64 {
	q.heldMu.Lock()
	defer q.heldMu.Unlock()
	q.held = slices.DeleteFunc(q.held, (*File).released)
	n := int64(0)
	for _, f := range q.held {
		n += f.size
	}
	return n
}

// RemoveFrom removes the files that begin at or above off from the back, last
// first, each durably before the next, and returns how many went. Views on them
// stay valid. After an error the run has none of them, but some are still on disk,
// without a hole.
func (q *Queue) RemoveFrom(off int64) (int, error) {
	return q.cut(func(files []*File) (gone, kept []*File) {
		n := len(files)
		for n > 0 && files[n-1].base >= off {
			gone = append(gone, files[n-1])
			n--
		}
		return gone, files[:n]
	})
}

func (q *Queue) cut(split func([]*File) (gone, kept []*File)) (int, error) {
	if q.o.Mapping.ReadOnly {
		return 0, fmt.Errorf("%s: remove files: %w", q.o.Dir, ErrReadOnly)
	}
	q.cutMu.Lock()
	defer q.cutMu.Unlock()
	// The run is cut first, in one step. Then the files go in an order that
	// never leaves a hole, each one durably before the next: names that were
	// removed together may come back one by one after a power cut. That takes
	// long for large files, so q.mu, which a roll needs, is not held.
	gone, err := q.cutRun(split)
	if err != nil || len(gone) == 0 {
		return 0, err
	}
	removed := 0
	for _, f := range gone {
		if err = q.erase(f); err != nil {
			break
		}
		removed++
	}
	for _, f := range gone {
		f.release()
	}
	return removed, err
}

// cutRun takes files out of the run.
func (q *Queue) cutRun(split func([]*File) (gone, kept []*File)) ([]*File, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return nil, q.errClosed()
	}
	gone, kept := split(q.Files())
	if len(gone) > 0 {
		q.files.Store(&kept)
	}
	return gone, nil
}

// erase removes a file from the directory, durably.
func (q *Queue) erase(f *File) error {
	if err := q.o.Disk.Remove(f.path); err != nil {
		return err
	}
	return q.o.Disk.SyncDir(q.o.Dir)
}
