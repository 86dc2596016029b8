// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Sequence is the next queue offset of one queue. The Log reads and moves it
// under the append lock, so that the order of records in the log and in each
// queue is the same. Set it before the first append of its queue.
type Sequence struct{ next message.QueueOffset }

// NewSequence returns a Sequence whose first offset is next.
func NewSequence(next message.QueueOffset) *Sequence { return &Sequence{next: next} }

// Item is one encoded record and the queue that it goes to.
type Item struct {
	// Record is patched in place: physical offset, queue offset, store time,
	// and the property CRC if the log writes one. The Log doesn't keep it.
	Record message.Record
	// Sequence gives the queue offset.
	Sequence *Sequence
	// Step moves the sequence on: message.Message.QueueStep of the record.
	Step message.QueueOffset
	// StoreTime is a time that the caller has just read from the clock, in
	// milliseconds since the Unix epoch, or 0: a look at the clock is a good part
	// of an append, and whoever encoded the record may have taken one. A batch
	// goes by the clock.
	StoreTime int64
	// Waits, unless nil, is told where the append waited; zeros must be in it. Of
	// a batch it is that of the first item.
	Waits *Waits
}

// Result says where a record went.
type Result struct {
	Offset      message.Offset      // of its first byte
	Size        int32               // bytes
	QueueOffset message.QueueOffset // its place in its queue
	StoreTime   int64               // milliseconds since the Unix epoch
}

// End is the offset behind the record. The record is durable once Flushed is
// not below it.
func (r Result) End() message.Offset { return r.Offset + message.Offset(r.Size) }

// Append writes one record at the end of the log. It is in the log's memory on
// return, not on disk; wait for that with WaitFlushed. With WriteMmap, and with
// WriteFile unless CommitOnFlush is set, it is committed, too: it can be read, and
// survives the death of the process. With WritePool the committer does that soon.
//
// The error is ErrRecordTooLarge, ErrPoisoned, ErrClosed, or why a new file could
// not be had (mappedfile.ErrDiskFull among others); then nothing was written, and
// the sequence has not moved. The one exception is a Result whose Size is not 0
// beside ErrPoisoned: the record could not be committed, and may or may not be
// there after the next Open. A fault in the mapping (mappedfile.ErrFault) poisons
// the log. Append allocates nothing, but for the roll to a new file.
func (l *Log) Append(it Item) (Result, error) {
	if n := len(it.Record); int64(n)+message.FillerSize > l.FileSize() {
		return Result{}, fmt.Errorf("%w: %d bytes and a filler of %d, the file has %d",
			ErrRecordTooLarge, n, message.FillerSize, l.FileSize())
	}
	r, err := l.appendLocked(it)
	if err != nil {
		return Result{}, err
	}
	return r, l.handOn(r.End(), it.Waits)
}

func (l *Log) appendLocked(it Item) (Result, error) {
	l.lock(it.Waits)
	defer l.mu.Unlock()
	r, err := l.append(it)
	return r, l.fatal(err)
}

// append is Append under the lock.
func (l *Log) append(it Item) (r Result, err error) {
	defer mappedfile.Disarm(mappedfile.Arm(), &err)
	n := len(it.Record)
	pos, err := l.room(n, it.Waits)
	if err != nil {
		return Result{}, err
	}
	now := it.StoreTime
	if now == 0 {
		now = l.now()
	}
	now = max(now, l.lastTime.Load())
	start := l.startCopy(it.Waits, l.tail.Base()+int64(pos+n))
	if r, err = l.put(it, pos, now); err != nil {
		return Result{}, err
	}
	l.endCopy(it.Waits, start, n)
	l.publish(pos+len(it.Record), now)
	return r, nil
}

// handOn does what is left of an append once the lock is free: it has the record
// committed, unless the flusher does that.
func (l *Log) handOn(end message.Offset, w *Waits) error {
	if l.o.CommitOnFlush || l.committed.Load() >= int64(end) {
		return nil
	}
	if w == nil {
		return l.Commit(end)
	}
	start := time.Now()
	err := l.Commit(end)
	w.Commit = time.Since(start)
	return err
}

// fatal poisons the log when err is a fault in the tail's mapping: the file was
// cut, or its disk is gone, and what else of it is lost can't be told.
func (l *Log) fatal(err error) error {
	if err != nil && errors.Is(err, mappedfile.ErrFault) {
		return l.poison(err)
	}
	return err
}

// AppendBatch writes records one behind the other in one file, with one store
// time; other appends don't come between. results must be as long as items. The
// errors are those of Append and ErrBatchTooLarge; then nothing was written, unless
// the results' sizes are not 0. A crash can still cut a batch: it is not atomic.
func (l *Log) AppendBatch(items []Item, results []Result) error {
	total := 0
	for i := range items {
		total += len(items[i].Record)
	}
	if total == 0 {
		return nil
	}
	if int64(total)+message.FillerSize > l.FileSize() {
		return fmt.Errorf("%w: %d bytes and a filler of %d, the file has %d",
			ErrBatchTooLarge, total, message.FillerSize, l.FileSize())
	}
	results = results[:len(items)] // panics here, before anything is written
	if err := l.appendBatchLocked(items, results, total); err != nil {
		return err
	}
	return l.handOn(results[len(results)-1].End(), items[0].Waits)
}

