// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TailOptions says what Tail yields.
type TailOptions struct {
	Filter // but for Reverse
	// Last is how many messages to begin with: the newest ones that the filter
	// takes.
	Last int
	// Follow goes on with what is appended afterwards, until the context ends.
	Follow bool
	// Idle, if set, is called before each wait for more; its error ends the
	// iteration.
	Idle func() error
}

// Tail yields the last messages that o.Filter takes, in the order of the log, and
// with o.Follow those that come afterwards, as soon as they are seen: within
// LongestWait. It waits for a record that is being written to be whole, and takes
// nothing at the end of a log for damage while it follows. Errors are those of
// Messages; what is wrong with the files as such it does not tell.
//
// Of a log of any size it reads little, where the queues are there to tell which
// records are the last.
func (d *Dir) Tail(ctx context.Context, o TailOptions) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := d.tail(ctx, o, yield); err != nil && !errors.Is(err, errStop) {
			yield(Record{}, err)
		}
	}
}

func (d *Dir) tail(ctx context.Context, o TailOptions, yield func(Record, error) bool) error {
	if err := o.Validate(); err != nil {
		return err
	}
	o.Reverse = false
	from, to, err := d.lastOnes(ctx, o.Filter, o.Last)
	if err != nil {
		return err
	}
	f := o.Filter
	if !o.Follow {
		if to == 0 {
			return nil // an empty log
		}
		f.To = to // what came meanwhile is one too many
	}
	t := &tailing{d: d, o: o, match: newMatcher(f), yield: yield}
	if !o.Follow {
		_, err := t.pass(ctx, from, true)
		return err
	}
	return t.follow(ctx, from)
}

// tailing is one iteration of Tail.
type tailing struct {
	d     *Dir
	o     TailOptions
	match *matcher
	yield func(Record, error) bool
	found int64

	patient bool           // what looks damaged is given time
	torn    message.Offset // what looked damaged last, or -1
	since   time.Time      // when it was seen first
	damaged message.Offset // what looked so for too long, or -1
}

// pass yields what there is, from where the filter says, or from the record at an
// offset on. The walk tells where that ended.
func (t *tailing) pass(ctx context.Context, from message.Offset, exact bool) (w *walk, err error) {
	log, err := t.d.openLog()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	w = &walk{ctx: ctx, log: log, match: t.match, yield: t.yield, last: -1, found: t.found, follow: t.o.Follow, patient: t.patient, damaged: t.damaged, over: true, to: math.MaxInt64, progress: func(int64, int64) {}}
	switch {
	case !exact:
		if from, err = w.start(); err != nil {
			return w, err
		}
	case t.match.To > 0:
		w.to = t.match.To
	}
	err = w.run(max(from, log.Min()))
	t.found = w.found
	return w, err
}

func (t *tailing) follow(ctx context.Context, from message.Offset) error {
	t.patient, t.torn, t.damaged = true, -1, -1
	for pause := shortestWait; ; {
		w, err := t.pass(ctx, from, true)
		if err != nil || w.over {
			return err
		}
		if t.o.Idle != nil {
			if err := t.o.Idle(); err != nil {
				return err
			}
		}
		if w.stoppedAt > from {
			from, pause = w.stoppedAt, shortestWait
		}
		if !w.torn {
			err = t.d.waitFor(ctx, from)
		} else if err = wait(ctx, pause); err == nil {
			pause = min(2*pause, LongestWait) // it is being written, or never will be whole
			switch {
			case t.torn != w.stoppedAt:
				t.torn, t.since = w.stoppedAt, time.Now()
			case time.Since(t.since) > patience:
				t.damaged = t.torn
			}
		}
		if err != nil {
			return err
		}
	}
}

// End returns the offset behind the last record of the log, as it is now. Of a log of
// any size it reads little, where there are queues. Where something stands at the end
// that is no record, nobody knows how far that goes, and it is beyond any log.
func (d *Dir) End(ctx context.Context) (message.Offset, error) {
	_, end, err := d.lastOnes(ctx, Filter{}, 0)
	return end, err
}

