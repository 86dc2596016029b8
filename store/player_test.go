// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// player plays a history: it does its steps one by one in a bubble of synctest,
// where time is the test's, and holds the store to its promises.
type player struct {
	t   *probe
	on  *machine
	log []string

	s     *store.Store // nil while none is open
	o     store.Options
	trap  *snare
	sizes [2]int64 // of log and queue files
	plain bool     // all messages alike: an old tail lines up with a new end
	// checks is 0 for records that have both checksums, 1 for the body's only, 2
	// for one or the other.
	checks int

	waits   bool                        // messages are delivered later
	waiting map[message.Offset]*waiting // these messages, by their place in the log

	ledger
	afterCut bool // the machine lost power, or an opening was killed; not opened since
	seen     bool // what the last opening did was looked at
	midWrite bool // some of what was being written may be there, and not its beginning; not opened since
	unmarked bool // Stele's directory was taken away, and the store not opened since
	rebuilds bool // something was done to the files that may cost a rebuild
	dropped  bool // a flush failed
	holed    bool // an unacknowledged message may be missing in the middle
	faulty   bool // something fails, or may fail
	hurt     bool // something failed, or may have, in this opening or for it
	blind    bool // reads may fail too
	everHurt bool // in this history
	stale    bool // an Expire failed: queues may begin before the log
	keep     int  // files of the log that stay when an Expire comes
	flushes  int  // that had failed before this opening
	writes   int  // the same
}

// probe is a testing.TB that keeps the first failure and ends the history with
// it, so that a history can be played again, shorter.
type probe struct {
	testing.TB
	failure string
}

func (*probe) Helper()      {}
func (*probe) Name() string { return "history" }

func (p *probe) Errorf(format string, args ...any) {
	if p.failure == "" {
		p.failure = fmt.Sprintf(format, args...)
	}
}

func (p *probe) FailNow() { panic(brokenPromise{p.failure}) }

// brokenPromise is what a failed check panics with.
type brokenPromise struct{ what string }

// play plays a script and returns what promise was broken, or "", and what
// happened.
func play(t *testing.T, sc script) (failure string, log []string) {
	t.Helper()
	watchdog := time.AfterFunc(3*time.Minute, func() {
		panic("a history does not end: " + sc.String())
	})
	defer watchdog.Stop()
	defer func() {
		if r := recover(); r != nil { // of synctest: everything waits for something, or is left over
			failure = fmt.Sprintf("%v\n%s", r, debug.Stack())
		}
	}()
	synctest.Test(t, func(*testing.T) {
		p := &player{t: &probe{}, on: newMachine(crashdisk.New(), newMeta()), ledger: newLedger(), waits: sc.waits(), waiting: map[message.Offset]*waiting{}}
		defer func() {
			if r := recover(); r != nil {
				failure = p.words(r)
			}
			log = p.log
			p.leave()
		}()
		for _, st := range sc {
			p.step(st)
		}
		p.finish()
	})
	return failure, log
}

func (p *player) words(r any) string {
	if b, ok := r.(brokenPromise); ok {
		return b.what
	}
	return fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
}

