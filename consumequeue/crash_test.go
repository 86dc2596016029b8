// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// record is a message of a log that a test keeps in memory: where its entry
// belongs, and the entry.
type record struct {
	queue int32
	at    message.QueueOffset
	e     Entry
}

// life is a store between two crashes: a log, and the queues made from it.
type life struct {
	rng     *rand.Rand
	set     *Set
	log     []record
	next    map[int32]message.QueueOffset // of the next message of a queue
	end     message.Offset                // of the log
	flushed message.Offset                // what the last completed flush covered
	logMin  message.Offset
}

const (
	crashQueues  = 4
	crashEntries = 450 // in a file: three pages
)

func newLife(rng *rand.Rand, s *Set) *life {
	l := &life{rng: rng, set: s, next: map[int32]message.QueueOffset{}}
	for id := range int32(crashQueues) {
		if id%2 == 1 { // begins somewhere
			l.next[id] = message.QueueOffset(rng.Int64N(3 * crashEntries))
		}
	}
	return l
}

// append adds a record to the log and dispatches it.
func (l *life) append() error {
	id := int32(l.rng.IntN(crashQueues))
	if l.rng.IntN(200) == 0 { // messages that the log will never have
		l.next[id] += message.QueueOffset(l.rng.IntN(2 * crashEntries))
	}
	r := record{id, l.next[id], Entry{l.end, 1 + l.rng.Int32N(900), l.rng.Int64()}}
	l.log = append(l.log, r)
	l.end = r.e.End()
	l.next[id]++
	return dispatch(l.set, r)
}

func dispatch(s *Set, r record) error {
	q, err := s.GetOrCreate(topic, r.queue)
	if err != nil {
		return err
	}
	result, err := q.Put(r.at, r.e)
	if result == Gap {
		if err = q.Fill(r.at); err == nil {
			result, err = q.Put(r.at, r.e)
		}
	}
	if err == nil && result != Appended {
		err = fmt.Errorf("%+v: %v", r, result)
	}
	return err
}

func (l *life) flush() error {
	end := l.end
	if err := l.set.Flush(); err != nil {
		return err
	}
	l.flushed = end
	return nil
}

// expire lets the log begin at some flushed record.
func (l *life) expire() error {
	l.logMin = max(l.logMin, message.Offset(l.rng.Int64N(int64(l.flushed)+1)))
	for _, q := range l.set.Queues() {
		if _, err := q.RemoveBefore(l.logMin); err != nil {
			return err
		}
	}
	return nil
}

// live does steps things, as a store would.
func (l *life) live(steps int) error {
	for range steps {
		var err error
		switch n := l.rng.IntN(1000); {
		case n < 4:
			err = l.flush()
		case n < 6 && l.flushed > 0:
			err = l.expire()
		default:
			err = l.append()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// require checks that the queues hold the log up to limit, and nothing else.
func (l *life) require(t *testing.T, s *Set, limit message.Offset, name string) {
	t.Helper()
	want := map[int32][]record{}
	for _, r := range l.log {
		if r.e.End() <= limit {
			want[r.queue] = append(want[r.queue], r)
		}
	}
	for id := range int32(crashQueues) {
		q := s.Get(topic, id)
		if q == nil {
			require.Empty(t, want[id], "%s: queue %d", name, id)
			continue
		}
		require.NoError(t, q.CorrectMin(l.logMin))
		got := map[message.QueueOffset]Entry{}
		at := q.Min()
		for i, e := range all(t, q) {
			if !e.IsBlank() {
				got[at+message.QueueOffset(i)] = e
			}
		}
		n := 0
		for _, r := range want[id] {
			if r.e.Offset < l.logMin {
				require.GreaterOrEqual(t, q.Max(), r.at, "%s: queue %d", name, id)
				continue
			}
			n++
			require.Equal(t, r.e, got[r.at], "%s: queue %d, entry %d", name, id, r.at)
		}
		require.Len(t, got, n, "%s: queue %d", name, id)
		if len(want[id]) > 0 {
			require.Equal(t, want[id][len(want[id])-1].at+1, q.Max(), "%s: queue %d", name, id)
		}
	}
}

// A crash at any operation on the disk, of either kind: what a flush covered is
// there, exactly that; the log brings the rest back; and nothing of the former
// life shows up later.
func TestCrash(t *testing.T) {
	t.Parallel()
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	for _, how := range []Trust{TrustNothing, TrustOrder} {
		for seed := range uint64(seeds) {
			crash(t, seed, how, fmt.Sprintf("seed %d, trust %d", seed, how))
		}
	}
}

func crash(t *testing.T, seed uint64, how Trust, name string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	options := func(o *Options) { o.FileSize = crashEntries * EntrySize }
	disk := crashdisk.New()
	first := newLife(rng, openSet(t, disk, options))
	var after *crashdisk.Disk
	countdown := rng.IntN(80)
	var logged int
	var flushed, logMin message.Offset
	disk.Observe(func(crashdisk.Op, string) {
		if countdown--; countdown == 0 {
			after = cloneFor(disk, how, seed)
			logged, flushed, logMin = len(first.log), first.flushed, first.logMin
		}
	})
	require.NoError(t, first.live(1+rng.IntN(6000)), name)
	disk.Observe(nil)
	if after == nil {
		after = cloneFor(disk, how, seed)
		logged, flushed, logMin = len(first.log), first.flushed, first.logMin
	}

	// The log lost some of what was not flushed.
	second := &life{rng: rng, next: map[int32]message.QueueOffset{}, flushed: flushed, logMin: logMin}
	for _, r := range first.log[:logged] {
		if r.e.End() > flushed && rng.IntN(50) == 0 {
			break
		}
		second.log = append(second.log, r)
		second.end, second.next[r.queue] = r.e.End(), r.at+1
	}

	second.set = openSet(t, after, options)
	require.NoError(t, second.set.Recover(flushed, how, 2), name)
	second.require(t, second.set, flushed, name+", recovered")
	for _, r := range second.log {
		if r.e.Offset >= flushed {
			require.NoError(t, dispatch(second.set, r), name)
		}
	}
	require.NoError(t, second.set.Trim(how, 2), name)
	second.require(t, second.set, second.end, name+", dispatched")

	// Another life goes on from there, and all that is there is its own.
	require.NoError(t, second.live(rng.IntN(3000)), name)
	require.NoError(t, second.flush(), name)
	require.Empty(t, after.Unreserved(), name)
	last := openSet(t, after.CrashClone(seed), options)
	require.NoError(t, last.Recover(everything, TrustNothing, 1), name)
	second.require(t, last, second.end, name+", at last")
}

func cloneFor(d *crashdisk.Disk, how Trust, seed uint64) *crashdisk.Disk {
	if how == TrustOrder {
		return d.KillClone()
	}
	return d.CrashClone(seed)
}
