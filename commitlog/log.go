// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/internal/watermark"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Log is the commit log. It is safe for concurrent use.
//
// A Log is opened in two steps. After Open it can be read and scanned; Recover
// finds its end; Start makes it appendable. A read-only Log is never started.
type Log struct {
	o     Options
	files *mappedfile.Queue

	// appended counts bytes that are in the log's memory. Where they are committed
	// at the same moment, with WriteMmap, it is committed itself: to move a mark
	// takes an atomic operation or two.
	appended  *watermark.Mark
	committed watermark.Mark // bytes that are in the page cache
	flushed   watermark.Mark // bytes that a completed flush covers
	lastTime  atomic.Int64   // store time of the newest record, ms; never decreases
	failure   atomic.Pointer[error]
	flushing  atomic.Int64 // moves when a flush begins, and when it ends
	// again is up to where the flusher has to redirty what it flushes. Start sets it.
	again int64

	kick       chan struct{} // wakes the flusher
	commits    chan struct{} // wakes the committer
	quit       chan struct{}
	background sync.WaitGroup // the flusher and the committer

	commitMu    sync.Mutex // held while bytes are written to a file
	uncommitted segments
	nCommits    atomic.Int64
	poolFor     atomic.Pointer[mappedfile.Pool] // for Stats

	sender delivery.Sender

	closing sync.Once
	closed  atomic.Bool // set under mu

	mu      sync.Mutex // the append lock: guards what follows and the order of records
	alloc   *mappedfile.Allocator
	spare   *mappedfile.File // was found behind the end; until the allocator has it
	warmer  *warmer          // nil when nothing is to be warmed up
	tail    *mappedfile.File // the last file, nil before the first append
	writer  mappedfile.Writer
	direct  bool             // writer commits by itself
	pool    *mappedfile.Pool // with WritePool
	ring    []byte           // with WriteFile
	copies  copyTimer
	asked   bool // the file behind tail was asked for
	started bool
	stopped bool
}

// Open lists the files of the log, checks their names and lengths and maps
// none. The errors are those of mappedfile.OpenQueue.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	q, err := mappedfile.OpenQueue(mappedfile.Options{
		Dir: o.Dir, FileSize: o.FileSize, DefaultSize: DefaultFileSize, Disk: o.Disk,
		Mapping: mappedfile.Mapping{ReadOnly: o.ReadOnly}, ReserveWhole: true, Tolerant: o.Tolerant,
		// Whoever chooses a length chooses whole pages.
		Unlikely: func(size int64) bool { return o.Ours && size%pageSize != 0 },
	})
	if err != nil {
		return nil, err
	}
	l := &Log{o: o, files: q, appended: new(watermark.Mark), kick: make(chan struct{}, 1), commits: make(chan struct{}, 1), quit: make(chan struct{})}
	if o.WritePath == WriteMmap {
		l.appended = &l.committed
	}
	l.sender.Guard = mappedfile.Guard
	l.appended.Reset(q.End())
	l.committed.Reset(q.End())
	l.flushed.Reset(q.End())
	return l, nil
}

// Files is the run of files, for tools that look at them. It belongs to the Log.
func (l *Log) Files() *mappedfile.Queue { return l.files }

// FileSize is the length of each file in bytes.
func (l *Log) FileSize() int64 { return l.files.FileSize() }

// Min is the offset of the first byte that is still there.
func (l *Log) Min() message.Offset { return message.Offset(l.files.Min()) }

// Appended is the offset behind the last byte in the log's memory, which can be
// read once it is committed. Before Start it is the end of the last file.
func (l *Log) Appended() message.Offset { return message.Offset(l.appended.Load()) }

// Flushed is the offset below which everything is durable.
func (l *Log) Flushed() message.Offset { return message.Offset(l.flushed.Load()) }

// LastTime is the store time of the newest record in milliseconds since the
// Unix epoch, or what Start was given.
func (l *Log) LastTime() int64 { return l.lastTime.Load() }

// WaitAppended returns once the log reaches beyond past, or with the cause of
// ctx, or with ErrClosed.
func (l *Log) WaitAppended(ctx context.Context, past message.Offset) error {
	return l.appended.Wait(ctx, int64(past)+1, 0)
}

