// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/warmup"
)

// WarmOptions says how files are warmed up ahead of the write position. The
// zero value warms nothing up.
type WarmOptions struct {
	// Plan is what is done with each stretch; Off, Default and no lock are
	// nothing.
	Plan warmup.Plan
	// Window is how many bytes ahead of the write position are kept warm, from
	// the first append on. 0 is everything that is there: the last file, from
	// Start on, and the next one as soon as it is made.
	Window int64
	// OnWarm is called by the goroutine that warms up, once for each file that it
	// is done with, and at the first refusal of each step.
	OnWarm func(WarmInfo)
}

func (o *WarmOptions) wanted() bool {
	return o.Plan.Mode == warmup.Touch || o.Plan.Mode == warmup.Populate || o.Plan.Lock || o.Plan.Advise != warmup.NoAdvice
}

// LockNeed is how many bytes are locked at most: with a window three times that,
// since it is moved by a part of itself, and since the beginning of the next file
// is locked, too; else two files.
func (o *WarmOptions) LockNeed(fileSize int64) int64 {
	switch {
	case !o.Plan.Lock:
		return 0
	case o.Window > 0:
		return min(3*o.Window, 2*fileSize)
	}
	return 2 * fileSize
}

// SettleWarmUp asks the system, before Start, for what Options.Warm wants, and
// takes out of it what it would refuse. It returns that; nothing is warmed up or
// locked yet. What is refused later is told to OnWarm.
func (l *Log) SettleWarmUp() []warmup.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.o.Warm
	var r warmup.Result
	if err := warmup.CanLock(w.LockNeed(l.FileSize())); err != nil {
		r.Refuse(warmup.StepLock, err)
		w.Plan.Lock = false
	}
	if w.Plan.Mode == warmup.Populate {
		if err := warmup.CanPopulate(); err != nil {
			r.Refuse(warmup.StepPopulate, err)
			w.Plan.Mode = warmup.Touch
		}
	}
	return r.Refused
}

// WarmInfo says what warming up one file did so far.
type WarmInfo struct {
	Path   string
	Base   message.Offset // of the file
	Done   bool           // nothing more will be done with it: it is warm, or full
	Result warmup.Result
	// Err is why it was given up, or nil: the file was cut, or its disk failed. An
	// append that meets the place will fail.
	Err error
}

// warmer is the goroutine that keeps what is ahead of the write position warm.
// An append never waits for it: a file that is not warm yet is taken as it is,
// and the warmer works on ahead of it or lets it go.
type warmer struct {
	log    *Log
	o      WarmOptions
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	// at is the position from which on an append wakes the goroutine.
	at   atomic.Int64
	kick chan struct{}

	mu    sync.Mutex    // a leaf
	fresh []*warmFile   // files that were made since the goroutine looked
	sum   warmup.Result // of all files; Locked is what is locked now

	// The goroutine's own.
	files  []*warmFile // in order; from the one that is written to on
	first  int64       // where the log was started
	target int64       // up to where it should be warm
}

// warmFile is a file and the reference that keeps it mapped.
type warmFile struct {
	view     mappedfile.View
	file     *mappedfile.File
	done     bool
	warm     int64 // positions below it are warm, or were not when they were written
	unlocked int64 // positions below it are not locked any more
	result   warmup.Result
}

// never is a position that no append reaches.
const never = math.MaxInt64

