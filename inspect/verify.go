// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
)

// Verified sums up what Verify looked at.
type Verified struct {
	Records  int64 `json:"records"` // intact ones in the log
	Bytes    int64 `json:"bytes"`   // that they take
	Queues   int   `json:"queues"`
	Entries  int64 `json:"entries"` // of the queues, expired and blank ones left out
	Findings int64 `json:"findings"`
	Notes    int64 `json:"notes"`
}

// Verify reads everything once and compares it: every record and filler of the
// log with its checksums and place; every record with its entry in its queue,
// and every entry with its record; every key with its entry in the key index, and
// the index's chains, slots and headers; Stele's time index; the checkpoint with the log. What is wrong
// goes to report, in the order in which it is met: the files, the log from its
// first byte, with the index, the queues. One that is damaged hides none behind it.
//
// It writes nothing, takes no lock, and works beside an owner that appends:
// what is not in its queue yet is a Note then. Memory does not grow with the
// log, but with the number of queues and of damaged places. It reads in several
// goroutines, at most eight; report and Options.Progress are called on the caller's.
//
// The error is the first one of report, that of ctx, ErrUnreadable, or what the
// file system said; what report got until then stands.
func (d *Dir) Verify(ctx context.Context, report func(*Finding) error) (Verified, error) {
	v := newVerifier(ctx, d, report)
	err := v.run()
	return v.sum, err
}

func newVerifier(ctx context.Context, d *Dir, report func(*Finding) error) *verifier {
	return &verifier{d: d, ctx: ctx, report: report, queues: map[queueKey]*rawQueue{}, strip: stripSize}
}

// verifier is one run of Verify.
type verifier struct {
	d      *Dir
	ctx    context.Context
	report func(*Finding) error
	sum    Verified

	checkpoint *checkpoint.Checkpoint // nil without a sound one
	abort      *Abort                 // nil without the file
	stele      bool                   // Stele was here
	keys       *keyCheck              // nil when the key index can't be compared
	times      *timeCheck             // nil without a time index
	queues     map[queueKey]*rawQueue
	order      []*rawQueue // sorted by topic and id
	recent     [recentQueues]*rawQueue
	known      message.Offset
	log        *commitlog.Log
	records    *reader
	strip      int64 // how much of the log is read at a time

	damage   []stretch // of the log, in order
	last     message.Message
	pending  int64          // records that wait for the dispatcher
	pendFrom message.Offset // the first of them
	backward int64          // records that are older than the one before them
	worst    int64          // by how many milliseconds at most
	worstAt  message.Offset
}

// stretch is a damaged part of the log.
type stretch struct{ from, to message.Offset }

// maxStretches bounds how many damaged places are remembered, to keep entries
// that point there from being reported once more.
const maxStretches = 1 << 16

func (v *verifier) run() error {
	if err := v.smallFiles(); err != nil {
		return err
	}
	// Queues before the log: then it has every record that they name.
	if err := v.openQueues(); err != nil {
		return err
	}
	defer v.closeQueues()
	if err := v.openKeys(); err != nil {
		return err
	}
	if v.keys != nil {
		defer func() { _ = v.keys.set.Close() }() // read-only: nothing can be lost
	}
	log, err := v.d.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	v.log, v.records = log, newReader(log)
	defer v.records.close()
	if err := v.openTimes(); err != nil {
		return err
	}
	if v.times != nil {
		defer func() { _ = v.times.index.Close() }() // read-only
	}
	if err := v.readLog(); err != nil {
		return err
	}
	for _, q := range v.order {
		if err := v.checkQueue(q); err != nil {
			return err
		}
	}
	if v.keys != nil {
		if err := v.keys.conclude(); err != nil {
			return err
		}
	}
	if v.times != nil {
		if err := v.times.conclude(); err != nil {
			return err
		}
	}
	return v.conclude()
}

// finding reports one.
func (v *verifier) finding(f *Finding) error {
	if f.Note {
		v.sum.Notes++
	} else {
		v.sum.Findings++
	}
	return v.report(f)
}

