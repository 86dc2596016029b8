// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/transfer"
)

// sourceOf makes a store of n messages of all kinds.
func sourceOf(t testing.TB, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	s, err := store.Open(dir, store.Options{FileSize: 16 << 10, QueueFileSize: 2000, Verbatim: true})
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		m := &message.Message{
			Topic: fmt.Sprintf("t%d", rng.IntN(3)), QueueID: rng.Int32N(3), Flag: rng.Int32(), BornTimestamp: int64(i + 1),
			BornHost: netip.MustParseAddrPort("10.0.0.1:99"), ReconsumeTimes: rng.Int32N(3), Body: bytes.Repeat([]byte{'x'}, rng.IntN(100)),
		}
		if i%3 == 0 {
			m.StoreHost = netip.MustParseAddrPort("[2001:db8::1]:10911")
		}
		if i%5 > 1 { // alike ones are the hard ones to tell apart
			m.Flag, m.Body, m.BornTimestamp, m.QueueID, m.Topic, m.ReconsumeTimes = 0, nil, 1, 0, "t0", 0
		}
		if i%7 == 0 {
			m.SysFlag = message.TransactionPrepared
		}
		m.SetKeys("k")
		_, err := s.Append(t.Context(), m)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	return dir
}

var errKilled = errors.New("killed")

// killedSink is a sink of a process that is killed after some messages: nothing that
// comes later reaches the state.
type killedSink struct {
	transfer.Sink
	left   int
	killed bool
}

func (k *killedSink) Put(ctx context.Context, m *message.Message) error {
	if k.left == 0 {
		k.killed = true
		return errKilled
	}
	k.left--
	return k.Sink.Put(ctx, m)
}

func (k *killedSink) Settle(ctx context.Context, end bool) (transfer.Mark, error) {
	if k.killed {
		return transfer.Mark{}, errKilled
	}
	return k.Sink.Settle(ctx, end)
}

// replayOf is a replay of a whole store into sink, or its next part.
func replayOf(t testing.TB, source, state string, sink transfer.Sink) *transfer.Replay {
	t.Helper()
	d, err := inspect.Open(source, inspect.Options{})
	require.NoError(t, err)
	return &transfer.Replay{
		Source: d, Sink: sink, StatePath: state, Request: "all", Now: time.UnixMilli(1 << 40),
		Topics: map[string]string{"t2": "other"}, Damage: func(err error) { t.Error(err) },
	}
}

func requireCopy(t testing.TB, source, copied []*message.Message) {
	t.Helper()
	require.Len(t, copied, len(source))
	for i, m := range source {
		want := *m
		if want.Topic == "t2" {
			want.Topic = "other"
		}
		require.True(t, transfer.Same(&want, copied[i]), "message %d: %v and %v", i, m, copied[i])
	}
}

// TestReplayGoesOn interrupts a replay and kills it, at random places, again and
// again; the target is the same as without.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	const n = 300
	source := sourceOf(t, n)
	all := messages(t, source)
	for round := range 6 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		tmp := t.TempDir()
		dir, state := filepath.Join(tmp, "target"), filepath.Join(tmp, "state")
		put, runs := 0, 0
		for done := false; !done; runs++ {
			target := openTarget(t, dir, true)
			kill := &killedSink{Sink: transfer.StoreSink{Store: target.Store}, left: rng.IntN(n / 2)}
			r := replayOf(t, source, state, kill)
			if rng.IntN(4) == 0 {
				kill.left = n
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			stopped, after := errors.New("stopped"), rng.IntN(n)
			if rng.IntN(3) == 0 {
				r.SaveOften()
			}
			seen := 0
			interrupt := rng.IntN(3) == 0
			r.Progress = func(message.Offset) {
				if seen++; interrupt && seen > after {
					cancel(stopped)
				}
			}
			res, err := r.Run(ctx)
			cancel(nil)
			put += int(res.Messages - res.Found)
			switch {
			case err == nil:
				done = true
				require.EqualValues(t, n, res.Before+res.Messages, "seed %d", seed)
				require.NoError(t, target.Finish())
			case errors.Is(err, errKilled), errors.Is(err, stopped):
				require.NoError(t, target.Leave())
			default:
				require.NoError(t, err, "seed %d", seed)
			}
		}
		requireCopy(t, all, messages(t, dir))
		require.Equal(t, n, put, "seed %d, %d runs: each was put once", seed, runs)
	}
}

