// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// OffsetAt returns where in the log the first record begins, in its order, that
// was stored at t or later, and false when there is none. It goes by the store's
// time index, as far as the log agrees with it, and else by the first record of
// each file, as Filter.Since does.
func (d *Dir) OffsetAt(ctx context.Context, t time.Time) (message.Offset, bool, error) {
	log, err := d.openLog()
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	x := d.openTimes()
	if x != nil {
		defer func() { _ = x.Close() }()
	}
	ms := t.Add(time.Millisecond - 1).UnixMilli() // record times are whole milliseconds
	found, err := timeindex.Search(ctx, log, x, log.Appended(), ms)
	return found.Offset, found.OK, unreadable(err)
}

func (d *Dir) timesDir() string { return filepath.Join(d.path, layout.Stele, timeindex.DirName) }

// openTimes opens the time index as it is now. Without one that can be had the
// log is searched by its files.
func (d *Dir) openTimes() *timeindex.Index {
	x, err := timeindex.OpenReadOnly(nil, d.timesDir())
	if err != nil {
		return nil
	}
	return x
}

// TimeIndexOverview is the index in stele/timeindex.
type TimeIndexOverview struct {
	Entries int64 `json:"entries"`
	// From is the offset in the log from which on records are indexed, -1 without
	// entries.
	From    message.Offset `json:"from"`
	Stretch int64          `json:"stretch"` // bytes of log for one entry
	Files   int            `json:"files"`
}

// addTimes fills in what the time index holds.
func (o *Overview) addTimes(d *Dir) {
	x, err := timeindex.OpenReadOnly(nil, d.timesDir())
	var damage *timeindex.DamageError
	if errors.As(err, &damage) {
		o.add(damage)
	}
	if err != nil {
		return
	}
	defer func() { _ = x.Close() }() // read-only
	for _, p := range x.Problems() {
		o.add(p)
	}
	st := x.Stats()
	if st.From >= 0 {
		st.From = max(st.From, o.CommitLog.Min) // entries of what expired may be there still
	}
	o.TimeIndex = &TimeIndexOverview{Entries: st.Entries, From: st.From, Stretch: st.Stretch, Files: st.Files}
}

// Queues returns the queues of one topic, sorted by id: their bounds and the time
// that they span. It reads two records of each. A topic that there is not has
// none.
func (d *Dir) Queues(ctx context.Context, topic string) ([]QueueOverview, error) {
	set, err := consumequeue.OpenSet(consumequeue.Options{Dir: d.queues(), ReadOnly: true, Tolerant: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = set.Close() }() // read-only: nothing can be lost
	log, err := d.openLog()            // after the queues: then it has every record that they name
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	records := newReader(log)
	defer records.close()
	var all []QueueOverview
	for _, q := range set.Queues() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if q.Topic() != topic {
			continue
		}
		if err := recoverQueue(q); err != nil {
			return nil, err
		}
		v, _, err := queueOverview(q, log, records)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
