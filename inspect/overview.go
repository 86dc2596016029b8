// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Overview says what is in a store. Times are in milliseconds since the Unix
// epoch, 0 where there is none.
type Overview struct {
	Path      string          `json:"path"`
	CommitLog LogOverview     `json:"commitLog"`
	Topics    []TopicOverview `json:"topics"` // sorted by name
	Queues    []QueueOverview `json:"queues"` // sorted by topic and id
	Parts     []PartOverview  `json:"parts"`  // log, queues, index: their files
	// Reached is how far stele/marks says that the log came, nil without them.
	Reached *message.Offset `json:"reached"`
	// Groups are empty until AddGroupOffset.
	Groups     []GroupOverview   `json:"groups"`
	Checkpoint *CheckpointValues `json:"checkpoint"` // nil without a file
	Abort      *Abort            `json:"abort"`      // nil without a file
	Config     []string          `json:"config"`     // the files in config/
	Stele      bool              `json:"stele"`      // Stele's own directory is there
	// TimeIndex is nil without one that can be read.
	TimeIndex *TimeIndexOverview `json:"timeIndex"`
	// NotShown names what is there and not looked at by this package.
	NotShown []string `json:"notShown"`
	// Problems are what was found to be wrong on the way. It is not the result
	// of a check: most damage shows only to who reads everything.
	Problems []Problem `json:"problems"`
}

// LogOverview is the commit log.
type LogOverview struct {
	Dir      string         `json:"dir"`
	Files    int            `json:"files"`
	FileSize int64          `json:"fileSize"` // bytes
	Min      message.Offset `json:"min"`
	// Max is the offset behind the last record.
	Max            message.Offset `json:"max"`
	FirstStoreTime int64          `json:"firstStoreTime"`
	LastStoreTime  int64          `json:"lastStoreTime"`
}

// TopicOverview sums up the queues of a topic.
type TopicOverview struct {
	Topic          string `json:"topic"`
	Queues         int    `json:"queues"`
	Entries        int64  `json:"entries"`
	FirstStoreTime int64  `json:"firstStoreTime"`
	LastStoreTime  int64  `json:"lastStoreTime"`
}

// QueueOverview is one consume queue.
type QueueOverview struct {
	Topic          string              `json:"topic"`
	Queue          int32               `json:"queueId"`
	Min            message.QueueOffset `json:"min"`
	Max            message.QueueOffset `json:"max"`
	Entries        int64               `json:"entries"`
	FirstStoreTime int64               `json:"firstStoreTime"`
	LastStoreTime  int64               `json:"lastStoreTime"`
}

// CheckpointValues are the times and offsets in the checkpoint file.
type CheckpointValues struct {
	Log           int64          `json:"log"`
	Queues        int64          `json:"queues"`
	Index         int64          `json:"index"`
	MasterFlushed message.Offset `json:"masterFlushed"`
	Confirmed     message.Offset `json:"confirmed"`
}

// Abort is the file that is there while a store is open, and after a crash.
type Abort struct {
	// PID is what the file holds, 0 when that is no number.
	PID int `json:"pid"`
	// Alive says that a process of that number runs on this machine now. It
	// need not be the one that is meant.
	Alive bool `json:"alive"`
}

// Problem is an error as text in JSON.
type Problem struct{ Err error }

// Error implements error.
func (p Problem) Error() string { return p.Err.Error() }

// Unwrap returns the error.
func (p Problem) Unwrap() error { return p.Err }

// MarshalJSON implements json.Marshaler.
func (p Problem) MarshalJSON() ([]byte, error) { return appendText(nil, p.Error()), nil }

// Overview looks at the directory and reads little: of each queue its last file
// and two records, of the log what lies behind the last record that a queue
// names. What is wrong with the store is in Overview.Problems; the error is
// that of ctx, ErrUnreadable, or what the file system said.
func (d *Dir) Overview(ctx context.Context) (*Overview, error) {
	o := &Overview{
		Path: d.path, CommitLog: LogOverview{Dir: d.log},
		Topics: []TopicOverview{}, Queues: []QueueOverview{}, Groups: []GroupOverview{}, Config: []string{}, NotShown: []string{}, Problems: []Problem{},
	}
	set, err := d.openQueues()
	if err := o.problem(err); err != nil {
		return nil, err
	}
	if set != nil {
		defer func() { _ = set.Close() }() // read-only: nothing can be lost
		for _, err := range set.Problems() {
			o.add(err)
		}
	}
	// The log is listed after the queues: then it has every record that they
	// name.
	log, err := d.openLog()
	if err := o.problem(err); err != nil {
		return nil, err
	}
	if log != nil {
		defer func() { _ = log.Close() }()
		for _, err := range log.Files().Problems() {
			o.add(err)
		}
	}
	last, err := o.addQueues(ctx, set, log)
	if err != nil {
		return nil, err
	}
	if log != nil {
		if err := o.addLog(ctx, d, log, last); err != nil {
			return nil, err
		}
	}
	o.addTimes(d)
	if err := o.addParts(ctx, d); err != nil {
		return nil, err
	}
	return o, o.addFiles(d.path)
}