// TestReplayOfWhatCameSince goes on with a replay that had come to its end, beside
// messages of somebody else's.
func TestReplayOfWhatCameSince(t *testing.T) {
	t.Parallel()
	source := sourceOf(t, 20)
	tmp := t.TempDir()
	dir, state := filepath.Join(tmp, "target"), filepath.Join(tmp, "state")
	again := func(want int64) {
		target := openTarget(t, dir, true)
		res, err := replayOf(t, source, state, transfer.StoreSink{Store: target.Store}).Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, res.Messages)
		require.NoError(t, target.Finish())
	}
	add := func(dir string) {
		s, err := store.Open(dir, store.Options{})
		require.NoError(t, err)
		_, err = s.Append(t.Context(), &message.Message{Topic: "new"})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	again(20)
	again(0)
	add(source)
	add(dir)
	again(1)
	require.Len(t, messages(t, dir), 22)
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	// begin replays 50 messages, of which the state knows 20.
	begin := func(t *testing.T) (source, dir, state string) {
		source, tmp := sourceOf(t, 100), t.TempDir()
		dir, state = filepath.Join(tmp, "target"), filepath.Join(tmp, "state")
		target := openTarget(t, dir, true)
		ctx, cancel := context.WithCancelCause(t.Context())
		r := replayOf(t, source, state, transfer.StoreSink{Store: target.Store})
		n := 0
		r.Progress = func(message.Offset) {
			if n++; n == 20 {
				cancel(errKilled)
			}
		}
		_, err := r.Run(ctx)
		require.ErrorIs(t, err, errKilled)
		r = replayOf(t, source, state, &killedSink{Sink: transfer.StoreSink{Store: target.Store}, left: 30})
		_, err = r.Run(t.Context())
		require.ErrorIs(t, err, errKilled)
		require.NoError(t, target.Leave())
		return source, dir, state
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, source, dir, state string) (newSource string)
		want   error
		words  string
	}{
		"nothing": {func(*testing.T, string, string, string) string { return "" }, nil, ""},
		"another one's message in the target": {func(t *testing.T, _, dir, _ string) string {
			target := openTarget(t, dir, true)
			_, err := target.Store.Append(t.Context(), &message.Message{Topic: "foreign"})
			require.NoError(t, err)
			require.NoError(t, target.Leave())
			return ""
		}, transfer.ErrTargetChanged, "did not put there"},
		"the target is gone": {func(t *testing.T, _, dir, _ string) string {
			require.NoError(t, os.RemoveAll(dir+transfer.Partial))
			return ""
		}, transfer.ErrTargetChanged, "its log ends at 0"},
		"another source": {func(t *testing.T, _, _, _ string) string { return sourceOf(t, 10) }, transfer.ErrSourceChanged, "where the replay ended, is gone"},
		"a source that is shorter than the target": {func(t *testing.T, source, _, _ string) string {
			all := messages(t, source)
			require.NoError(t, os.Truncate(filepath.Join(source, "commitlog", "00000000000000000000"), int64(all[30].PhysicalOffset)))
			return source
		}, transfer.ErrTargetChanged, "that the source has not"},
		"another request": {func(t *testing.T, _, _, state string) string {
			data, err := os.ReadFile(state)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(state, bytes.Replace(data, []byte(`"all"`), []byte(`"some"`), 1), 0o600))
			return ""
		}, transfer.ErrState, `it is of "some", this is "all"`},
		"a state of a later version": {func(t *testing.T, _, _, state string) string {
			require.NoError(t, os.WriteFile(state, []byte(`{"version":2}`), 0o600))
			return ""
		}, transfer.ErrState, "version 2"},
		"half a state": {func(t *testing.T, _, _, state string) string {
			require.NoError(t, os.WriteFile(state, []byte(`{"version":1,`), 0o600))
			return ""
		}, transfer.ErrState, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, dir, state := begin(t)
			if other := tt.change(t, source, dir, state); other != "" {
				source = other
			}
			before, err := os.ReadFile(state)
			require.NoError(t, err)
			target := openTarget(t, dir, true)
			end := target.Store.Stats().Appended
			r := replayOf(t, source, state, transfer.StoreSink{Store: target.Store})
			r.Damage = nil
			_, err = r.Run(t.Context())
			if tt.want == nil {
				require.NoError(t, err)
				require.NoError(t, target.Finish())
				return
			}
			require.ErrorIs(t, err, tt.want)
			require.Contains(t, err.Error(), tt.words)
			require.Equal(t, end, target.Store.Stats().Appended, "nothing was appended")
			require.NoError(t, target.Leave())
			after, err := os.ReadFile(state)
			require.NoError(t, err)
			if !errors.Is(tt.want, transfer.ErrSourceChanged) {
				require.Equal(t, string(before), string(after), "the state stays")
			}
		})
	}
}

// TestReplayIntoAFile kills a replay in the middle of a line.
func TestReplayIntoAFile(t *testing.T) {
	t.Parallel()
	source, tmp := sourceOf(t, 100), t.TempDir()
	whole := rowsOf(t, source)
	path, state := filepath.Join(tmp, "out"), filepath.Join(tmp, "state")
	open := func() (*os.File, *transfer.StreamSink) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		require.NoError(t, err)
		return f, &transfer.StreamSink{Out: bufio.NewWriterSize(f, 700), File: f}
	}
	for _, left := range []int{0, 30, 1, 45} {
		f, sink := open()
		_, err := replayOf(t, source, state, &killedSink{Sink: sink, left: left}).Run(t.Context())
		require.ErrorIs(t, err, errKilled)
		require.NoError(t, f.Close())
	}
	f, sink := open()
	res, err := replayOf(t, source, state, sink).Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 100, res.Messages)
	require.NoError(t, f.Close())
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(whole, `{"topic":"t2"`, `{"topic":"other"`), string(got))

	// An output that was begun anew lacks what the replay had written.
	require.NoError(t, os.Truncate(path, 10))
	f, sink = open()
	_, err = replayOf(t, source, state, sink).Run(t.Context())
	require.ErrorIs(t, err, transfer.ErrTargetChanged)
	require.NoError(t, f.Close())
	// Another file gets what is left, which is nothing.
	path = filepath.Join(tmp, "next")
	f, sink = open()
	res, err = replayOf(t, source, state, sink).Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, res.Messages)
	require.NoError(t, f.Close())
}

