// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	historySeed  = flag.Uint64("histories.seed", 1, "seed of the first random history")
	historyCount = flag.Int("histories", 500, "how many random histories of each kind; 200 at most with -short, 60 with -race")
	historyText  = flag.String("history", "", "a history to play, as a failure prints it")
	torture      = flag.Bool("torture", false, "random histories without end")
)

// TestHistories plays random histories of a store. After each opening what was
// promised must hold.
func TestHistories(t *testing.T) {
	t.Parallel()
	n := *historyCount
	switch {
	case raceEnabled: // ten times as long for each; the others are played without
		n = min(n, 60)
	case testing.Short():
		n = min(n, 200)
	}
	for _, k := range []kind{powerCuts, withFaults, delays, delayFaults} {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			n := n
			if k >= delays {
				n = max(1, n/5) // seconds pass in each, with all that runs by the clock
			}
			begin := time.Now()
			failed := playMany(t, k, *historySeed, func(i int) bool { return i < n })
			t.Logf("%d histories with %v, %d with a broken promise, %.0f a second", n, k, failed, float64(n)/time.Since(begin).Seconds())
		})
	}
}

// TestTorture plays random histories until it is interrupted, and says from time
// to time how many it was.
func TestTorture(t *testing.T) {
	if !*torture {
		t.Skip("no -torture")
	}
	stop, end := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer end()
	first := *historySeed
	if first == 1 {
		first = rand.Uint64() >> 1
	}
	const round = 1000
	begin := time.Now()
	for done := 0; stop.Err() == nil && !t.Failed(); {
		for _, k := range []kind{powerCuts, withFaults, delays, delayFaults} {
			var played atomic.Int64 // several ask at a time
			playMany(t, k, first, func(i int) bool {
				more := i < round && stop.Err() == nil
				if more {
					played.Add(1)
				}
				return more
			})
			done += int(played.Load())
		}
		first += round
		fmt.Fprintf(os.Stderr, "%d histories in %v, next seed %d\n", done, time.Since(begin).Round(time.Second), first)
	}
}

// playMany plays the histories of seeds from first on as long as more says,
// some at a time, and fails the test for each one that breaks a promise.
func playMany(t *testing.T, k kind, first uint64, more func(i int) bool) (failed int) {
	t.Helper()
	var next, bad atomic.Int64
	t.Run("play", func(t *testing.T) { // ends when all workers have
		for w := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				for bad.Load() < 5 {
					i := int(next.Add(1) - 1)
					if !more(i) {
						return
					}
					seed := first + uint64(i)
					sc := newScript(k, seed)
					if failure, log := play(t, sc); failure != "" {
						bad.Add(1)
						t.Error(report(t, fmt.Sprintf("%v, seed %d", k, seed), sc, failure, log))
					}
				}
			})
		}
	})
	return int(bad.Load())
}

// report says what is wrong with a history, and how to see it again.
func report(t *testing.T, name string, sc script, failure string, log []string) string {
	t.Helper()
	again := 0
	short := shrink(sc, 300, func(sc script) bool {
		f, l := play(t, sc)
		if f == "" {
			return false
		}
		again++
		failure, log = f, l
		return true
	})
	if again == 0 {
		name += " (not seen again)"
	}
	return fmt.Sprintf("%s: a broken promise:\n%s\nhistory: -history '%s'\n%s", name, failure, short, strings.Join(log, "\n"))
}

