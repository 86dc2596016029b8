// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Allocator has the next file of a Queue created and reserved by the time it is
// needed: RocketMQ's AllocateMappedFileService. One goroutine does that, one file
// at a time; it waits on a channel and ends with Close. Warming a file up is not
// its job: that takes long, and nobody has to wait for it.
type Allocator struct {
	queue *Queue
	made  func(*File)

	closing atomic.Bool
	work    chan *slot
	done    chan struct{}

	// The last file that could not be made, and why; the goroutine's own.
	failedBase int64
	failure    error

	mu     sync.Mutex
	slots  map[int64]*slot // by base: asked for, not taken yet
	closed bool
}

// slot is one file that was asked for. file and err are set before ready is
// closed; file from the beginning, if it is one to adopt.
type slot struct {
	base  int64
	ready chan struct{}
	file  *File
	err   error
}

func newSlot(base int64) *slot { return &slot{base: base, ready: make(chan struct{})} }

// maxAhead bounds the files that can be asked for before they are made.
const maxAhead = 16

// NewAllocator starts the goroutine. made, which may be nil, is told of each new
// file before anybody can take it; whoever takes the file waits for it. It must
// take a View to keep the file.
func NewAllocator(q *Queue, made func(*File)) *Allocator {
	a := &Allocator{
		queue: q, made: made,
		work: make(chan *slot, 2*maxAhead), done: make(chan struct{}), slots: map[int64]*slot{},
	}
	go a.run()
	return a
}

func (a *Allocator) run() {
	defer close(a.done)
	for s := range a.work {
		a.fill(s)
		close(s.ready)
	}
}

func (a *Allocator) fill(s *slot) {
	if a.closing.Load() {
		s.err = fmt.Errorf("%s: allocator: %w", a.queue.Dir(), ErrClosed)
		return
	}
	// A file behind one that could not be made would stand behind a hole.
	if a.failure != nil && s.base > a.failedBase && a.queue.End() <= a.failedBase {
		s.err = a.failure
		return
	}
	if s.file == nil {
		s.file, s.err = a.queue.Prepare(s.base)
	} else if err := a.queue.ready(s.file); err != nil {
		s.file, s.err = nil, errors.Join(err, a.queue.Discard(s.file))
	}
	a.failedBase, a.failure = s.base, s.err
	if s.err == nil && a.made != nil {
		a.made(s.file)
	}
}

// Prepare asks for the file at base and returns at once. Asking again for a
// file that is not taken yet does nothing; so does asking for more files than
// can wait.
func (a *Allocator) Prepare(base int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.slots[base] != nil || len(a.slots) >= maxAhead {
		return
	}
	a.enqueue(newSlot(base))
}

// Adopt is Prepare for a file that is there already, of which the caller knows
// that it holds zeros only: Queue.TakeBack let it go. What whoever made it may not
// have come to, its blocks and its name, the goroutine does. The Allocator must not have been asked for that file before.
func (a *Allocator) Adopt(f *File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := newSlot(f.base)
	s.file = f
	a.enqueue(s)
}

// enqueue hands a slot to the goroutine. a.mu is held, and there is room: the
// channel holds as many as the table may, and one for each goroutine in Take.
func (a *Allocator) enqueue(s *slot) *slot {
	a.slots[s.base] = s
	a.work <- s
	return s
}

// Take returns the file at base, prepared, and waits for it if it is not ready
// or was not asked for. The caller appends it to the queue. waited tells
// whether the caller lost time. A preparation that failed ahead of need is
// tried again here: the disk may have room by now.
func (a *Allocator) Take(base int64) (file *File, waited bool, err error) {
	s, err := a.claim(base)
	if err != nil {
		return nil, false, err
	}
	select {
	case <-s.ready:
		if s.err == nil {
			return s.file, false, nil
		}
		if s, err = a.claim(base); err != nil {
			return nil, false, err
		}
	default:
	}
	<-s.ready
	return s.file, true, s.err
}

// claim takes the slot for base off the table, so that Close leaves its file
// alone; a slot that nobody asked for yet is made.
func (a *Allocator) claim(base int64) (*slot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, fmt.Errorf("%s: allocator: %w", a.queue.Dir(), ErrClosed)
	}
	s := a.slots[base]
	if s == nil {
		s = a.enqueue(newSlot(base))
	}
	delete(a.slots, base)
	return s, nil
}

// Close stops the goroutine, waits for it, and removes the files that were
// prepared and not taken. Closing twice does nothing.
func (a *Allocator) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		<-a.done
		return nil
	}
	a.closed = true
	slots := a.slots
	a.slots = nil
	a.mu.Unlock()

	a.closing.Store(true)
	close(a.work)
	<-a.done
	// The last one first, and none below one that stays: no hole on disk.
	var err error
	for _, base := range slices.Backward(slices.Sorted(maps.Keys(slots))) {
		switch file := slots[base].file; {
		case file == nil:
		case err != nil:
			file.release()
		default:
			err = a.queue.Discard(file)
		}
	}
	return err
}