func rowsOf(t testing.TB, dir string) string {
	var out []byte
	for _, m := range messages(t, dir) {
		out = append(inspect.Row{Message: m, Body: inspect.BodyStored, Exact: true}.AppendJSON(out), '\n')
	}
	return string(out)
}

// TestReplayLimit holds that a limit is of the whole replay.
func TestReplayLimit(t *testing.T) {
	t.Parallel()
	source, tmp := sourceOf(t, 50), t.TempDir()
	dir, state := filepath.Join(tmp, "target"), filepath.Join(tmp, "state")
	target := openTarget(t, dir, true)
	total := 0
	for _, left := range []int{3, 9, 100, 100} {
		r := replayOf(t, source, state, &killedSink{Sink: transfer.StoreSink{Store: target.Store}, left: left})
		r.Filter.Limit = 20
		res, err := r.Run(t.Context())
		total += int(res.Messages - res.Found)
		if left < 20 {
			require.ErrorIs(t, err, errKilled)
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, 20, total)
	require.NoError(t, target.Finish())
	require.Len(t, messages(t, dir), 20)
}

func TestReplayToACommand(t *testing.T) {
	t.Parallel()
	source := sourceOf(t, 100)
	state := filepath.Join(t.TempDir(), "state")
	run := func(line string) (transfer.Replayed, string, error) {
		var out, words bytes.Buffer
		sink, err := transfer.StartCommand(line, &out, &words)
		require.NoError(t, err)
		r := replayOf(t, source, state, sink)
		r.SaveOften() // and yet what a command that fails was given comes again
		res, err := r.Run(t.Context())
		require.Empty(t, words.String())
		return res, out.String(), err
	}
	for _, line := range []string{"cat >/dev/null; exit 3", "head -c 100 >/dev/null; exit 1"} {
		_, _, err := run(line)
		require.ErrorIs(t, err, transfer.ErrCommand, line)
	}
	res, out, err := run("cat")
	require.NoError(t, err)
	require.EqualValues(t, 100, res.Messages, "what a command was given that failed comes again")
	require.Equal(t, strings.ReplaceAll(rowsOf(t, source), `{"topic":"t2"`, `{"topic":"other"`), out)
	res, out, err = run("cat")
	require.NoError(t, err)
	require.Zero(t, res.Messages)
	require.Empty(t, out)
}

// tellingSink tells when it is settled with something in it.
type tellingSink struct {
	transfer.Sink
	put     int
	settled chan struct{}
}

func (k *tellingSink) Put(ctx context.Context, m *message.Message) error {
	k.put++
	return k.Sink.Put(ctx, m)
}

func (k *tellingSink) Settle(ctx context.Context, end bool) (transfer.Mark, error) {
	if k.put > 0 && !end {
		close(k.settled)
	}
	return k.Sink.Settle(ctx, end)
}

// TestReplaySpeed measures nothing: at a speed at which all takes years, what went
// at once is settled before the wait, and an interrupt ends it.
func TestReplaySpeed(t *testing.T) {
	t.Parallel()
	source, tmp := sourceOf(t, 10), t.TempDir()
	state := filepath.Join(tmp, "state")
	target := openTarget(t, filepath.Join(tmp, "target"), true)
	sink := &tellingSink{Sink: transfer.StoreSink{Store: target.Store}, settled: make(chan struct{})}
	r := replayOf(t, source, state, sink)
	r.Speed = transfer.Speed{PerSecond: 1e-6}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Run(ctx)
		done <- err
	}()
	<-sink.settled
	cancel(errKilled)
	require.ErrorIs(t, <-done, errKilled)
	s, err := transfer.ReadState(state)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Messages)
	require.True(t, s.Ended)
	require.NoError(t, target.Leave())
}

func FuzzReadState(f *testing.F) {
	f.Add([]byte(`{"version":1,"request":"x","last":{"offset":1},"mark":{"end":2}}`))
	f.Add([]byte(`{"version":1,"last":{"offset":-1}}`))
	path := filepath.Join(f.TempDir(), "state")
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		s, err := transfer.ReadState(path)
		if err != nil {
			require.ErrorIs(t, err, transfer.ErrState)
			return
		}
		require.NotNil(t, s)
		require.False(t, s.Last != nil && s.Last.Offset < 0)
	})
}
