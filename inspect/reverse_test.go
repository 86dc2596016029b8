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

// TestUntilEndsEarly: what was stored long after the bound is not read, so
// damage there does not show; a clock that was set back a little hides nothing.
func TestUntilEndsEarly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, err := commitlog.Open(commitlog.Options{Dir: filepath.Join(dir, "commitlog"), FileSize: 64 << 10})
	require.NoError(t, err)
	require.NoError(t, log.Start(0, 0, 0, true))
	var at []int64
	for i := range 100 {
		m := message.Message{Topic: "t", QueueOffset: message.QueueOffset(i), Body: make([]byte, 100)}
		rec, err := message.Encoder{}.Append(nil, &m)
		require.NoError(t, err)
		res, err := log.Append(commitlog.Item{Record: rec, Sequence: commitlog.NewSequence(0), Step: 1})
		require.NoError(t, err)
		at = append(at, int64(res.Offset))
	}
	require.NoError(t, log.Close())
	const storeTime = 56     // where a record has it, behind the 8 bytes of an IPv4 born host
	for i, off := range at { // nothing but the body has a checksum here
		ms := firstTime + int64(i)*1000
		if i == 50 {
			ms -= 2500
		}
		patch(t, logFile(dir, 0), off+storeTime, binary.BigEndian.AppendUint64(nil, uint64(ms)))
	}
	flip(t, logFile(dir, 0), at[80]+120)
	d := open(t, dir)
	until := firstTime + 48_000 // messages 0 to 47, and the 50th
	for _, reverse := range []bool{false, true} {
		got, errs := collect(t, d, inspect.Filter{Until: until, Reverse: reverse})
		require.Empty(t, errs)
		want := append(slices.Clone(at[:48]), at[50])
		if reverse {
			slices.Reverse(want)
		}
		require.Equal(t, want, offsets(got))
	}
	_, errs := collect(t, d, inspect.Filter{Until: until + 60_000})
	require.Len(t, errs, 1)
}