// lastOnes returns where the last n messages that f takes begin, and to where a
// pass over them goes: the end of the log, or beyond it where something stands there
// that is no record.
func (d *Dir) lastOnes(ctx context.Context, f Filter, n int) (from, to message.Offset, err error) {
	for candidates := max(n, 1); ; candidates = min(candidates, 1<<40) * 8 {
		begin, all := d.lastEntries(f, candidates)
		var ring []message.Offset
		oldest := 0
		g := f
		g.From, g.Limit = max(begin, f.From), 0
		t := &tailing{d: d, match: newMatcher(g), yield: func(r Record, err error) bool {
			switch {
			case err != nil || n == 0: // the pass that comes after tells what is damaged
			case len(ring) < n:
				ring = append(ring, r.PhysicalOffset)
			default:
				ring[oldest], oldest = r.PhysicalOffset, (oldest+1)%n
			}
			return true
		}}
		t.o.Follow = true // for the end of the log
		w, err := t.pass(ctx, 0, false)
		if err != nil {
			return 0, 0, err
		}
		end := w.stoppedAt
		if w.over {
			end = w.to
		}
		if to = end; w.torn && !w.over {
			to = w.to
		}
		switch {
		case len(ring) < n && !all && begin > f.From:
			continue
		case len(ring) == 0:
			return end, to, nil
		default:
			return ring[oldest], to, nil
		}
	}
}

// lastEntries returns where the last n records begin that the queues of the topics
// and queue ids of f know; all says that they know of none before.
func (d *Dir) lastEntries(f Filter, n int) (from message.Offset, all bool) {
	set, err := d.openQueues()
	if err != nil {
		return 0, true // the log has all that they would tell
	}
	defer func() { _ = set.Close() }() // read-only
	match := newMatcher(f)
	var last, newest []message.Offset
	all = true
	for _, q := range set.Queues() {
		if err := guard(func() error { return appendLast(&newest, q, 1) }); err != nil {
			return 0, true
		}
		if len(f.Topics) > 0 && !match.matchTopic(q.Topic()) || len(f.Queues) > 0 && !slices.Contains(f.Queues, q.ID()) {
			continue
		}
		if err := guard(func() error { return appendLast(&last, q, n) }); err != nil {
			return 0, true
		}
		if len(last) > n {
			slices.Sort(last)
			last = slices.Delete(last, 0, len(last)-n)
			all = false
		}
		all = all && int64(q.Max()-q.Min()) <= int64(n)
	}
	switch {
	case len(last) == 0 && len(newest) > 0:
		return slices.Max(newest), true // such a message can only lie behind what the queues know
	case all || len(last) == 0:
		return 0, true
	default:
		return slices.Min(last), false
	}
}

// appendLast adds the offsets of the last n entries of a queue.
func appendLast(last *[]message.Offset, q *consumequeue.Queue, n int) error {
	for at := max(q.Max()-message.QueueOffset(n), q.Min()); at < q.Max(); {
		es, err := q.Read(at, queueStep)
		if err != nil {
			return err
		}
		for i := range es.Len() {
			if e := es.At(i); e.Valid() {
				*last = append(*last, e.Offset)
			}
		}
		at += message.QueueOffset(es.Len())
		es.Release()
	}
	return nil
}

// logFileAt is the name of the log file that holds an offset, and the position in
// it, as the files are now; the file that will begin there when none holds it.
func (d *Dir) logFileAt(off message.Offset) (name string, at int64, err error) {
	log, err := d.openLog()
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = log.Close() }() // read-only
	if f := log.Files().Find(int64(off)); f != nil {
		return f.Path(), int64(off) - f.Base(), nil
	}
	return filepath.Join(d.log, mappedfile.FileName(int64(off))), 0, nil
}