// WaitFlushedBeyond is WaitAppended for the flushed watermark. After a failed
// flush it returns ErrPoisoned.
func (l *Log) WaitFlushedBeyond(ctx context.Context, past message.Offset) error {
	return l.flushed.Wait(ctx, int64(past)+1, 0)
}

// StartOptions says where a log goes on.
type StartOptions struct {
	// End is where the next record goes: where Recover ended, or a clean close
	// left off.
	End message.Offset
	// Flushed is how much of what lies below End is known to be on disk.
	Flushed message.Offset
	// LastTime is the store time of the record before End, which later ones
	// don't fall behind, in milliseconds since the Unix epoch.
	LastTime int64
	// Clean says that zeros follow End, so that none need be written.
	Clean bool
	// Killed says that whoever wrote the log was killed, and all that he wrote is
	// there. What he wrote last, a filler at least, is in the file that End lies in:
	// one behind it was made ahead of need and holds zeros. It is kept for when it
	// is needed, since to remove one of the default size takes milliseconds.
	Killed bool
	// Later leaves it to the first flush to make durable what lies between
	// Flushed and End.
	Later bool
}

// Start makes the log appendable. Everything below End is made durable first,
// unless that may come later, and everything behind it zeroed and synced, or
// removed, so that an old tail can never be taken for new records.
//
// Start runs once. It can be tried again after an error, but not after one that
// wraps ErrPoisoned: then a flush failed.
func (l *Log) Start(o StartOptions) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.o.ReadOnly:
		return fmt.Errorf("%s: start: %w", l.o.Dir, mappedfile.ErrReadOnly)
	case l.closed.Load():
		return ErrClosed
	case l.started:
		return fmt.Errorf("%s: started twice", l.o.Dir)
	case l.Err() != nil:
		return l.Err()
	}
	err := mappedfile.Guard(func() error { return l.settle(o) })
	if err != nil {
		return l.fatal(err)
	}
	end := int64(o.End)
	l.appended.Reset(end)
	l.committed.Reset(end)
	l.lastTime.Store(o.LastTime)
	if err := l.openPath(); err != nil {
		return err
	}
	l.startAllocator(end)
	l.started = true
	l.background.Go(l.flushLoop)
	if l.pool != nil {
		l.poolFor.Store(l.pool)
		l.background.Go(l.commitLoop)
	}
	return nil
}

// startAllocator starts the goroutine that makes files, and the one that warms
// them up. Only a file that is written through its mapping is warmed up: a small
// write to a warm file costs many times what it does to a cold one (see
// docs/decisions/0012-write-paths.md).
func (l *Log) startAllocator(end int64) {
	if !l.o.Warm.wanted() || l.o.WritePath != WriteMmap {
		l.alloc = mappedfile.NewAllocator(l.files, nil)
		l.adopt()
		return
	}
	w := newWarmer(l, end)
	l.warmer = w
	if l.tail != nil {
		w.add(l.tail)
	}
	w.done.Go(w.run)
	l.alloc = mappedfile.NewAllocator(l.files, w.add)
	l.adopt()
	if l.tail == nil && w.o.Window <= 0 {
		// Whoever wants whole files warm wants the first one before it is needed.
		l.alloc.Prepare(l.files.NextBase(end))
	}
}

// adopt hands the spare file to the allocator.
func (l *Log) adopt() {
	if l.spare != nil {
		l.alloc.Adopt(l.spare)
		l.spare = nil
	}
}

// putBack is for a Start that failed: the file stays where it was.
func (l *Log) putBack() error {
	if l.spare == nil {
		return nil
	}
	f := l.spare
	l.spare = nil
	return l.files.Append(f)
}

// settle makes what lies below the end durable, or leaves that to the flusher, cuts
// the files back to the end and finds the file that it lies in.
func (l *Log) settle(o StartOptions) error {
	if err := l.putBack(); err != nil {
		return err
	}
	end := int64(o.End)
	if end < l.files.Min() || end > l.files.End() {
		return fmt.Errorf("%s: start at %d: %w: the files hold [%d, %d)", l.o.Dir, end, ErrOutOfRange, l.files.Min(), l.files.End())
	}
	flushed := max(int64(min(o.Flushed, o.End)), l.files.Min())
	from := flushed
	if o.Later {
		// Of the last page from now on only appends store anything.
		l.again = end &^ (pageSize - 1)
		from = max(from, l.again)
	}
	if err := l.files.Redirty(from, end); err != nil {
		return l.poison(err)
	}
	if !o.Later {
		if err := l.files.Flush(from, end); err != nil {
			return l.poison(err)
		}
		flushed = end
	}
	l.flushed.Reset(flushed)
	return l.cutTail(end, o)
}