func (l *Log) appendBatchLocked(items []Item, results []Result, total int) error {
	w := items[0].Waits
	l.lock(w)
	defer l.mu.Unlock()
	return l.fatal(mappedfile.Guard(func() error {
		pos, err := l.room(total, w)
		if err != nil {
			return err
		}
		now := l.now()
		start := l.startCopy(w, l.tail.Base()+int64(pos+total))
		for i := range items {
			if results[i], err = l.put(items[i], pos, now); err != nil {
				clear(results[:i])
				return err
			}
			pos += len(items[i].Record)
		}
		// A record's checksums take as long as some hundred bytes more.
		l.endCopy(w, start, total+len(items)*200)
		l.publish(pos, now)
		return nil
	}))
}

// put places one record at pos of the tail. l.mu is held and there is room. A
// failure poisons the log.
func (l *Log) put(it Item, pos int, now int64) (Result, error) {
	off := message.Offset(l.tail.Base() + int64(pos))
	rec, seq := it.Record, it.Sequence
	rec.Patch(off, seq.next, now)
	if l.o.PropertyCRC {
		rec.Seal()
	}
	if err := l.writer.Put(int64(pos), rec); err != nil {
		return Result{}, l.poison(err)
	}
	res := Result{Offset: off, Size: int32(len(rec)), QueueOffset: seq.next, StoreTime: now}
	if it.Step == 0 {
		res.QueueOffset = 0 // no place in the queue: message.Record.Patch wrote 0
	}
	seq.next += it.Step
	return res, nil
}

// publish says that the bytes of the tail below end are appended, and with
// WriteMmap readable, since both are one mark then.
func (l *Log) publish(end int, now int64) {
	at := l.tail.Base() + int64(end)
	l.appended.Advance(at)
	// Behind the watermark, so that whoever reads the time first and then the
	// watermark finds the record of that time below it.
	if now != l.lastTime.Load() {
		l.lastTime.Store(now)
	}
	if l.warmer != nil {
		l.warmer.appended(l.tail.Base() + int64(end))
	}
	if !l.asked && int64(end) >= l.FileSize()/prepareShare {
		l.asked = true
		l.alloc.Prepare(l.tail.End())
	}
}

// prepareShare is the part of a file, 1/16, that is full when the next one is
// asked for: late enough for a small store to hold one file, and early enough
// for a full-speed writer of the default size to leave the allocator 20 ms.
const prepareShare = 16

// room returns the position in the tail where n bytes go, and rolls to a new
// file when the tail has no room for them and a filler. l.mu is held.
func (l *Log) room(n int, w *Waits) (int, error) {
	if err := l.appendable(); err != nil {
		return 0, err
	}
	if l.tail != nil {
		// A file of a broker, or of a run before this one, may be sparse. On a
		// full disk it can still be read, so this waits for the first append.
		if err := l.tail.ReserveAll(); err != nil {
			return 0, err
		}
		pos := int(l.appended.Load() - l.tail.Base())
		if pos+n+message.FillerSize <= int(l.tail.Size()) {
			return pos, nil
		}
	}
	start := time.Now()
	err := l.roll(start)
	if w != nil {
		w.Roll = time.Since(start)
	}
	return 0, err
}

func (l *Log) appendable() error {
	switch {
	case l.closed.Load():
		return ErrClosed
	case !l.started:
		return fmt.Errorf("%s: append before Start", l.o.Dir)
	}
	return l.Err()
}

// roll closes the tail with a filler and goes on to the next file. The new file
// is had first: a disk that is full leaves everything as it was.
func (l *Log) roll(start time.Time) error {
	end := l.appended.Load()
	file, waited, err := l.alloc.Take(l.files.NextBase(end))
	if err != nil {
		return err
	}
	_, err = file.Bytes()
	if err == nil {
		err = l.files.Append(file)
	}
	if err != nil {
		return errors.Join(err, l.files.Discard(file))
	}
	if err := l.finish(end); err != nil {
		return l.poison(err)
	}
	l.appended.Advance(file.Base())
	if err := l.begin(file, file.Base()); err != nil {
		return l.poison(err)
	}
	l.asked = false
	if l.o.OnRoll != nil {
		l.o.OnRoll(RollInfo{Path: file.Path(), Base: message.Offset(file.Base()), Waited: waited, Took: time.Since(start)})
	}
	return nil
}

// finish closes the tail, whose records end at end, with a filler.
func (l *Log) finish(end int64) error {
	if l.tail == nil {
		return nil
	}
	pos := end - l.tail.Base()
	// Fewer bytes than a filler are left only where a log was started at an end
	// that no append made; they are zeros, and scans read on.
	if rest := l.tail.Size() - pos; rest >= message.FillerSize {
		var filler [message.FillerSize]byte
		message.PutFiller(filler[:], int(rest))
		if err := l.writer.Put(pos, filler[:]); err != nil {
			return err
		}
		pos += message.FillerSize
	}
	// What the filler covers is zeros in the file, and is not written.
	l.uncommitted.close(l.tail, pos)
	return nil
}
