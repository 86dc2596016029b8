// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

func tail(t testing.TB, d *inspect.Dir, o inspect.TailOptions) (offs []int64, errs []error) {
	t.Helper()
	for r, err := range d.Tail(t.Context(), o) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		offs = append(offs, int64(r.PhysicalOffset))
	}
	return offs, errs
}

// TestTailIsTheEndOfMessages compares with all messages, with and without queues
// that tell where to begin.
func TestTailIsTheEndOfMessages(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	bare := sample(t, closed)
	require.NoError(t, os.RemoveAll(filepath.Join(bare, "consumequeue")))
	lagging := sample(t, closed) // as if a broker had not dispatched what came last
	for _, queue := range []string{"0", "1", "2"} {
		require.NoError(t, os.RemoveAll(filepath.Join(lagging, "consumequeue", "topic-1", queue)))
	}
	for name, d := range map[string]*inspect.Dir{"queues": open(t, dir), "no queues": open(t, bare)} {
		for what, f := range map[string]inspect.Filter{
			"all": {}, "topic": {Topics: []string{"topic-[02]"}}, "queue": {Queues: []int32{3}}, "tag": {Tags: []string{"TagB"}},
			"rare": {Keys: []string{"order-2"}}, "none": {Topics: []string{"none"}}, "no queue": {Queues: []int32{77}},
			"from": {From: 300001}, "to": {To: 300000}, "until": {Until: 1795355674600}, "since": {Since: 1795355674600},
		} {
			all, errs := collect(t, d, f)
			require.Empty(t, errs)
			for _, n := range []int{0, 1, 2, 10, 799, 800, 5000} {
				got, errs := tail(t, d, inspect.TailOptions{Filter: f, Last: n})
				require.Empty(t, errs)
				want := offsets(all[max(0, len(all)-n):])
				if len(want) == 0 {
					require.Empty(t, got, "%s, %s, %d", name, what, n)
				} else {
					require.Equal(t, want, got, "%s, %s, %d", name, what, n)
				}
			}
		}
	}
	all, _ := collect(t, open(t, lagging), inspect.Filter{})
	got, errs := tail(t, open(t, lagging), inspect.TailOptions{Last: 1})
	require.Empty(t, errs)
	require.Equal(t, offsets(all[799:]), got)

	f := inspect.Filter{Limit: 3}
	got, _ = tail(t, open(t, dir), inspect.TailOptions{Filter: f, Last: 10})
	require.Equal(t, offsets(all[790:793]), got)
	_, errs = tail(t, open(t, dir), inspect.TailOptions{Filter: inspect.Filter{Topics: []string{"["}}})
	require.Len(t, errs, 1)
}

func TestTailTellsDamage(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	all, _ := collect(t, open(t, dir), inspect.Filter{})
	bad := all[797].PhysicalOffset
	patch(t, logFile(dir, 262144), int64(bad)-262144+100, []byte{1, 2, 3, 4})
	got, errs := tail(t, open(t, dir), inspect.TailOptions{Last: 5})
	require.Equal(t, append(offsets(all[794:797]), offsets(all[798:])...), got)
	require.Len(t, errs, 1)
	var damage *inspect.DamageError
	require.ErrorAs(t, errs[0], &damage)
	require.Equal(t, bad, damage.Corrupt.Offset)

	// Also at the very end, unless it may be still being written.
	last := all[799].PhysicalOffset
	patch(t, logFile(dir, 262144), int64(last)-262144+100, []byte{1, 2, 3, 4})
	for _, n := range []int{0, 1, 2} {
		got, errs = tail(t, open(t, dir), inspect.TailOptions{Last: n})
		require.Len(t, got, n)
		require.NotEmpty(t, errs)
		require.ErrorAs(t, errs[len(errs)-1], &damage)
		require.Equal(t, last, damage.Corrupt.Offset)
	}
}

var errEnough = errors.New("enough")

// TestTailFollows appends between the looks, over many files, and half a record for a
// while, or one without its beginning and others behind it. Nothing is missed, nothing comes twice, nothing is called damage.
func TestTailFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 8192)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var want, got []int64
	put := func() {
		res, err := w.append(&message.Message{Topic: "t", QueueID: rng.Int32N(2), Body: make([]byte, rng.IntN(3000))})
		require.NoError(t, err)
		want = append(want, int64(res.Offset))
	}
	put()
	rounds := 0
	var torn []byte
	var tornAt, tornPos int64
	var behind []int64
	o := inspect.TailOptions{Last: 10, Follow: true, Idle: func() error {
		require.Equal(t, want, got, "seed %d", seed)
		switch rounds++; {
		case rounds == 60:
			return errEnough
		case rounds%10 == 5:
			// A record whose middle is still to come.
			for put(); want[len(want)-1]%8192 == 0; {
				put()
			}
			n, size := len(want)-1, int64(20)
			tornPos = want[n]%8192 + 20
			if rounds%20 == 15 {
				// Or its beginning, with a file behind it that is there already: a
				// commit is two writes.
				for put(); want[len(want)-1]%8192 != 0; {
					put()
				}
				n, size = len(want)-2, 8
				tornPos = want[n] % 8192
			}
			at := want[n]
			path := logFile(dir, at/8192*8192)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			tornAt, torn = at, slices.Clone(b[tornPos:tornPos+size])
			patch(t, path, tornPos, make([]byte, size))
			want, behind = want[:n], slices.Clone(want[n:])
		case rounds%10 == 8 && torn != nil:
			patch(t, logFile(dir, tornAt/8192*8192), tornPos, torn)
			want, torn = append(want, behind...), nil
		case torn == nil:
			for range rng.IntN(12) + 1 {
				put()
			}
		}
		return nil
	}}
	var err error
	for r, e := range open(t, dir).Tail(t.Context(), o) {
		if err = e; e != nil {
			break
		}
		got = append(got, int64(r.PhysicalOffset))
	}
	require.ErrorIs(t, err, errEnough)
	require.Greater(t, len(want), 100)
	require.NoError(t, w.log.Close())
}

// TestTailFollowsUntil ends by itself, and when it is told to.
func TestTailFollowsUntil(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, closed))
	for name, f := range map[string]inspect.Filter{"limit": {Limit: 2}, "to": {To: 363857}} {
		n := 0
		for _, err := range d.Tail(t.Context(), inspect.TailOptions{Filter: f, Last: 4, Follow: true}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, map[string]int{"limit": 2, "to": 4}[name], n)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	for _, err := range d.Tail(ctx, inspect.TailOptions{Last: 3, Follow: true, Idle: func() error { cancel(errEnough); return nil }}) {
		if err != nil {
			require.ErrorIs(t, err, errEnough)
			break
		}
		n++
	}
	require.Equal(t, 3, n)
	for range d.Tail(t.Context(), inspect.TailOptions{Last: 3, Follow: true}) {
		break
	}
	// The directory goes while it waits.
	dir := sample(t, closed)
	var last error
	for _, err := range open(t, dir).Tail(t.Context(), inspect.TailOptions{Follow: true, Idle: func() error { return os.RemoveAll(dir) }}) {
		last = err
	}
	require.ErrorIs(t, last, os.ErrNotExist)
}
