// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/latency"
	"github.com/stelelog/stele/message"
)

// DefaultSlowAppend is from where on an append is an event.
const DefaultSlowAppend = 100 * time.Millisecond

// Stage is a place where an append may wait.
type Stage uint8

const (
	// StageNone is no wait at all.
	StageNone Stage = iota
	// StageLock is the append lock. Somebody else held it: one of many producers,
	// or one that itself waited for the next file or a page.
	StageLock
	// StageRoll is the next file of the log. Making it takes the disk some
	// milliseconds; it is made when the file before is a sixteenth full.
	StageRoll
	// StageCopy is a page of the mapping that was not there, or was being written
	// back. Options.Warmup has pages present ahead of need.
	StageCopy
	// StageCommit is a write to the file, with WriteFile.
	StageCommit
	// StageFlush is the disk: a synchronous append waits until it is durable.
	StageFlush
)

var stageNames = [...]string{"none", "lock", "roll", "copy", "commit", "flush"}

// String returns the stage in a word.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return fmt.Sprintf("Stage(%d)", uint8(s))
}

var stageMeanings = [...]string{
	StageNone:   "nothing",
	StageLock:   "the append lock, held by other producers, or by one that waited itself",
	StageRoll:   "the next file of the log, which was not ready",
	StageCopy:   "pages of the log that were cold or being written back; Options.Warmup is there for that",
	StageCommit: "writing to the log's file",
	StageFlush:  "the disk, to be durable",
}

// Wait is how long appends waited at one stage. Only those that waited are in
// it. Percentiles are exact to 1 %.
type Wait struct {
	Count                    int64
	Total                    time.Duration
	P50, P90, P99, P999, Max time.Duration
}

// Waits say where appends waited since the store was opened. A batch counts as
// one append. A wait for the lock holds what the holder waited for, so that the
// stages overlap where there are several producers.
type Waits struct {
	Lock, Roll, Copy, Commit, Flush Wait
}

// Of returns the waits at one stage.
func (w Waits) Of(s Stage) Wait {
	switch s {
	case StageLock:
		return w.Lock
	case StageRoll:
		return w.Roll
	case StageCopy:
		return w.Copy
	case StageCommit:
		return w.Commit
	case StageFlush:
		return w.Flush
	}
	return Wait{}
}

// Stages returns all stages at which an append can wait.
func (w Waits) Stages() []Stage {
	return []Stage{StageLock, StageRoll, StageCopy, StageCommit, StageFlush}
}

// Dominant is the stage at which most time was spent.
func (w Waits) Dominant() Stage {
	most := StageNone
	for _, s := range w.Stages() {
		if w.Of(s).Total > w.Of(most).Total {
			most = s
		}
	}
	return most
}

// String says in a sentence what appends waited for, for whoever asks why the
// store is slow.
func (w Waits) String() string {
	most := w.Dominant()
	if most == StageNone {
		return "no append waited for anything"
	}
	all := time.Duration(0)
	for _, s := range w.Stages() {
		all += w.Of(s).Total
	}
	x := w.Of(most)
	return fmt.Sprintf("appends waited %v in all, %.0f %% of it for %s (%v): %d times, half of them %v at most, one in a hundred %v or more, the longest %v",
		short(all), 100*float64(x.Total)/float64(all), stageMeanings[most], most, x.Count, short(x.P50), short(x.P99), short(x.Max))
}

// short is a duration with three digits.
func short(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}

// SlowAppend is an append, or a batch, that waited for Options.SlowAppend or
// longer. Time that its goroutine did not get a processor is not in it.
type SlowAppend struct {
	Topic    string // of the first message
	QueueID  int32
	Offset   message.Offset
	Messages int
	Bytes    int64
	// Waited is the sum of the stages.
	Waited                          time.Duration
	Lock, Roll, Copy, Commit, Flush time.Duration
	// Err is what the append returned.
	Err error
}

// String says it in a line.
func (a SlowAppend) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "append of %d bytes to %s/%d waited %v:", a.Bytes, a.Topic, a.QueueID, short(a.Waited))
	for i, d := range [...]time.Duration{a.Lock, a.Roll, a.Copy, a.Commit, a.Flush} {
		if d > 0 {
			fmt.Fprintf(&b, " %v %v", StageLock+Stage(i), short(d))
		}
	}
	return b.String()
}

// waitCounts are the histograms behind Stats.Waits.
type waitCounts struct{ lock, roll, copy, commit, flush latency.Histogram }

func (c *waitCounts) waits() Waits {
	return Waits{
		Lock: waitOf(&c.lock), Roll: waitOf(&c.roll), Copy: waitOf(&c.copy),
		Commit: waitOf(&c.commit), Flush: waitOf(&c.flush),
	}
}

func waitOf(h *latency.Histogram) Wait {
	s := h.Summary()
	return Wait{Count: s.Count, Total: s.Total, P50: s.P50, P90: s.P90, P99: s.P99, P999: s.P999, Max: s.Max}
}

// waited is where the append that owns p waited.
type waited struct {
	log   commitlog.Waits
	flush time.Duration
}

// any reports whether it waited at all; most don't.
func (w *waited) any() bool {
	return w.log.Lock|w.log.Roll|w.log.Copy|w.log.Commit|w.flush != 0
}

// noteWaits counts where an append waited whose first message went to first.
func (s *Store) noteWaits(p *pending, first *AppendResult, err error) {
	w := &p.waited
	if !w.any() {
		return
	}
	c := &s.waits
	sum := time.Duration(0)
	for _, stage := range [...]struct {
		counts *latency.Histogram
		took   time.Duration
	}{
		{&c.lock, w.log.Lock}, {&c.roll, w.log.Roll}, {&c.copy, w.log.Copy}, {&c.commit, w.log.Commit}, {&c.flush, w.flush},
	} {
		if stage.took > 0 {
			stage.counts.Record(stage.took)
			sum += stage.took
		}
	}
	if s.o.SlowAppend < 0 || sum < s.o.SlowAppend {
		return
	}
	slow := SlowAppend{
		Waited: sum, Lock: w.log.Lock, Roll: w.log.Roll, Copy: w.log.Copy, Commit: w.log.Commit, Flush: w.flush,
		Messages: max(len(p.items), 1), Bytes: int64(len(p.buf)), Err: err,
		Topic: first.Topic, QueueID: first.QueueID, Offset: first.Offset,
	}
	s.o.Logger.Warn("slow append", "what", slow.String())
	if f := s.o.Events.SlowAppend; f != nil {
		f(slow)
	}
}
