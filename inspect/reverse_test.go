// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// manyFiles is a store of so many messages in files of 16 KiB.
func manyFiles(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	w := newWriter(t, dir, 16<<10)
	for i := range n {
		_, err := w.append(&message.Message{Topic: "t", QueueID: int32(i % 3), Body: make([]byte, 40+i%400)})
		require.NoError(t, err)
	}
	require.NoError(t, w.log.Close())
	return dir
}

// TestReverseOfDamage: whatever is damaged, from the end there is the same to be
// seen as from the begin.
func TestReverseOfDamage(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 10 {
		dir := manyFiles(t, 300)
		files := 0
		for ; ; files++ {
			if _, err := os.Stat(logFile(dir, int64(files)<<14)); err != nil {
				break
			}
		}
		for range rnd.IntN(8) {
			path := logFile(dir, rnd.Int64N(int64(files))<<14)
			switch rnd.IntN(4) {
			case 0: // a long stretch
				patch(t, path, rnd.Int64N(8<<10), make([]byte, rnd.IntN(8<<10)))
			case 1: // the begin of the file
				patch(t, path, 0, []byte("no record begins like that"))
			default:
				flip(t, path, rnd.Int64N(16<<10))
			}
		}
		if files > 2 && rnd.IntN(4) == 0 {
			require.NoError(t, os.Remove(logFile(dir, (1+rnd.Int64N(int64(files-2)))<<14)))
		}
		sameBackwards(t, open(t, dir), inspect.Filter{})
		sameBackwards(t, open(t, dir), inspect.Filter{Queues: []int32{1}, From: message.Offset(rnd.Int64N(int64(files) << 14))})
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func sameBackwards(t *testing.T, d *inspect.Dir, f inspect.Filter) {
	t.Helper()
	forward := seen(d, f)
	f.Reverse = true
	back := seen(d, f)
	slices.Reverse(back)
	// What is wrong with the files comes first both ways.
	isFile := func(s string) bool { return len(s) > 5 && s[:5] == "file " }
	require.Equal(t, slices.DeleteFunc(forward, isFile), slices.DeleteFunc(back, isFile))
}

// seen lists what an iteration yields.
func seen(d *inspect.Dir, f inspect.Filter) (all []string) {
	for r, err := range d.Messages(context.Background(), f) {
		switch e := err.(type) { //nolint:errorlint // as they are yielded
		case nil:
			all = append(all, fmt.Sprintf("message %d of %d bytes, stored %d", r.PhysicalOffset, len(r.Raw), r.StoreTimestamp))
		case *mappedfile.FileError:
			all = append(all, "file "+e.Error())
		default:
			all = append(all, err.Error())
		}
	}
	return all
}

func TestReverseLimitAndBounds(t *testing.T) {
	t.Parallel()
	d := open(t, manyFiles(t, 300))
	all, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	last, errs := collect(t, d, inspect.Filter{Reverse: true, Limit: 3})
	require.Empty(t, errs)
	require.Equal(t, []int64{int64(all[299].PhysicalOffset), int64(all[298].PhysicalOffset), int64(all[297].PhysicalOffset)}, offsets(last))
	for i := 0; i < 300; i += 17 {
		for n := 0; n < 60; n += 13 {
			f := inspect.Filter{Since: all[i].StoreTimestamp, Until: all[i].StoreTimestamp + int64(n)*1000}
			sameBackwards(t, d, f)
			f.Reverse, f.Limit = true, 1
			got, errs := collect(t, d, f)
			require.Empty(t, errs)
			if n == 0 {
				require.Empty(t, got)
				continue
			}
			require.Equal(t, all[min(i+n, 300)-1].PhysicalOffset, got[0].PhysicalOffset)
		}
	}
	// Who leaves early gets no more.
	n := 0
	for range d.Messages(context.Background(), inspect.Filter{Reverse: true}) {
		if n++; n == 5 {
			break
		}
	}
	require.Equal(t, 5, n)
}

// TestUntilAndClocks: a clock that was set back, or that jumped ahead for some files
// or a part of one, hides nothing; whole files that are newer are not read, so damage
// there does not show.
func TestUntilAndClocks(t *testing.T) {
	t.Parallel()
	const n, fileSize = 200, 2048
	for name, c := range map[string]struct {
		shift func(i int) int64 // by how much the clock is off for message i, ms
		// damaged is a message that is not read with until in the middle.
		damaged int
	}{
		"right":                {shift: func(int) int64 { return 0 }, damaged: 153},
		"back by little":       {shift: func(i int) int64 { return map[bool]int64{true: -2500}[i == 102] }, damaged: 153},
		"ahead for a message":  {shift: func(i int) int64 { return map[bool]int64{true: 1e9}[i == 20] }, damaged: 153},
		"ahead for some files": {shift: func(i int) int64 { return map[bool]int64{true: 1e9}[i >= 10 && i < 60] }, damaged: 35},
		"back in a late file":  {shift: func(i int) int64 { return map[bool]int64{true: -1e9}[i == 175] }, damaged: -1},
		"back in the last one": {shift: func(i int) int64 { return map[bool]int64{true: -1e9}[i >= 198] }, damaged: 153},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log, err := commitlog.Open(commitlog.Options{Dir: filepath.Join(dir, "commitlog"), FileSize: fileSize})
			require.NoError(t, err)
			require.NoError(t, log.Start(commitlog.StartOptions{Clean: true}))
			at, stored := make([]int64, n), make([]int64, n)
			for i := range n {
				m := message.Message{Topic: "t", QueueOffset: message.QueueOffset(i), Body: make([]byte, 100)}
				rec, err := message.Encoder{}.Append(nil, &m)
				require.NoError(t, err)
				res, err := log.Append(commitlog.Item{Record: rec, Sequence: commitlog.NewSequence(0), Step: 1})
				require.NoError(t, err)
				at[i], stored[i] = int64(res.Offset), firstTime+int64(i)*1000+c.shift(i)
			}
			require.NoError(t, log.Close())
			const storeTime = 56 // where a record has it, behind the 8 bytes of an IPv4 born host
			for i, off := range at {
				// Nothing but the body has a checksum here.
				patch(t, logFile(dir, off/fileSize*fileSize), off%fileSize+storeTime, binary.BigEndian.AppendUint64(nil, uint64(stored[i])))
			}
			d := open(t, dir)
			check := func(until int64) {
				var want []int64
				for i, off := range at {
					if stored[i] < until && i != c.damaged {
						want = append(want, off)
					}
				}
				if name == "back in a late file" { // the one exception: it came back within a file
					want = slices.DeleteFunc(want, func(off int64) bool { return off == at[175] && until < firstTime+170_000 })
				}
				for _, reverse := range []bool{false, true} {
					if reverse {
						slices.Reverse(want)
					}
					got, errs := collect(t, d, inspect.Filter{Until: until, Reverse: reverse})
					require.Empty(t, errs)
					require.Equal(t, want, offsets(got), "until %d", until)
				}
			}
			if c.damaged >= 0 {
				flip(t, logFile(dir, at[c.damaged]/fileSize*fileSize), at[c.damaged]%fileSize+120)
			}
			check(firstTime + 100_000)
			c.damaged = -1
			_, errs := collect(t, d, inspect.Filter{Until: firstTime + 2e9})
			require.LessOrEqual(t, len(errs), 1)
		})
	}
}