func newWarmer(l *Log, end int64) *warmer {
	w := &warmer{log: l, o: l.o.Warm, kick: make(chan struct{}, 1), first: end}
	if w.o.Window > 0 {
		// So that several slices fit in the part by which a window is moved.
		w.o.Plan.Slice = min(max(w.o.Window/8, pageSize), warmup.DefaultSlice)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.at.Store(never)
	return w
}

// add hands over a file. It may be called before the goroutine runs, and by the
// allocator.
func (w *warmer) add(f *mappedfile.File) {
	v, err := f.View(0, f.Size())
	if err != nil {
		return // it is going already
	}
	w.mu.Lock()
	w.fresh = append(w.fresh, &warmFile{view: v, file: f})
	w.mu.Unlock()
	w.wake()
}

// wake makes the goroutine look again.
func (w *warmer) wake() {
	select {
	case w.kick <- struct{}{}:
	default: // it is about to
	}
}

// appended is called under the append lock when the log has grown to end.
func (w *warmer) appended(end int64) {
	if end >= w.at.Load() {
		w.at.Store(never)
		w.wake()
	}
}

func (w *warmer) run() {
	for {
		f, from, to := w.next()
		if f != nil {
			w.warm(f, from, to)
		} else {
			select {
			case <-w.ctx.Done():
			case <-w.kick:
			}
		}
		if w.ctx.Err() != nil {
			return
		}
	}
}

// stop ends the goroutine, waits for it and gives up all files. Nothing may be
// added any more.
func (w *warmer) stop() {
	w.cancel()
	w.done.Wait()
	w.takeFresh()
	w.letGo(never)
}

// next returns the stretch (positions in a file) that is to be warmed up now, or
// nil and sees to it that appends wake the goroutine when there is one.
func (w *warmer) next() (f *warmFile, from, to int64) {
	for {
		pos := w.log.appended.Load()
		w.takeFresh()
		w.letGo(pos)
		w.aim(pos)
		if f, from, to = w.stretch(pos); f != nil {
			return f, from, to
		}
		at := w.wakeAt(pos)
		w.at.Store(at)
		if w.log.appended.Load() < at {
			return nil, 0, 0
		}
		// An append came before it could know.
	}
}

// aim moves target, up to where it should be warm. With a window that is done
// when half of it is used up, so that the goroutine wakes rarely.
func (w *warmer) aim(pos int64) {
	window := w.o.Window
	if window <= 0 {
		w.target = never
		return
	}
	if pos <= w.first {
		return // nothing was appended yet
	}
	if edge := w.edge(pos); edge >= w.target && edge-pos <= window/2 {
		w.target = pos + window
	}
}

// edge is the end of what is warm from pos on.
func (w *warmer) edge(pos int64) int64 {
	for _, f := range w.files {
		base := f.file.Base()
		if base > pos || pos >= f.file.End() {
			continue
		}
		if pos = max(pos, base+f.warm); pos < f.file.End() {
			break
		}
	}
	return pos
}

// wakeAt is the write position at which aim has something to do again, when
// everything is done that could be.
func (w *warmer) wakeAt(pos int64) int64 {
	switch edge := w.edge(pos); {
	case w.o.Window <= 0:
		return never
	case w.target == 0:
		return w.first + 1 // with the first append
	case edge < w.target:
		return never // for want of a file: see add
	default:
		return edge - w.o.Window/2
	}
}

// stretch is the next slice below target that is not warm. With a window the
// beginnings of the files behind it are next, while there is time: a writer at
// full speed is faster than the window, and the first page of a file is the most
// expensive one, because the kernel reads ahead of it.
func (w *warmer) stretch(pos int64) (f *warmFile, from, to int64) {
	for _, f := range w.files {
		base, size := f.file.Base(), f.file.Size()
		from := max(f.warm, (pos-base)/pageSize*pageSize)
		until := size
		if w.target != never {
			until = w.target - base
			if base > pos && w.target > 0 {
				until = max(until, w.o.Window)
			}
		}
		if to := min(from+w.slice(), until, size); !f.done && from < to {
			return f, from, to
		}
	}
	return nil, 0, 0
}

func (w *warmer) slice() int64 {
	if w.o.Plan.Slice > 0 {
		return w.o.Plan.Slice
	}
	return warmup.DefaultSlice
}

// takeFresh puts the new files in line. One that was made again, because it
// could not be used the first time, takes the place of the old one.
func (w *warmer) takeFresh() {
	w.mu.Lock()
	fresh := w.fresh
	w.fresh = nil
	w.mu.Unlock()
	for _, f := range fresh {
		for len(w.files) > 0 && w.files[len(w.files)-1].file.Base() >= f.file.Base() {
			w.drop(len(w.files)-1, false)
		}
		w.files = append(w.files, f)
	}
}

// letGo gives up the files below pos, and unlocks what was written.
func (w *warmer) letGo(pos int64) {
	for len(w.files) > 0 && w.files[0].file.End() <= pos {
		w.drop(0, pos != never)
	}
	if len(w.files) > 0 && w.o.Window > 0 {
		f := w.files[0]
		if to := (pos - f.file.Base()) / pageSize * pageSize; to-f.unlocked > w.o.Window/2 {
			w.unlock(f, to)
		}
	}
}

// drop gives up one file; passed says that it is full.
func (w *warmer) drop(i int, passed bool) {
	f := w.files[i]
	w.files = append(w.files[:i], w.files[i+1:]...)
	w.unlock(f, f.file.Size())
	if !f.done && passed {
		w.report(f, true, nil)
	}
	f.view.Release()
}

// unlock ends the locks below to.
func (w *warmer) unlock(f *warmFile, to int64) {
	if f.result.Locked == 0 || f.unlocked >= to {
		return
	}
	n := min(f.result.Locked, to-f.unlocked)
	if err := f.file.Unlock(f.unlocked, to); err != nil {
		return // it stays locked until it is unmapped
	}
	f.unlocked = to
	f.result.Locked -= n
	w.mu.Lock()
	w.sum.Locked -= n
	w.mu.Unlock()
}

// warm works on one stretch.
func (w *warmer) warm(f *warmFile, from, to int64) {
	var r warmup.Result
	err := mappedfile.Guard(func() (err error) {
		r, err = f.file.Warm(w.ctx, w.o.Plan, from, to)
		return err
	})
	before := len(f.result.Refused)
	f.result.Add(r)
	w.mu.Lock()
	known := len(w.sum.Refused)
	w.sum.Add(r)
	news := len(w.sum.Refused) > known
	w.mu.Unlock()
	f.warm = to
	w.dontAskAgain(f.result.Refused[before:])
	switch {
	case w.ctx.Err() != nil:
	case err != nil:
		f.done = true
		w.report(f, true, err)
	case to == f.file.Size():
		f.done = true
		w.report(f, true, nil)
	case news:
		w.report(f, false, nil)
	}
}

// dontAskAgain takes what was refused out of the plan.
func (w *warmer) dontAskAgain(refused []warmup.Refusal) {
	for _, r := range refused {
		switch r.Step {
		case warmup.StepLock:
			w.o.Plan.Lock = false
		case warmup.StepPopulate:
			w.o.Plan.Mode = warmup.Touch
		case w.o.Plan.Advise.String():
			w.o.Plan.Advise = warmup.NoAdvice
		}
	}
}

func (w *warmer) report(f *warmFile, done bool, err error) {
	if w.o.OnWarm == nil {
		return
	}
	w.o.OnWarm(WarmInfo{
		Path: f.file.Path(), Base: message.Offset(f.file.Base()), Done: done, Result: f.result, Err: err,
	})
}

// Warmed says what warming up did since Start; Locked is what is locked now.
func (l *Log) Warmed() warmup.Result {
	l.mu.Lock()
	w := l.warmer
	l.mu.Unlock()
	if w == nil {
		return warmup.Result{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.sum
	sum.Refused = append([]warmup.Refusal(nil), sum.Refused...)
	return sum
}