// cutTail removes what lies behind the end.
func (l *Log) cutTail(end int64, o StartOptions) error {
	// A file that holds nothing is removed like those behind it, unless it is
	// the first: its name is all that says where the log begins.
	cut := end
	if end == l.files.Min() {
		cut++
	}
	var spare *mappedfile.File
	if o.Killed {
		var err error
		if spare, err = l.spareBehind(end); err != nil {
			return err
		}
	}
	if spare != nil {
		cut = spare.End()
	}
	if _, err := l.files.RemoveFrom(cut); err != nil {
		return err
	}
	if spare != nil {
		if err := l.files.TakeBack(spare); err != nil {
			return err
		}
		l.spare = spare
	}
	l.tail = l.files.Find(end)
	if l.tail == nil {
		return nil
	}
	if !o.Clean && !plantedTail.on() {
		err := l.tail.ZeroFrom(end - l.tail.Base())
		if errors.Is(err, mappedfile.ErrDiskFull) {
			return err
		}
		if err != nil {
			return l.poison(err)
		}
	}
	_, err := l.tail.Bytes()
	return err
}

// spareBehind returns the file behind the one that end lies in, unless something was
// written to it: then damage has hidden where the log ends.
func (l *Log) spareBehind(end int64) (*mappedfile.File, error) {
	tail := l.files.Find(end)
	if tail == nil {
		return nil, nil
	}
	f := l.files.Find(tail.End())
	if f == nil {
		return nil, nil
	}
	data, err := f.Bytes()
	if err != nil || !allZero(data[:min(len(data), message.MinRecordSize)]) {
		return nil, err
	}
	return f, nil
}

// Err returns the failure that poisoned the log, or nil.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// RemoveBefore removes the files that end at or below off, never the last one.
// Views on them stay valid. It returns how many went. Appends go on meanwhile:
// removing a file of a gigabyte can take a while.
func (l *Log) RemoveBefore(off message.Offset) (int, error) {
	// What is the last file now stays, also when another one follows it.
	if last := l.files.Last(); last != nil {
		off = min(off, message.Offset(last.Base()))
	}
	off = min(off, l.Committed()) // the committer still writes to the others
	return l.files.RemoveBefore(int64(off))
}

// StopAppends makes every later append return ErrClosed; Appended is final then.
// Reads and flushes go on until Close.
func (l *Log) StopAppends() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
}

// Close flushes what was appended, stops the flusher and the allocator and
// waits for both, and removes files that were prepared and not used. Views stay
// valid. It returns the first failure, the one that poisoned the log included.
// Closing again does nothing but wait for the first Close.
func (l *Log) Close() error {
	var err error
	l.closing.Do(func() { err = l.close() })
	return err
}

func (l *Log) close() error {
	l.mu.Lock()
	l.closed.Store(true)
	started := l.started
	l.mu.Unlock()

	var errs []error
	if started {
		close(l.quit)
		l.background.Wait()
		if l.warmer != nil {
			l.warmer.cancel()
		}
		errs = append(errs, l.closePath(), l.alloc.Close())
		if l.warmer != nil {
			l.warmer.stop() // behind the allocator, which adds files to it
		}
	}
	errs = append(errs, l.putBack())
	l.appended.Fail(ErrClosed)
	l.committed.Fail(ErrClosed)
	l.flushed.Fail(ErrClosed)
	return errors.Join(append(errs, l.Err(), l.files.Close())...)
}

func (l *Log) now() int64 {
	return max(l.o.clock.UnixMilli(), l.lastTime.Load())
}

// poison records the first failure and ends every wait for a flush.
func (l *Log) poison(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	if l.failure.CompareAndSwap(nil, &err) {
		l.flushed.Fail(err)
		if l.o.OnPoison != nil {
			l.o.OnPoison(err)
		}
	}
	return l.Err()
}