func (p *player) say(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

// steps are the steps that need an open store, and are done beside a trap.
var steps = map[verb]func(*player, *rand.Rand){
	doAppend: (*player).doAppend, doBatch: (*player).doBatch, doBurst: (*player).doBurst, doFlush: (*player).doFlush,
	doFetch: (*player).doFetch, doFollow: (*player).doFollow, doGet: (*player).doGet, doQuery: (*player).doQuery, doTagged: (*player).doTagged, doAt: (*player).doAt,
	doCommit: (*player).doCommit, doOffsets: (*player).doOffsets, doTopic: (*player).doTopic,
	doDelay: (*player).doDelayed, doCancel: (*player).doCancelled, doLater: (*player).doLater,
	doWriteback: (*player).doWriteback, doPass: (*player).doPass, doExpire: (*player).doExpire,
}

func (p *player) step(st step) {
	rng := rand.New(rand.NewPCG(uint64(st.seed), 3))
	if do := steps[st.do]; do != nil {
		if p.s != nil && p.perform(func() { do(p, rng) }) {
			p.watermarks()
		}
		return
	}
	switch st.do {
	case doTrap:
		p.setTrap(rng)
	case doFault:
		p.fault(rng)
	case doWriteFault:
		p.writeFault(rng)
	case doFull:
		p.on.disk.SetCapacity(p.on.disk.Used() + int64(rng.IntN(8))*crashdisk.PageSize)
		p.faulty, p.hurt, p.everHurt = true, true, true
		p.say("the disk is full")
	case doHeal:
		p.heal()
	case doOpen:
		if p.s == nil {
			p.open(rng)
		}
	case doRest:
		p.rest()
	case doClose, doKill, doCut:
		if p.s != nil {
			p.end(st.do, rng)
		}
	case doRmQueues, doRmIndex, doRmStele:
		if p.s == nil {
			p.remove(st.do)
		}
	case doRmTimes:
		if p.s == nil {
			p.removeTimes(rng)
		}
	default:
		p.t.Errorf("no verb %q", st.do)
		p.t.FailNow()
	}
}

// snare is a trap that a crash is caught in: at an operation that a seed chose.
type snare struct {
	left    atomic.Int64
	seed    uint64
	kill    bool
	reached chan struct{}
	release chan struct{} // a kill waits here until its clone is taken

	next    *machine // what it left
	durable durable  // what was acknowledged before
}

func (p *player) setTrap(rng *rand.Rand) {
	p.disarm()
	sn := &snare{seed: rng.Uint64(), kill: rng.IntN(3) == 0, reached: make(chan struct{}), release: make(chan struct{})}
	sn.left.Store(int64(1 + rng.IntN(1+rng.IntN(120))))
	p.say("trap: a kill %v in %d operations", sn.kill, sn.left.Load())
	p.trap = sn
	p.on.watch(func(alone bool) {
		if sn.kill && !alone || sn.left.Add(-1) != 0 {
			return
		}
		if !sn.kill {
			sn.durable = p.acknowledged()
			sn.next = p.on.powerCut(sn.seed)
		}
		close(sn.reached)
		if sn.kill {
			<-sn.release
		}
	})
}

// perform does something during which a trap may spring, and reports whether
// the life goes on.
//
// A kill leaves the memory of one moment: the operation that sprang the trap
// stands still until everything else does, and then the clone is taken.
//
// Nothing must be delivered meanwhile: somebody who stands still in mid-delivery
// holds the append lock, and synctest takes nobody for waiting who waits for a lock.
func (p *player) perform(do func()) bool {
	if p.waits && p.trap != nil && p.trap.kill {
		if synctest.Wait(); p.sprung() {
			return false
		}
	}
	done := make(chan any, 1)
	go func() {
		defer func() {
			r := recover()
			if _, ok := r.(brokenPromise); r != nil && !ok {
				r = brokenPromise{p.words(r)}
			}
			done <- r
		}()
		do()
	}()
	var reached chan struct{}
	if p.trap != nil {
		reached = p.trap.reached
	}
	var failed any
	select {
	case failed = <-done:
	case <-reached:
		p.takeKill()
		failed = <-done
	}
	if failed != nil {
		panic(failed)
	}
	return !p.sprung()
}

// takeKill takes the clone of a kill, if that is what the trap is for.
func (p *player) takeKill() {
	if sn := p.trap; sn.kill && sn.next == nil {
		synctest.Wait()
		sn.durable = p.survivesKill()
		sn.next = p.on.killed()
		close(sn.release)
	}
}

// sprung goes on with what the crash left, if one came.
func (p *player) sprung() bool {
	if p.trap == nil {
		return false
	}
	select {
	case <-p.trap.reached:
	default:
		return false
	}
	p.takeKill()
	sn := p.trap
	p.say("the trap springs: kill %v", sn.kill)
	p.crash(sn.next, sn.durable, sn.kill)
	return true
}

// crash leaves the store as it is and goes on with what the crash left.
func (p *player) crash(next *machine, was durable, kill bool) {
	p.rebuilds = p.drops()
	opening := !p.seen
	trapped := p.trap != nil && p.trap.next != nil
	midWrite := !kill || p.o.WritePath != store.WriteMmap && (trapped || p.failedWrites() > p.writes)
	p.leave()
	p.on = next
	p.on.heal() // it has the capacity of the other one
	p.restore(was)
	p.faulty, p.hurt, p.blind = false, false, false
	p.afterCut = p.afterCut || !kill || opening
	p.midWrite = p.midWrite || midWrite
	// Without marks nothing tells a torn tail from damage: everything that can
	// still be read is kept.
	p.holed = p.holed || p.unmarked && midWrite
}

// drops reports whether a flush failed, or the queues may need a rebuild anyway.
// What a failed flush dropped is written again by a kernel when the same bytes
// are stored; crashdisk does not notice that, so queues may lose what they were
// given again, and it may take some openings until that shows.
func (p *player) drops() bool {
	p.dropped = p.dropped || p.on.disk.Failed(crashdisk.OpFlush) > 0
	return p.dropped || p.rebuilds
}

// leave gives up the machine with all that runs on it.
func (p *player) leave() {
	if sn := p.trap; sn != nil {
		p.on.watch(nil)
		if sn.kill && sn.next == nil {
			close(sn.release)
		}
		p.trap = nil
	}
	p.on.heal()
	if p.s != nil {
		_ = p.s.Close() // nobody is interested any more
		p.s = nil
	}
}

// disarm takes an unsprung trap away.
func (p *player) disarm() {
	if p.trap != nil && !p.sprung() {
		p.on.watch(nil)
		close(p.trap.release)
		p.trap = nil
	}
}

func (p *player) open(rng *rand.Rand) {
	p.seen = false
	o := store.Options{
		Disk: p.on.disk, MetaFS: p.on.fs(), FlushInterval: long, FlushThoroughInterval: long,
		CheckpointInterval: long, OffsetInterval: long,
	}
	if p.sizes[0] == 0 {
		p.sizes = [2]int64{int64(4+4*rng.IntN(5)) << 10, []int64{80, queueFileSize, 2000}[rng.IntN(3)]}
		p.plain = rng.IntN(2) == 0
		p.checks = rng.IntN(3)
	}
	o.FileSize, o.QueueFileSize, o.Index = p.sizes[0], p.sizes[1], smallIndex
	o.Flush = store.FlushMode(rng.IntN(2))
	o.PropertyCRC = []store.CRCMode{store.CRCWhole, store.CRCBodyOnly, store.CRCMode(rng.IntN(2))}[p.checks]
	if rng.IntN(2) == 0 {
		o.CheckpointInterval = time.Duration(1+rng.IntN(5)) * time.Millisecond
	}
	if rng.IntN(2) == 0 {
		o.FlushInterval, o.FlushLeastPages = time.Millisecond, -1
	}
	if rng.IntN(2) == 0 {
		o.OffsetInterval = time.Duration(1+rng.IntN(5)) * time.Millisecond
	}
	o.TimeIndex.Stretch = 1024 // else no history gets beyond the first entry
	if rng.IntN(12) == 0 {
		o.TimeIndex.Stretch = 512
	}
	p.expireOptions(&o)
	o.Delay.Levels = "1s 2s 3s"
	if p.waits {
		o.Events.Recovered = func(r store.Recovery) { p.recovered(r.End) }
	}
	o.WritePath, o.PoolBuffers = 1+store.WritePath(rng.IntN(3)), rng.IntN(4)
	// Beside the appends, and interrupted anywhere: it must not show.
	o.Warmup.Mode = []warmup.Mode{warmup.Default, warmup.Off, warmup.Touch, warmup.Populate}[rng.IntN(4)]
	if o.Warmup.Mode != warmup.Off && rng.IntN(2) == 0 {
		o.Warmup.Window = 1 + rng.Int64N(2*p.sizes[0])
	}
	p.flushes, p.writes = p.on.disk.Failed(crashdisk.OpFlush), p.failedWrites()
	p.hurt = p.faulty
	p.everHurt = p.everHurt || p.hurt
	var s *store.Store
	var err error
	on := p.on
	on.opening.Store(true)
	ok := p.perform(func() {
		s, err = store.Open(root, o)
		p.s, p.o = s, o
		on.opening.Store(false)
	})
	p.say("open: %v, %v, warm-up %v, checksums %d, files of %v: %v", o.Flush, o.WritePath, o.Warmup.Mode, o.PropertyCRC, p.sizes, err)
	if !ok {
		return
	}
	if err != nil {
		p.s = nil
		require.True(p.t, p.hurt, "open: %v", err)
		return
	}
	p.say("  it was a %v: %+v", s.Stats().Recovery.Kind, s.Stats().Recovery)
	verify := p.verify
	if p.waits {
		verify = p.verifyDelays
	}
	if p.perform(verify) {
		p.afterCut, p.midWrite, p.unmarked, p.seen = false, false, false, true
		p.rebuilds = false
		p.rebuilds = p.drops()
	}
}

// end ends a life.
func (p *player) end(how verb, rng *rand.Rand) {
	switch how {
	case doClose:
		var err error
		if !p.perform(func() { err = p.s.Close() }) {
			return
		}
		p.disarm()
		if p.s == nil {
			return // the trap sprang in the end
		}
		p.say("close: %v", err)
		s := p.s
		p.s = nil
		if err != nil {
			require.True(p.t, p.hurt, "close: %v", err)
			return
		}
		require.Equal(p.t, s.Stats().Appended, s.Stats().Flushed, "closed and not flushed")
		p.ack(s.Stats().Appended)
		p.ackMeta()
		_, err = p.on.disk.ReadFile(root + "/abort")
		require.Error(p.t, err, "abort is still there")
	case doKill:
		p.rest()
		if p.s != nil {
			p.say("kill")
			p.crash(p.on.killed(), p.survivesKill(), true)
		}
	default:
		p.say("power cut")
		was := p.acknowledged()
		p.crash(p.on.powerCut(rng.Uint64()), was, false)
	}
}

// rest waits until everything in the background is done.
func (p *player) rest() {
	synctest.Wait()
	if p.sprung() || p.s == nil {
		return
	}
	if p.on.disk.Failed(crashdisk.OpFlush) > p.flushes {
		require.ErrorIs(p.t, p.s.Err(), store.ErrPoisoned, "a flush failed")
	}
	if p.failedWrites() > p.writes {
		require.ErrorIs(p.t, p.s.Err(), store.ErrPoisoned, "a commit failed")
	}
	p.watermarks()
	p.restDelays()
}

// failedWrites is how many writes to the log failed.
func (p *player) failedWrites() int {
	return p.on.disk.Failed(crashdisk.OpWrite) + p.on.disk.Failed(crashdisk.OpWriteRest)
}

// writeFault has a write to the log fail, or memory refused or not locked.
func (p *player) writeFault(rng *rand.Rand) {
	p.faulty, p.hurt, p.everHurt = true, true, true
	f := randomFault(rng)
	f.Kind = crashdisk.AnyKind
	f.Op = []crashdisk.Op{
		crashdisk.OpWrite, crashdisk.OpWrite, crashdisk.OpWriteRest, crashdisk.OpMemory, crashdisk.OpLockMemory,
	}[rng.IntN(5)]
	p.say("fault: %+v", f)
	p.on.disk.Inject(f)
}

func (p *player) fault(rng *rand.Rand) {
	p.faulty, p.hurt, p.everHurt = true, true, true
	f := randomFault(rng)
	if rng.IntN(10) == 0 {
		p.say("fault: metadata, after %d, stays %v", f.After, f.Stays)
		p.on.failMeta(f.After, f.Stays, crashErr(f))
		return
	}
	p.blind = p.blind || f.Op == crashdisk.OpOpen || f.Op == crashdisk.OpList || f.Op == crashdisk.OpMkdirAll
	p.say("fault: %+v", f)
	p.on.disk.Inject(f)
}

// heal ends all faults. A store that is not poisoned works again.
func (p *player) heal() {
	if !p.faulty {
		return
	}
	p.say("heal")
	p.on.heal()
	p.faulty, p.blind = false, false
	if p.s == nil {
		p.hurt = false
		return
	}
	if !p.perform(func() { <-time.After(2 * time.Second) }) { // a stalled dispatcher tries again
		return
	}
	p.rest()
	if p.s == nil || p.s.Err() != nil {
		return
	}
	require.NoError(p.t, p.s.Stats().Stalled, "there is room")
	if p.perform(func() {
		p.appendOne(p.newMessage(rand.New(rand.NewPCG(1, 1))), true)
		require.NoError(p.t, p.s.WaitDispatched(context.Background(), p.s.Stats().Flushed))
	}) {
		p.watermarks()
	}
}

// remove takes away what can be rebuilt.
func (p *player) remove(what verb) {
	dir := root + "/consumequeue"
	if what == doRmIndex {
		dir = root + "/index"
	}
	if what == doRmStele {
		dir = root + "/stele"
	}
	p.disarm()
	if _, err := p.on.disk.List(dir); err != nil || p.faulty {
		return
	}
	p.say("remove %s", dir)
	removeTree(p.t, p.on.disk, dir)
	p.rebuilds = p.rebuilds || what != doRmIndex
	p.forgot = p.forgot || what == doRmQueues
	if what == doRmStele {
		p.on = newMachine(p.on.disk, newMeta())
		p.forgetMeta()
		p.unmarked = true
		p.holed = p.holed || p.midWrite
	}
}

// finish opens the store a last time without faults.
func (p *player) finish() {
	p.disarm()
	rng := rand.New(rand.NewPCG(uint64(len(p.log)), 4))
	if p.s != nil {
		p.end([]verb{doKill, doCut}[rng.IntN(2)], rng)
	}
	p.on.heal()
	p.faulty, p.blind = false, false
	if p.sizes[0] == 0 {
		return
	}
	p.open(rng)
	p.finishDelays()
	p.end(doClose, rng)
	require.Empty(p.t, p.on.disk.Unreserved(), "pages without blocks")
}
