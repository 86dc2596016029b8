// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Writer is one way for appended bytes to get into a File. Positions are those
// in the file; each Put begins where the one before it ended.
//
//	           Put                    Commit               File.Flush
//	mapping    into the page cache    nothing to do        ─┐
//	pool       into a locked buffer   pwrite               ─┼─▶ disk
//	file       into a small ring      pwrite               ─┘
//
// Nothing can be read from the file before it was committed. One goroutine at a
// time calls Put, one at a time Commit; the two run beside each other.
type Writer interface {
	// Put takes a copy of b, which goes to pos. After an error nothing is
	// known about these bytes, and no other Put must follow. A Writer on a
	// mapping faults where the mapping does: see Guard.
	Put(pos int64, b []byte) error
	// Commit returns once every byte that was Put below to is in the page cache:
	// it can be read through the mapping, and survives the death of the process.
	// After an error it may be tried again; the Writer still has the bytes.
	Commit(to int64) error
	// Close gives back what the Writer borrowed. It does not commit, and no
	// other call may run beside it or come after it.
	Close()
}

// headLen is how much of what is Put into a mapping is copied last: a record's
// size and magic number.
const headLen = 8

// mapWriter copies into the mapping, which is the page cache.
type mapWriter struct{ data []byte }

// NewMapWriter returns a Writer on the mapping of f. The caller must hold a
// reference to f as long as it uses it.
func NewMapWriter(f *File) (Writer, error) {
	data, err := f.Bytes()
	if err != nil {
		return nil, err
	}
	return &mapWriter{data: data}, nil
}

// Put implements Writer. The first eight bytes go last: a process that reads the
// file beside this one, or after a kill in mid-copy, sees zeros or a record.
func (w *mapWriter) Put(pos int64, b []byte) error {
	dst := w.data[pos : pos+int64(len(b))]
	head := min(headLen, len(b))
	copy(dst[head:], b[head:])
	copy(dst[:head], b[:head])
	return nil
}

// Commit implements Writer.
func (w *mapWriter) Commit(int64) error { return nil }

// Close implements Writer.
func (w *mapWriter) Close() {}

// staged is what the Writers share that write through the file's descriptor:
// bytes wait in buf, the one of position p at p modulo its length, from written
// on.
type staged struct {
	file *File
	buf  []byte

	mu      sync.Mutex   // one writes
	written atomic.Int64 // below it everything is in the page cache
	tail    int64        // behind the last byte that was Put; the putter's own
}

// write moves [written, to) into the page cache. s.mu is held.
func (s *staged) write(to int64) error {
	size := int64(len(s.buf))
	for from := s.written.Load(); from < to; {
		at := from % size
		n := min(to-from, size-at)
		if err := s.file.Write(from, s.buf[at:at+n]); err != nil {
			return err
		}
		from += n
		s.written.Store(from)
	}
	return nil
}

// inOrder refuses a Put that does not follow on the one before it.
func (s *staged) inOrder(pos int64) error {
	if pos != s.tail {
		return fmt.Errorf("%s: %w: put at %d instead of %d", s.file.Path(), ErrOutOfRange, pos, s.tail)
	}
	return nil
}

// copyIn puts b at pos of the buffer, which has room for it.
func (s *staged) copyIn(pos int64, b []byte) {
	n := copy(s.buf[pos%int64(len(s.buf)):], b)
	copy(s.buf, b[n:])
	s.tail = pos + int64(len(b))
}

// fileWriter writes through the descriptor, by way of a ring that gathers what
// is committed together.
type fileWriter struct {
	staged
	zeros zeros // guarded by mu
}

// NewFileWriter returns a Writer that writes to f through its descriptor, from
// the position from on; all behind it must be zeros. What is Put waits in ring
// until it is committed, or until the ring is full; then Put writes it. The ring is
// the Writer's until its Close, and must not be empty.
//
// ahead, unless it is 0, is for who flushes after each commit: once the commits
// come there, the Writer writes up to that many bytes of zeros in front of them,
// which the next flush takes along. Blocks that were only reserved cost each flush
// that comes to a new one a change of the file's metadata. It does so only for
// short commits, and where the Disk says that it helps.
func NewFileWriter(f *File, ring []byte, from, ahead int64) Writer {
	w := &fileWriter{staged: staged{file: f, buf: ring, tail: from}, zeros: zeros{ahead: ahead}}
	w.written.Store(from)
	if ahead > 0 && !f.overwrites() {
		w.zeros.ahead = 0
	}
	return w
}

// Put implements Writer.
func (w *fileWriter) Put(pos int64, b []byte) error {
	if err := w.inOrder(pos); err != nil {
		return err
	}
	n, size := int64(len(b)), int64(len(w.buf))
	if pos+n-w.written.Load() > size {
		if err := w.overflow(pos); err != nil {
			return err
		}
	}
	if n <= size {
		w.copyIn(pos, b)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.file.Write(pos, b); err != nil {
		return err
	}
	w.tail = pos + n
	w.written.Store(w.tail)
	return nil
}

// overflow writes what was Put, which ends at pos, so that the ring has room.
func (w *fileWriter) overflow(pos int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(pos)
}

// Commit implements Writer.
func (w *fileWriter) Commit(to int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.written.Load()
	if err := w.write(to); err != nil {
		return err
	}
	return w.zeros.follow(w.file, from, w.written.Load())
}

// Close implements Writer.
func (w *fileWriter) Close() {}

// poolWriter copies into a borrowed buffer that is as long as the file, so it
// never has to wait.
type poolWriter struct {
	staged
	pool *Pool
	lent Memory
}

// Put implements Writer.
func (w *poolWriter) Put(pos int64, b []byte) error {
	if err := w.inOrder(pos); err != nil {
		return err
	}
	w.copyIn(pos, b)
	return nil
}

// Commit implements Writer. Like Put into a mapping it writes the first eight
// bytes last: until then, and after a kill in the middle, zeros stand where this
// commit began, which is the end of the log to whoever reads the file. That must
// be so, since the file behind it may have records already: it may be written
// through its mapping, because the pool was empty.
func (w *poolWriter) Commit(to int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.written.Load()
	if from >= to {
		return nil
	}
	head := min(from+headLen, to)
	if head < to {
		if err := w.file.Write(head, w.buf[head:to]); err != nil {
			return err
		}
	}
	if err := w.file.Write(from, w.buf[from:head]); err != nil {
		return err
	}
	w.written.Store(to)
	return nil
}

// Close implements Writer.
func (w *poolWriter) Close() { w.pool.giveBack(w.lent) }