// smallFiles looks at abort and checkpoint.
func (v *verifier) smallFiles() error {
	var o Overview
	var err error
	if v.stele, err = exists(filepath.Join(v.d.path, layout.Stele)); err != nil {
		return err
	}
	path := filepath.Join(v.d.path, layout.Abort)
	if err := o.addAbort(path); err != nil {
		return err
	}
	if v.abort = o.Abort; v.abort != nil {
		state := "no process of that number runs here: it was not closed in order"
		if v.abort.Alive {
			state = "a process of that number runs here"
		}
		f := Finding{Kind: KindFile, Note: true, File: path, Offset: -1, Detail: fmt.Sprintf("the store is or was open, owner %d; %s", v.abort.PID, state)}
		if err := v.finding(&f); err != nil {
			return err
		}
	}
	path = filepath.Join(v.d.path, layout.Checkpoint)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // RocketMQ makes one at the next start
	}
	if err != nil {
		return err
	}
	c, err := checkpoint.Decode(b)
	if err != nil {
		return v.finding(&Finding{Kind: KindCheckpoint, File: path, Offset: -1, Detail: err.Error()})
	}
	v.checkpoint = &c
	return nil
}

// remember keeps where the log is damaged.
func (v *verifier) remember(err error) {
	var damage *DamageError
	if !errors.As(err, &damage) || len(v.damage) >= maxStretches {
		return
	}
	s := stretch{from: damage.Corrupt.Offset, to: damage.Corrupt.Offset + message.Offset(damage.Skipped)}
	if damage.Skipped == 0 {
		s.to = message.Offset(v.log.Files().End())
	}
	v.damage = append(v.damage, s)
}

// damaged reports whether an offset lies in a part of the log that was reported.
func (v *verifier) damaged(off message.Offset) bool {
	i := sort.Search(len(v.damage), func(i int) bool { return v.damage[i].to > off })
	return i < len(v.damage) && v.damage[i].from <= off
}

// clock notes records that are older than the one before.
func (v *verifier) clock(r *sighting) {
	if back := v.last.StoreTimestamp - r.stored; back > 0 {
		if v.backward++; back > v.worst {
			v.worst, v.worstAt = back, r.offset
		}
	}
	v.last.StoreTimestamp, v.last.PhysicalOffset, v.last.Size = r.stored, r.offset, r.size
}

// conclude reports what is known only at the end.
func (v *verifier) conclude() error {
	var notes []*Finding
	if v.pending > 0 {
		notes = append(notes, &Finding{
			Kind: KindUnqueued, Note: true, Offset: int64(v.pendFrom), File: v.fileAt(v.pendFrom),
			Detail: fmt.Sprintf("the last %d records are not in their queues yet; opening the store puts them there", v.pending),
		})
	}
	if v.backward > 0 {
		notes = append(notes, &Finding{
			Kind: KindRecord, Note: true, Offset: int64(v.worstAt), File: v.fileAt(v.worstAt),
			Detail: fmt.Sprintf("the clock was set back: %d records are older than the one before, by %d ms at most", v.backward, v.worst),
		})
	}
	if f := v.checkCheckpoint(); f != nil {
		notes = append(notes, f)
	}
	for _, f := range notes {
		if err := v.finding(f); err != nil {
			return err
		}
	}
	return nil
}

// checkCheckpoint compares the checkpoint with the newest record. After a crash
// the log may have lost what the checkpoint knew of; what was closed in order
// has lost nothing.
func (v *verifier) checkCheckpoint() *Finding {
	if v.checkpoint == nil {
		return nil
	}
	newest := v.last.StoreTimestamp - v.worst // a clock that was set back may have been right before
	newest = max(newest, v.last.StoreTimestamp+v.worst)
	for _, t := range []struct {
		what string
		ms   int64
	}{{"log", v.checkpoint.Log}, {"queues", v.checkpoint.Queues}, {"index", v.checkpoint.Index}} {
		if t.ms > newest {
			return &Finding{
				Kind: KindCheckpoint, Note: v.abort != nil, File: filepath.Join(v.d.path, layout.Checkpoint), Offset: -1,
				Detail: fmt.Sprintf("it says that the %s was flushed up to time %d, the newest record is of %d", t.what, t.ms, v.last.StoreTimestamp),
			}
		}
	}
	return nil
}

// fileAt is the path of the log file that holds an offset.
func (v *verifier) fileAt(off message.Offset) string {
	if f := v.log.Files().Find(int64(off)); f != nil {
		return f.Path()
	}
	return ""
}
