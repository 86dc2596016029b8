// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"sync"
)

// Pool holds a few buffers, each as long as a file, that take appended bytes
// before the page cache does: RocketMQ's TransientStorePool. A store to one never
// meets a page that is being written back.
//
// A goroutine of the Pool has their pages made and locked, one buffer behind the
// other; a buffer can be used before it is done. It is safe for concurrent use.
type Pool struct {
	size int64

	stopping sync.Once
	stop     chan struct{}
	lock     sync.WaitGroup

	mu      sync.Mutex // a leaf
	free    []Memory   // the last one is borrowed next: its pages are there
	buffers int
	locked  int64
	refused error
	empty   int64
	closed  bool
}

// PoolStats says how a Pool is doing.
type PoolStats struct {
	Buffers     int   // how many there are
	Free        int   // how many of them nobody has borrowed
	BufferSize  int64 // bytes of each
	LockedBytes int64 // bytes of all that are locked in memory
	Empty       int64 // how often one was wanted and none was free
	// Refused is why memory could not be locked, or nil.
	Refused error
}

// lockStep is how many bytes are locked in one call: Close waits for one.
const lockStep = 16 << 20

// NewPool makes n buffers of size bytes. The memory is taken in the background.
// refused, which may be nil, is called once, from there, if it can't be locked:
// the limit of locked memory is too low (ulimit -l), or locking is not permitted.
// The error is why the address space for them could not be had.
func NewPool(disk Disk, size int64, n int, refused func(error)) (*Pool, error) {
	p := &Pool{size: size, stop: make(chan struct{}), buffers: n}
	for range n {
		m, err := disk.Memory(size)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.free = append(p.free, m)
	}
	all := make([]Memory, n)
	for i, m := range p.free {
		all[n-1-i] = m // in the order in which they are borrowed
	}
	p.lock.Go(func() { p.lockAll(all, refused) })
	return p, nil
}

// lockAll has the pages of all buffers made and locked. After a refusal they
// are only made.
func (p *Pool) lockAll(all []Memory, refused func(error)) {
	for _, m := range all {
		for off := int64(0); off < p.size; off += lockStep {
			select {
			case <-p.stop:
				return
			default:
			}
			n := min(lockStep, p.size-off)
			err := m.Lock(off, n)
			if p.note(n, err) && refused != nil {
				refused(err)
			}
		}
	}
}

// note keeps the outcome of one Lock, and reports whether it is the first that
// was refused.
func (p *Pool) note(n int64, err error) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.locked += n
		return false
	}
	first = p.refused == nil
	if first {
		p.refused = err
	}
	return first
}

// Writer borrows a buffer for f and returns a Writer that commits from the
// position from on, or nil when the Pool has none to spare. Closing the Writer
// returns the buffer.
func (p *Pool) Writer(f *File, from int64) Writer {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 || f.Size() > p.size {
		p.empty++
		return nil
	}
	m := p.free[last]
	p.free = p.free[:last]
	w := &poolWriter{staged: staged{file: f, buf: m.Bytes()[:f.Size()], tail: from}, pool: p, lent: m}
	w.written.Store(from)
	return w
}

func (p *Pool) giveBack(m Memory) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = m.Free() // it is of no use to anybody
		return
	}
	p.free = append(p.free, m)
}

// Stats returns a snapshot.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{
		Buffers: p.buffers, Free: len(p.free), BufferSize: p.size,
		LockedBytes: p.locked, Empty: p.empty, Refused: p.refused,
	}
}

// Close ends the goroutine, waits for it and frees the buffers; one that is
// borrowed is freed when it is given back. Closing twice does nothing.
func (p *Pool) Close() error {
	p.stopping.Do(func() { close(p.stop) })
	p.lock.Wait() // it may be locking a buffer that is freed next
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	free := p.free
	p.free = nil
	var errs []error
	for _, m := range free {
		errs = append(errs, m.Free())
	}
	return errors.Join(errs...)
}