// problem files an error under Problems if it is about the store, and returns
// any other.
func (o *Overview) problem(err error) error {
	var file *mappedfile.FileError
	var damage *DamageError
	var corrupt *commitlog.CorruptError
	if errors.As(err, &file) || errors.As(err, &damage) || errors.As(err, &corrupt) {
		o.add(err)
		return nil
	}
	return err
}

// add files an error under Problems, once.
func (o *Overview) add(err error) {
	for _, p := range o.Problems {
		if p.Error() == err.Error() {
			return
		}
	}
	o.Problems = append(o.Problems, Problem{err})
}

// addQueues fills in the queues and topics. It returns the last entry of all
// queues whose record is there. set and log may be nil.
func (o *Overview) addQueues(ctx context.Context, set *consumequeue.Set, log *commitlog.Log) (last consumequeue.Entry, err error) {
	if set == nil {
		return last, nil
	}
	var records *reader
	if log != nil {
		records = newReader(log)
		defer records.close()
	}
	for _, q := range set.Queues() {
		if ctx.Err() != nil {
			return last, context.Cause(ctx)
		}
		v, newest, err := queueOverview(q, log, records)
		if err != nil {
			return last, err
		}
		o.addQueue(v)
		if v.LastStoreTime != 0 && newest.Offset >= last.Offset {
			last = newest
		}
	}
	return last, nil
}

// queueOverview looks at one queue; newest is its last entry.
func queueOverview(q *consumequeue.Queue, log *commitlog.Log, records *reader) (v QueueOverview, newest consumequeue.Entry, err error) {
	err = guard(func() error {
		if log != nil {
			if err := q.CorrectMin(log.Min()); err != nil {
				return err
			}
		}
		v = QueueOverview{Topic: q.Topic(), Queue: q.ID(), Min: q.Min(), Max: q.Max(), Entries: int64(q.Max() - q.Min())}
		if log == nil || v.Entries == 0 {
			return nil
		}
		first, err := q.EntryAt(v.Min)
		for errors.Is(err, consumequeue.ErrOffsetOutOfRange) && v.Min < q.Min() && q.Min() < v.Max {
			// The owner removed the file meanwhile.
			v.Min, v.Entries = q.Min(), int64(v.Max-q.Min())
			first, err = q.EntryAt(v.Min)
		}
		if err != nil {
			return err
		}
		if newest, err = q.EntryAt(v.Max - 1); err != nil {
			return err
		}
		v.FirstStoreTime, v.LastStoreTime = records.storeTime(first), records.storeTime(newest)
		return nil
	})
	return v, newest, err
}

// addQueue adds a queue to the list and to its topic, which comes in order.
func (o *Overview) addQueue(v QueueOverview) {
	o.Queues = append(o.Queues, v)
	n := len(o.Topics)
	if n == 0 || o.Topics[n-1].Topic != v.Topic {
		o.Topics = append(o.Topics, TopicOverview{Topic: v.Topic})
		n++
	}
	t := &o.Topics[n-1]
	t.Queues++
	t.Entries += v.Entries
	if v.FirstStoreTime != 0 && (t.FirstStoreTime == 0 || v.FirstStoreTime < t.FirstStoreTime) {
		t.FirstStoreTime = v.FirstStoreTime
	}
	t.LastStoreTime = max(t.LastStoreTime, v.LastStoreTime)
}

// addLog fills in the commit log. Its end lies behind the last record that a
// queue names, often at once; where no queue helps, the last file with records
// is read.
func (o *Overview) addLog(ctx context.Context, d *Dir, log *commitlog.Log, last consumequeue.Entry) error {
	l := &o.CommitLog
	l.Files, l.FileSize, l.Min, l.Max = log.Files().Len(), log.FileSize(), log.Min(), log.Min()
	if l.Files == 0 {
		return nil
	}
	start := last.Offset
	if last.Size == 0 {
		err := guard(func() error {
			start = lastUsed(log.Files().Files())
			return nil
		})
		if err != nil {
			return err
		}
	}
	for rec, err := range d.Messages(ctx, Filter{Limit: 1}) {
		if err == nil {
			l.FirstStoreTime = rec.StoreTimestamp
		} else if err := o.problem(err); err != nil {
			return err
		}
	}
	for rec, err := range d.Messages(ctx, Filter{From: start}) {
		if err == nil {
			l.Max, l.LastStoreTime = rec.PhysicalOffset+message.Offset(rec.Size), rec.StoreTimestamp
		} else if err := o.problem(err); err != nil {
			return err
		}
	}
	return nil
}

// lastUsed is the base of the last file that begins with a record, or of the
// first file: behind it may lie files that were made ahead of need.
func lastUsed(files []*mappedfile.File) message.Offset {
	for i := len(files) - 1; i > 0; i-- {
		if _, ok := firstStoreTime(files[i]); ok {
			return message.Offset(files[i].Base())
		}
	}
	return message.Offset(files[0].Base())
}