// knownScripts are histories that broke a promise once.
var knownScripts = []struct{ reason, text string }{
	{
		"a file can't be opened after a power cut, and the marks are taken for somebody else's",
		"full:2f969617 open:faed6d09 heal:2e79928b close:11e20e52 open:73e2ec19 burst:83296355 cut:c8b0d9e6 fault:b3840a87 open:34014ea8",
	},
	{
		"a record that lost its end is no reason to step over the hole before it",
		"open:b3ee8015 append:d19955f1 append:ba4359af append:3ff2312e cut:eed3eec1 rmstele:8ddcd3c open:22259b9d",
	},
	{
		"a queue's directory can't be listed, and its message is passed over",
		"open:41442c0 fault:fe86e611 append:3408ed1d",
	},
	{
		"a failed flush drops the entries of messages that expire, and a queue goes on with fewer",
		"open:8d409617 expire:522662ac offsets:4ceedd85 append:cf39f91b append:f05e2f12 flush:1b1cc13f trap:187b7b5d kill:855cb7ad open:98a8e7a8 trap:4691e2a6 writeback:7333a6a2 append:9f0d0a2e fault:68ddf7f pass:cbef4c19 kill:e768a80e open:34315da6 batch:49920b77 batch:a0224874 commit:d8ab4b0c append:9863a212 append:b355b63c append:4d1ea8c4 writefault:c1e0ab5d expire:8de995a7 close:5840649 trap:e03156bc open:dd2e4510 open:fdd533f1 append:5bc6ae8c batch:dd86dd4d append:e98c7264 append:faa3385d",
	},
	{
		"a queue that is begun anew removes a file under its lock, where a kill would wait for whoever wants that",
		"open:ef75c920 heal:9d3d3cc9 open:5d3d4d02 pass:6dc0abb0 append:c85b8637 append:e5806aef rest:713091d9 append:3e0a74bd kill:fa7c7a97 open:5ec8ec48 heal:6398d822 open:754ba4cf trap:9d8d4a41 batch:7e7f4a9c append:d51ee240 full:359e2cf0 append:4e56155d full:e48586c3 append:9bd73034 batch:7b3a62a7 fetch:8452f0ee batch:dbccd8c2 append:e2b3f53c fault:2cfce740 flush:823cf8fc append:b58b705d flush:2de22344 append:a104d1eb at:235dda0c append:dec48fca expire:3077cd3f rest:ad7b415c expire:556b1e33 cut:891292e8 open:9999e781 trap:8390cf40 append:d458049c get:eaf754d2 append:3352b3a7 append:805c2ab burst:6826fb1f append:8e996d21 append:b61dd93 append:96114308 batch:e6a8245d fault:69a82ad4 follow:ea8b9199 append:e0449798 append:8f6b7b4a commit:6645adba get:96de4588 append:fa0cdbe3 append:ca367744 append:e80b7e81 append:c15de140 writeback:b96b09a1 append:5fe25cc9 commit:8cbd1181 append:245a654d topic:6e661518 pass:320de5f9 batch:e91ab9eb append:9043b0ca append:96098963 flush:b3ec2bdb trap:1d2ebb7e kill:a0fba83f open:1a73fd65 heal:3330ac00 open:52805370 append:a02d9517 append:bc00cc22 append:44c3e603 pass:a0eb0168 writeback:f556fec4 rest:576723b9 commit:63c98710 append:6d98ffec append:482bbc13 append:24037296 append:9e229f5d rest:220b7adf writeback:394e0378 heal:5c7ba78c writeback:16df7a0f pass:88c9db38 append:85dd7bed writefault:ba261925 pass:aa521c7e append:b4b65718 flush:2cace58f batch:31c40691 append:cbe2aab9 query:53287bd6 tagged:5f636462 append:7ca33406 append:1f41d472 pass:f62a6e49 append:a685004d batch:7acb7623 tagged:6b429583 close:2512fdb1 open:6f98a5e5 heal:3294f03c open:e32a780f query:f15f5aa6 append:7d10a2e8 expire:88436ef pass:1b59f948 fault:40c6d962 get:13547e0e follow:e4a95892 get:a1aa6a9f rest:3ae8ed71 pass:f7fae25c writeback:7a066563 append:f9dd45d5 append:1e32096a get:306507af expire:450bd4e3 flush:4059d8ef append:b3b02f7c fault:7d4ec8c8 append:b55a6847 fault:265b572b follow:978f67c9 query:e56ccb16 tagged:bdafae05 burst:448d3e5d append:42d2559f batch:e4e862cc append:b18176a2 full:19b72004 append:c14577b7 burst:ea519ddd append:21d5f457 trap:52c2a4da cut:1ee1f9a2",
	},
	{
		"an opening sets an offset back and is killed, and the next one has no reason to",
		"open:e97133d4 append:e33ed041 fetch:874ea5a6 flush:26bd4b06 append:94886e batch:fc6a96cc writeback:43b71d05 writeback:79db0ea6 append:d6f333e9 commit:2315b8ea fetch:a4d8a456 follow:5bafe961 rest:8f8d3611 topic:c96ca82e rest:397c98b1 flush:9a6a7d8b flush:2e3aa94c append:c1b36b35 append:f4a778da append:5ba7cead tagged:2f5ed825 fetch:7655ba08 append:43d2e4be expire:ebfa414d pass:8af5581f append:c92d6886 append:e56095ac trap:a1d936 cut:ba692947 rmstele:daf6d3ee open:2d331f44 append:29246ab5 at:b6be543e append:ebf90508 follow:d366026b writeback:c913a498 batch:8d0930ab append:6c742fcc append:5ed99749 writeback:d4819060 commit:eb4f1809 append:39422059 append:b84adef7 append:e43e20af commit:d24818d5 append:4a90c5d9 append:ba7ef7b close:e52d7f3f rmindex:f15aefb7 trap:ddc07699 open:3ce48ea8 fetch:69bc26d6 query:85fb2f8b rest:b74c0dd7 flush:9744adf7 append:29979b7d expire:1575d81b follow:694f07a6 append:ab28a2f2 append:c7337ecf append:a6dff141 batch:4b90f62b append:13215d2c cut:9e3ec3 trap:9125cc93 open:98b89fae trap:3d19102d pass:8ca607de rest:6a53adb1 rest:4d07a6ca append:45402192 batch:68599f88 get:488c97e3 append:83e7d321 rest:a6a16e40 pass:7dfa110b append:ec00d896 fetch:53621c36 flush:546ded71 append:e3de28e8 rest:f61e1b53 append:cfa6217b rest:6e54b706 append:1d2b134c batch:5d2e7575 fetch:47f0f7b8 at:d4017f33 append:aecf9182 commit:15b7f536 append:e54f6493 cut:86493b4 trap:47b2532a open:40140866 trap:27c6bfa1 writeback:2e2d9f65 expire:a1f5f83b pass:3f03f523 burst:35afca60 append:80cdbf burst:9aa802b8 append:544e8ca4 trap:f39642a5",
	},
	{
		"without marks a commit that ended in the middle leaves a hole",
		"full:be807731 open:6e274de0 heal:704efd9e open:c7ab9304 append:7b15c9c7 pass:273dda8e append:9b47475a append:b1c6d13b append:bbfd0abb append:c51746ff append:3cff3e67 batch:406e313b writefault:2b9274c batch:4550e14b kill:8f4319c7 rmstele:77c79188",
	},
	{
		"without marks nothing behind a hole is given up, and the index knows what was in it",
		"open:dfe815b0 trap:3d0b4957 append:cf096178 append:e288571c append:6d471f44 append:71d1540 append:73a9d0d5 batch:2910f89d pass:6bbf1c35 fault:6f8a2f11 open:6564976b heal:5072bcf0 append:c36764ee writeback:5c2f50d3 append:b322c82 fetch:159a9f9e burst:d39b11f append:3365c176 cut:19749ea0 rmstele:801d71a3 open:6dcf1fc6 trap:6430feb0 offsets:4f54ddb3 full:63ffb4da query:5a75060e append:86e13f7c append:aa56d9e2 append:5be0af1b",
	},
	{"zeros ahead of a commit can't be written, and nobody hears of it", "open:3e57b736 writefault:92621d8 delay:72131304"},
}

func TestKnownHistories(t *testing.T) {
	t.Parallel()
	for _, c := range knownScripts {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			sc, err := parseScript(c.text)
			require.NoError(t, err)
			for range 5 { // what runs in the background takes its turns at random
				if failure, log := play(t, sc); failure != "" {
					t.Fatalf("%s\n%s", failure, strings.Join(log, "\n"))
				}
			}
		})
	}
}

// TestOneHistory plays the history of -history.
func TestOneHistory(t *testing.T) {
	if *historyText == "" {
		t.Skip("no -history")
	}
	sc, err := parseScript(*historyText)
	require.NoError(t, err)
	failure, log := play(t, sc)
	t.Log(strings.Join(log, "\n"))
	require.Empty(t, failure)
}
