// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// paths are where the derived parts are made; an empty one is not.
type paths struct{ queues, index, times string }

// feed is queues and indexes while they are made.
type feed struct {
	j      *job
	set    *consumequeue.Set
	queues consumequeue.Feeder
	keys   *keyindex.Set
	times  *timeindex.Index
}

// reached is where a log ended.
type reached struct {
	end       message.Offset // behind the last record
	storeTime int64          // its
	indexTime int64          // what a checkpoint says of the index
	newest    string         // the newest index file
}

// make feeds all readable records of d's log, and returns when what was made is
// durable.
func (j *job) make(d *inspect.Dir, p paths) (at reached, err error) {
	f := &feed{j: j}
	defer func() { err = errors.Join(err, f.close()) }()
	if err = mappedfile.Guard(func() error { return f.open(p) }); err != nil {
		return at, err
	}
	err = j.each(d, func(m *message.Message) error {
		at.end, at.storeTime = m.PhysicalOffset+message.Offset(m.Size), m.StoreTimestamp
		return mappedfile.Guard(func() error { return f.put(m) })
	})
	if err != nil {
		return at, err
	}
	return at, mappedfile.Guard(func() error { return f.finish(&at) })
}

// each calls do for every readable record, and reports what is damaged.
func (j *job) each(d *inspect.Dir, do func(*message.Message) error) error {
	for rec, err := range d.Messages(j.ctx, inspect.Filter{}) {
		if err == nil {
			j.res.Records++
			j.res.Bytes += int64(rec.Size)
			if err := do(rec.Message); err != nil {
				return err
			}
			continue
		}
		var corrupt *commitlog.CorruptError
		var file *mappedfile.FileError
		switch {
		case errors.As(err, &corrupt):
			corrupt.Path = j.original(corrupt.Path)
		case errors.As(err, &file):
			file.Path = j.original(file.Path)
		default:
			return err
		}
		j.damage(err)
	}
	return nil
}

// original is the path in the source of a file of the log that is read as a copy:
// the copy has another name soon.
func (j *job) original(path string) string {
	if path == "" {
		return path
	}
	return filepath.Join(j.CommitLog, filepath.Base(path))
}

func (f *feed) open(p paths) (err error) {
	j := f.j
	f.set, err = consumequeue.OpenSet(consumequeue.Options{Dir: p.queues, Disk: j.disk, FileSize: j.src.queueSize})
	if err != nil {
		return err
	}
	f.queues = consumequeue.Feeder{Set: f.set, Levels: j.Levels, Skip: func(off message.Offset, why error) {
		j.damage(fmt.Errorf("record at offset %d is put in no queue: %w", off, why))
	}}
	if p.index != "" {
		f.keys, err = keyindex.OpenSet(keyindex.Options{Dir: p.index, Disk: j.disk, Sizes: j.src.sizes, Clock: j.Now})
		if err != nil {
			return err
		}
		if _, err = f.keys.Recover(0, keyindex.TrustOrder, ""); err != nil {
			return err
		}
	}
	if p.times != "" {
		f.times, err = timeindex.Open(timeindex.Options{Dir: p.times, Disk: j.disk, Stretch: j.src.stretch})
		if err != nil {
			return err
		}
		_, err = f.times.Recover(j.src.min, j.src.min, nil) // empty as it is
	}
	return err
}

func (f *feed) put(m *message.Message) error {
	if _, err := f.queues.Put(m, false); err != nil {
		return err
	}
	if f.keys != nil {
		if err := f.keys.Put(m); err != nil {
			return err
		}
	}
	if f.times != nil {
		return f.times.Put(m)
	}
	return nil
}

// finish keeps the ends of queues whose messages have expired, makes all durable,
// and lists the queues.
func (f *feed) finish(at *reached) error {
	lo := f.j.src.min
	if err := f.keepEnds(lo); err != nil {
		return err
	}
	if err := f.set.Flush(); err != nil {
		return err
	}
	if f.keys != nil {
		if err := f.keys.Flush(); err != nil {
			return err
		}
		at.indexTime, at.newest = f.keys.Durable().Time, f.keys.Newest()
	}
	if f.times != nil {
		if err := f.times.Flush(); err != nil {
			return err
		}
	}
	return f.list(lo)
}

// keepEnds looks at the old queues that the log says less about. One whose
// messages have all expired keeps its last entry, and with it the number of the
// next message: consumers have counted so far.
func (f *feed) keepEnds(lo message.Offset) error {
	for _, old := range f.j.src.ends {
		q := f.set.Get(old.topic, old.id)
		if q != nil && q.Max() > old.at {
			continue
		}
		if q == nil && old.last.End() <= lo {
			q, err := f.set.GetOrCreate(old.topic, old.id)
			if err == nil {
				_, err = q.Put(old.at, old.last)
			}
			if err != nil {
				return err
			}
			f.j.note("queue %s/%d: all its messages have expired; it goes on at offset %d", old.topic, old.id, old.at+1)
			continue
		}
		now := message.QueueOffset(0)
		if q != nil {
			now = q.Max()
		}
		f.j.note("queue %s/%d ended at offset %d and ends at %d now: the log has no more of it that can be read", old.topic, old.id, old.at+1, now)
	}
	return nil
}

// list counts the entries of each queue.
func (f *feed) list(lo message.Offset) error {
	for _, q := range f.set.Queues() {
		if err := q.CorrectMin(lo); err != nil {
			return err
		}
		row := Queue{Topic: q.Topic(), QueueID: q.ID(), Min: q.Min(), Max: q.Max()}
		for at := q.Min(); at < q.Max(); {
			es, err := q.Read(at, int(q.Max()-at))
			if err != nil {
				return err
			}
			for i := range es.Len() {
				if es.At(i).Valid() {
					row.Entries++
				}
			}
			at += message.QueueOffset(es.Len())
			es.Release()
		}
		f.j.res.Queues = append(f.j.res.Queues, row)
	}
	return nil
}

func (f *feed) close() error {
	var errs []error
	if f.set != nil {
		errs = append(errs, f.set.Close())
	}
	if f.keys != nil {
		errs = append(errs, f.keys.Close())
	}
	if f.times != nil {
		errs = append(errs, f.times.Close())
	}
	return errors.Join(errs...)
}
