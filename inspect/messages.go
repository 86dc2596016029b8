// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"math"
	"sort"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// Record is a message where it stands in the log. It borrows from the mapped
// file and is valid until the next step of the iteration.
type Record struct {
	*message.Message
	// Raw is the record's bytes. They must not be written.
	Raw message.Record
}

// Messages yields the messages that f asks for, in the order of the log, or with
// f.Reverse in the opposite one.
// Lengths, positions and checksums of every record on the way are verified.
//
// What is wrong with the files, a stray one, one of a wrong length, a missing
// one, is yielded first, each as a *mappedfile.FileError; of a file that is too
// short the beginning is read. A stretch without an intact record is yielded as a *DamageError, whatever f
// says about messages, and the iteration goes on behind it. Any other error is
// the last thing that is yielded: what f.Validate returns, ErrUnreadable, the
// error of ctx.
func (d *Dir) Messages(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := f.Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		log, err := d.openLog()
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer func() { _ = log.Close() }() // read-only: nothing can be lost
		for _, p := range log.Files().Problems() {
			if !yield(Record{}, p) {
				return
			}
		}
		w := &walk{ctx: ctx, log: log, times: d.openTimes(), match: newMatcher(f), yield: yield, last: -1, progress: d.progress}
		from, err := w.start()
		if w.times != nil {
			_ = w.times.Close() // read-only
		}
		switch {
		case err != nil:
		case f.Reverse:
			err = w.runBackward(from)
		default:
			err = w.run(from)
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// walk is one iteration over the messages of a log.
type walk struct {
	ctx   context.Context
	log   *commitlog.Log
	times *timeindex.Index // nil without one
	match *matcher
	yield func(Record, error) bool

	scan  *commitlog.Scanner
	file  *mappedfile.File // the one that the scan is in
	last  message.Offset   // of the newest record that was met, or -1
	next  message.Offset   // items before it are no news
	to    message.Offset
	newer []span // of the log, that hold nothing as old as is wanted
	found int64
	again message.Offset                        // damage before this offset was looked at twice
	each  func(m *message.Message, wanted bool) // if set, told of every record

	// Of a walk that is gone on with: what looks damaged at the end of the log is
	// being written.
	follow    bool
	patient   bool           // so does what looks damaged elsewhere, but for the damage at:
	damaged   message.Offset // stood there long enough, or -1
	stoppedAt message.Offset // where the log came to its end
	over      bool           // it did not: nothing more is wanted
	torn      bool           // something stands there that is no record

	progress func(done, total int64)
	began    message.Offset // where the walk did
	told     message.Offset // up to there progress knows
}

// progressEvery is how many bytes of the log lie between two calls of progress.
const progressEvery = 1 << 20

// tell calls progress when it is time to.
func (w *walk) tell(at message.Offset) {
	if at-w.told >= progressEvery {
		w.told = at
		w.progress(int64(at-w.began), min(int64(w.to), w.log.Files().End())-int64(w.began))
	}
}

// errStop ends a walk that its consumer has left.
var errStop = errors.New("stop")

// errUnwritten ends a walk at what may be a record that is being written.
var errUnwritten = errors.New("not written yet")

// ctxEvery is how many items pass between two looks at the context.
const ctxEvery = 256

// start finds the record to begin with.
func (w *walk) start() (message.Offset, error) {
	var from message.Offset
	err := guard(func() (err error) {
		from, w.to, err = w.narrow()
		return err
	})
	if err != nil {
		return 0, err
	}
	if w.match.To > 0 {
		w.to = min(w.to, w.match.To)
	}
	return max(from, w.log.Min()), nil
}

// narrow turns the bounds of the filter into a range of the log that begins
// where a record does.
func (w *walk) narrow() (from, to message.Offset, err error) {
	to = math.MaxInt64
	if w.match.Until > 0 {
		w.newer = newerFiles(w.log, w.match.Until)
	}
	if w.match.Since > 0 {
		found, err := timeindex.Search(w.ctx, w.log, w.times, min(to, w.log.Appended()), w.match.Since)
		if w.ctx.Err() != nil {
			return 0, 0, context.Cause(w.ctx)
		}
		if err == nil { // else a file went meanwhile; the walk says what it meets
			from = found.Offset
		}
	}
	for _, f := range w.log.Files().Files() {
		if err := f.Drop(); err != nil {
			return 0, 0, err
		}
	}
	if w.match.From <= from {
		return from, to, nil
	}
	f := w.log.Files().Find(int64(w.match.From))
	if f == nil {
		return w.match.From, to, nil
	}
	if intactAt(f, int64(w.match.From)) {
		return w.match.From, to, nil
	}
	return message.Offset(f.Base()), to, nil
}

// span is a part of the log.
type span struct{ from, to message.Offset }

// newerFiles returns the files, as spans, that hold no message stored before a time,
// in milliseconds, as far as first records tell: that of the file and that of the next
// one were both stored then, or later, with what the clock may have been set back on
// top. Where a clock jumped ahead, the file in which it came back is not one of them.
func newerFiles(log *commitlog.Log, until int64) (newer []span) {
	bound := until + min(setBack, math.MaxInt64-until)
	files := log.Files().Files()
	before := false // the file before begins with a newer one
	for i, f := range files {
		stored, ok := firstStoreTime(f)
		_ = f.Drop() // it is mapped again when it is read
		ok = ok && stored >= bound
		if n := len(newer); ok && before {
			one := span{message.Offset(files[i-1].Base()), message.Offset(f.Base())}
			if n > 0 && newer[n-1].to == one.from {
				newer[n-1].to = one.to
			} else {
				newer = append(newer, one)
			}
		}
		before = ok
	}
	return newer
}

// passOver returns where the walk goes on if it comes to files in which there is
// nothing for it.
func (w *walk) passOver(at message.Offset) (end message.Offset, ok bool) {
	i := sort.Search(len(w.newer), func(i int) bool { return w.newer[i].to > at })
	if i == len(w.newer) || w.newer[i].from > at {
		return 0, false
	}
	return w.newer[i].to, true
}

// run walks from an offset to the end.
func (w *walk) run(from message.Offset) error {
	defer func() { w.scan.Close() }()
	w.rescan(from)
	w.began, w.told = from, from
	for n := 1; ; n++ {
		if n%ctxEvery == 0 && w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		more, err := w.step()
		if err == nil && !more {
			more, err = w.stopped()
			if !more {
				return err
			}
			continue
		}
		if err == nil {
			if err = w.item(w.scan.Item()); err == nil {
				continue
			}
		}
		if errors.Is(err, errStop) || errors.Is(err, errUnwritten) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// rescan begins a new scan at an offset, which sees what was written meanwhile.
// It starts one record earlier, so that the scan knows the store time that what
// follows must not fall behind.
func (w *walk) rescan(next message.Offset) {
	if w.scan != nil {
		w.scan.Close()
	}
	w.next = next
	from := next
	if w.last >= 0 {
		from = w.last
	}
	w.scan = w.log.Scan(from, math.MaxInt64, commitlog.ScanOptions{
		Check: message.CheckAll, Resync: commitlog.ResyncAlways,
	})
}

// step moves the scan on and gives up the mapping of a file that is done with.
func (w *walk) step() (more bool, err error) {
	err = guard(func() error {
		more = w.scan.Next()
		return nil
	})
	if err != nil || !more {
		return more, err
	}
	if at := int64(w.scan.Item().Offset); w.file == nil || at >= w.file.End() || at < w.file.Base() {
		if w.file != nil {
			err = w.file.Drop()
		}
		w.file = w.log.Files().Find(at)
	}
	return more, err
}

// item hands on what the scan came upon.
func (w *walk) item(it *commitlog.ScanItem) error {
	if it.Offset >= w.to {
		return errStop
	}
	if it.Offset < w.next {
		return nil
	}
	w.tell(it.Offset)
	if len(w.newer) > 0 && it.Kind != commitlog.ItemFiller {
		if end, ok := w.passOver(it.Offset); ok {
			w.last = -1
			w.rescan(end)
			return nil
		}
	}
	switch it.Kind {
	case commitlog.ItemRecord:
		w.last = it.Offset
		if w.patient && it.Message.StoreTimestamp >= w.match.behind {
			return errStop // who follows would wait for ever
		}
		wanted := w.match.match(it.Message)
		if w.each != nil {
			w.each(it.Message, wanted)
		}
		if !wanted {
			return nil
		}
		if !w.yield(Record{Message: it.Message, Raw: it.Record}, nil) {
			return errStop
		}
		if w.found++; w.found == w.match.Limit {
			return errStop
		}
	case commitlog.ItemDamage:
		if it.Offset >= w.again {
			w.again = it.Offset + 1
			w.rescan(it.Offset)
			return nil
		}
		end := it.Offset + message.Offset(it.Size)
		if end <= w.match.From {
			return nil
		}
		if w.patient && it.Offset != w.damaged {
			// A commit of the pool is two writes, of which the second has the
			// beginning; and a file whose end is not committed may have another
			// behind it that is.
			w.stoppedAt, w.over, w.torn = it.Offset, false, true
			return errUnwritten
		}
		if !w.yield(Record{}, &DamageError{Skipped: it.Size, Corrupt: it.Err}) {
			return errStop
		}
	}
	return nil
}

// stopped is called when the scan has ended. It reports whether the walk goes on
// with a new one, and otherwise how it ends.
func (w *walk) stopped() (more bool, err error) {
	stop := w.scan.Stop()
	w.stoppedAt, w.over, w.torn = stop.Offset, stop.Offset >= w.to, stop.Kind == commitlog.StopDamaged
	switch stop.Kind {
	case commitlog.StopDamaged:
		if stop.Offset >= w.to {
			return false, nil
		}
		if stop.Offset >= w.again {
			w.again = stop.Offset + 1
			w.rescan(stop.Offset)
			return true, nil
		}
		if w.follow {
			return false, nil
		}
		var corrupt *commitlog.CorruptError
		if !errors.As(stop.Err, &corrupt) {
			return false, stop.Err
		}
		return false, &DamageError{Corrupt: corrupt}
	case commitlog.StopError:
		// The owner expired the file since it was listed.
		f := w.log.Files().Find(int64(stop.Offset))
		if f == nil || f == w.log.Files().Last() || !errors.Is(stop.Err, fs.ErrNotExist) {
			return false, unreadable(stop.Err)
		}
		w.last = -1
		w.rescan(message.Offset(f.End()))
		return true, nil
	default:
		return false, nil
	}
}
