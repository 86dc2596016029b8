// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// verb is what a step of a history does. What exactly, its seed says.
type verb string

const (
	// With or without an open store.
	doTrap       verb = "trap"       // a power cut or a kill at one of the next disk operations
	doFault      verb = "fault"      // one of the next disk operations fails, or all from then on
	doWriteFault verb = "writefault" // the same for what only some write paths do
	doFull       verb = "full"       // the disk has room for little more
	doHeal       verb = "heal"       // no faults, room enough

	// Without.
	doOpen     verb = "open"
	doRmQueues verb = "rmqueues" // the consume queues are gone
	doRmIndex  verb = "rmindex"  // the key index is gone
	doRmStele  verb = "rmstele"  // Stele's own directory is gone
	doRmTimes  verb = "rmtimes"  // the time index is gone, or damaged

	// With.
	doAppend    verb = "append"
	doBatch     verb = "batch"
	doBurst     verb = "burst" // several appends at a time
	doFlush     verb = "flush"
	doFetch     verb = "fetch"
	doFollow    verb = "follow"
	doGet       verb = "get"
	doQuery     verb = "query"   // by key
	doTagged    verb = "tagged"  // a fetch by tag
	doAt        verb = "at"      // a search by time
	doCommit    verb = "commit"  // a consumer offset
	doOffsets   verb = "offsets" // SyncOffsets
	doTopic     verb = "topic"
	doWriteback verb = "writeback"
	doRest      verb = "rest" // until everything in the background is done
	doPass      verb = "pass" // time passes: what runs by the clock, runs
	doExpire    verb = "expire"
	doDelay     verb = "delay"  // a message for later
	doCancel    verb = "cancel" // one of these
	doLater     verb = "later"  // so much time passes that some are delivered
	doClose     verb = "close"
	doKill      verb = "kill"
	doCut       verb = "cut"
)

// step is one step of a history: a verb and the seed of its details. A step that
// makes no sense where it stands is passed over, so that every part of a
// history is one too.
type step struct {
	do   verb
	seed uint32
}

// script is a history. Its text, "open:1f append:2 cut:3", is what a failure
// prints and a row of knownScripts holds.
type script []step

func (sc script) String() string {
	words := make([]string, len(sc))
	for i, st := range sc {
		words[i] = fmt.Sprintf("%s:%x", st.do, st.seed)
	}
	return strings.Join(words, " ")
}

func parseScript(text string) (script, error) {
	var sc script
	for word := range strings.FieldsSeq(text) {
		do, hex, _ := strings.Cut(word, ":")
		seed, err := strconv.ParseUint(hex, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", word, err)
		}
		sc = append(sc, step{verb(do), uint32(seed)})
	}
	return sc, nil
}

// weighted are verbs, each as often as it is to be drawn.
func weighted(counts map[verb]int) (all []verb) {
	verbs := make([]verb, 0, len(counts))
	for v := range counts {
		verbs = append(verbs, v)
	}
	slices.Sort(verbs)
	for _, v := range verbs {
		for range counts[v] {
			all = append(all, v)
		}
	}
	return all
}

var (
	useVerbs = weighted(map[verb]int{
		doAppend: 60, doBatch: 8, doBurst: 4, doFlush: 5, doFetch: 6, doFollow: 3, doGet: 3, doQuery: 3, doTagged: 3, doAt: 3,
		doCommit: 6, doOffsets: 2, doTopic: 1, doWriteback: 6, doRest: 8, doPass: 8, doExpire: 4,
	})
	delayVerbs = weighted(map[verb]int{
		doDelay: 30, doAppend: 8, doBatch: 2, doCancel: 8, doLater: 10, doFlush: 5, doOffsets: 2, doWriteback: 5, doRest: 6, doPass: 6,
	})
	endVerbs = weighted(map[verb]int{doClose: 3, doKill: 3, doCut: 6})
)

// kind is what a history tries a store with.
type kind int

const (
	powerCuts kind = iota
	withFaults
	// Messages for later, with and without faults.
	delays
	delayFaults
)

func (k kind) String() string {
	return [...]string{"power cuts", "faults", "delays", "delays and faults"}[k]
}

func (k kind) faults() bool { return k == withFaults || k == delayFaults }

// verbs are those that a history of the kind draws from.
func (k kind) verbs() []verb {
	if k >= delays {
		return delayVerbs
	}
	return useVerbs
}

// newScript draws a history. The same seed gives the same one.
func newScript(k kind, seed uint64) script {
	rng := rand.New(rand.NewPCG(seed, uint64(k)))
	var sc script
	add := func(do verb) { sc = append(sc, step{do, rng.Uint32()}) }
	for range 2 + rng.IntN(4) {
		if k.faults() && rng.IntN(4) == 0 {
			add([]verb{doFault, doFault, doFull, doWriteFault}[rng.IntN(4)])
		}
		if rng.IntN(4) == 0 {
			add(doTrap)
		}
		add(doOpen)
		if k.faults() && rng.IntN(8) > 0 {
			add(doHeal) // what was for the opening; a store that did not open gets another try
			add(doOpen)
		}
		if rng.IntN(2) == 0 {
			add(doTrap)
		}
		for range rng.IntN(30) {
			if k.faults() && rng.IntN(12) == 0 {
				add([]verb{doFault, doFault, doFault, doWriteFault, doFull, doHeal}[rng.IntN(6)])
			}
			add(k.verbs()[rng.IntN(len(k.verbs()))])
		}
		if rng.IntN(3) == 0 {
			add(doTrap)
		}
		add(endVerbs[rng.IntN(len(endVerbs))])
		if rng.IntN(12) == 0 {
			add(doRmQueues)
		}
		if rng.IntN(15) == 0 {
			add(doRmIndex)
		}
		if rng.IntN(20) == 0 {
			add(doRmStele)
		}
		if rng.IntN(12) == 0 {
			add(doRmTimes)
		}
	}
	return sc
}

// shrink returns the shortest part of a script that it finds for which fails
// still holds. It asks so many times at most.
func shrink(sc script, most int, fails func(script) bool) script {
	for size := (len(sc) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(sc); {
			if most--; most < 0 {
				return sc
			}
			less := slices.Delete(slices.Clone(sc), at, min(at+size, len(sc)))
			if len(less) > 0 && fails(less) {
				sc = less
			} else {
				at += size
			}
		}
	}
	return sc
}
