// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testFile = 64 << 10

func openTarget(t *testing.T, dir string, resume bool) *transfer.Target {
	t.Helper()
	target, err := transfer.OpenTarget(dir, resume, store.Options{FileSize: testFile, QueueFileSize: 2000})
	require.NoError(t, err)
	return target
}

// messages are copies of all messages in the log of a store.
func messages(t testing.TB, dir string) (all []*message.Message) {
	t.Helper()
	d, err := inspect.Open(dir, inspect.Options{})
	require.NoError(t, err)
	for rec, err := range d.Messages(context.Background(), inspect.Filter{}) {
		require.NoError(t, err)
		all = append(all, rec.Clone())
	}
	return all
}

func rowOf(n int) string { return fmt.Sprintf(`{"topic":"t%d","body":"body %d"}`, n%3, n) }

// TestImportEndsAtABadLine puts a line that is none at every kind of place, and
// goes on behind it.
func TestImportEndsAtABadLine(t *testing.T) {
	t.Parallel()
	const lines = 1300 // more than two groups
	for _, tt := range []struct {
		bad  int
		line string
		want string
	}{
		{1, `{"topic":}`, "line 1, column 10: not a message: invalid character"},
		{2, `{"topic":"a"`, "line 2, column 13: not a message: the line ends"},
		{512, `{"topic":"no.dots"}`, "line 512: append to topic"},
		{513, `{"topic":"a","queueId":-1}`, "line 513: append to topic"},
		{700, `{"topic":"a","sysFlag":128}`, "line 700: topic"},
		{1024, `{"topic":"a","properties":{"DELAY":"soon"}}`, "line 1024: append to topic"},
		{1300, `{"topic":"a","bodyBase64":"` + strings.Repeat("AAAA", testFile/3) + `"}`, "line 1300: "},
	} {
		var in strings.Builder
		for i := 1; i <= lines; i++ {
			if i == tt.bad {
				in.WriteString(tt.line + "\n")
			} else {
				in.WriteString(rowOf(i) + "\n")
			}
		}
		dir := filepath.Join(t.TempDir(), "new")
		target := openTarget(t, dir, false)
		im := transfer.Import{Store: target.Store, Input: strings.NewReader(in.String()), Now: time.UnixMilli(5)}
		done, err := im.Run(t.Context())
		var line *transfer.LineError
		require.ErrorAs(t, err, &line)
		require.EqualValues(t, tt.bad, line.Line)
		require.Contains(t, err.Error(), tt.want)
		require.EqualValues(t, tt.bad-1, done.Lines)
		require.EqualValues(t, tt.bad-1, done.Messages)
		require.NoError(t, target.Leave())
		require.NoDirExists(t, dir)
		require.Len(t, messages(t, target.Path()), tt.bad-1, "not a message more than was said")

		_, err = transfer.OpenTarget(dir, false, store.Options{})
		require.ErrorIs(t, err, transfer.ErrPartial)
		target = openTarget(t, dir, true)
		im = transfer.Import{Store: target.Store, Input: strings.NewReader(in.String()), From: int64(tt.bad) + 1, Now: time.UnixMilli(5)}
		done, err = im.Run(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, lines, done.Lines)
		require.EqualValues(t, lines-tt.bad, done.Messages)
		require.NoError(t, target.Finish())
		all := messages(t, dir)
		require.Len(t, all, lines-1)
		for i, m := range all {
			n := i + 1
			if n >= tt.bad {
				n++
			}
			require.Equal(t, fmt.Sprintf("body %d", n), string(m.Body))
			require.EqualValues(t, 5, m.BornTimestamp)
		}
	}
}

func TestImportLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := openTarget(t, dir, false)
	require.True(t, target.IsNew())
	long := strings.Repeat("x", 300<<10)[:60<<10-200]
	template := &message.Message{Topic: "text", QueueID: 2}
	template.SetTags("a")
	var told int64
	text := "one\n\n" + long + "\r\nlast"
	im := transfer.Import{Store: target.Store, Input: strings.NewReader(text), Lines: template, Now: time.UnixMilli(7), Progress: func(n int64) { told = n }}
	done, err := im.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, done.Messages)
	require.EqualValues(t, len(text), told)
	require.NoError(t, target.Finish())
	all := messages(t, dir)
	require.Len(t, all, 4)
	for i, want := range []string{"one", "", long + "\r", "last"} {
		require.Equal(t, want, string(all[i].Body))
		require.Equal(t, "a", all[i].Tags())
		require.EqualValues(t, 2, all[i].QueueID)
		require.EqualValues(t, 7, all[i].BornTimestamp)
	}
	_, err = os.Stat(dir + ".partial")
	require.ErrorIs(t, err, os.ErrNotExist)

	// An existing store goes on, in place.
	target = openTarget(t, dir, false)
	require.False(t, target.IsNew())
	im = transfer.Import{Store: target.Store, Input: strings.NewReader("more\n"), Lines: template}
	_, err = im.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, target.Finish())
	require.EqualValues(t, 4, messages(t, dir)[4].QueueOffset)
}

// TestImportOfMessagesThatWait holds what is taken of them, and that nothing is
// acted on.
func TestImportOfMessagesThatWait(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000)
	const real = `"REAL_TOPIC":"a","REAL_QID":"0"`
	rows := map[string]string{
		"level due":      `{"topic":"SCHEDULE_TOPIC_XXXX","queueId":1,"storeTimestamp":994999,"properties":{"DELAY":"2",` + real + `}}`,
		"level waiting":  `{"topic":"SCHEDULE_TOPIC_XXXX","queueId":1,"storeTimestamp":995001,"properties":{"DELAY":"2",` + real + `}}`,
		"level, no time": `{"topic":"SCHEDULE_TOPIC_XXXX","queueId":1,"properties":{"DELAY":"2",` + real + `}}`,
		"timer due":      `{"topic":"rmq_sys_wheel_timer","properties":{"TIMER_OUT_MS":"1000000",` + real + `}}`,
		"timer waiting":  `{"topic":"rmq_sys_wheel_timer","properties":{"TIMER_OUT_MS":"1000001",` + real + `}}`,
		"timer, bad":     `{"topic":"rmq_sys_wheel_timer","properties":{"TIMER_OUT_MS":"soon",` + real + `}}`,
		"wish":           `{"topic":"a","bornTimestamp":0,"properties":{"DELAY":"3"}}`,
		"prepared":       `{"topic":"a","sysFlag":4}`,
	}
	for policy, leftOut := range map[transfer.Delayed][]string{
		transfer.DelayedAll:     nil,
		transfer.DelayedWaiting: {"level due", "timer due"},
		transfer.DelayedNone:    {"level due", "level waiting", "level, no time", "timer due", "timer waiting", "timer, bad"},
	} {
		for name, row := range rows {
			dir := filepath.Join(t.TempDir(), "s")
			target := openTarget(t, dir, false)
			im := transfer.Import{Store: target.Store, Input: strings.NewReader(row), Now: now, Delayed: policy}
			done, err := im.Run(t.Context())
			require.NoError(t, err, name)
			require.NoError(t, target.Finish())
			all := messages(t, dir)
			out := false
			for _, n := range leftOut {
				out = out || n == name
			}
			if out {
				require.Empty(t, all, "%v %s", policy, name)
				require.EqualValues(t, 1, done.Delayed)
				continue
			}
			require.Len(t, all, 1, "%v %s", policy, name)
			require.Zero(t, done.Delayed)
			var want message.Message
			_, err = transfer.ParseRow([]byte(row), &want)
			require.NoError(t, err)
			require.Equal(t, want.Topic, all[0].Topic)
			require.Equal(t, want.SysFlag, all[0].SysFlag)
			if name == "wish" {
				require.Zero(t, all[0].BornTimestamp)
			}
		}
	}
	for _, d := range []transfer.Delayed{transfer.DelayedWaiting, transfer.DelayedAll, transfer.DelayedNone} {
		got, err := transfer.ParseDelayed(d.String())
		require.NoError(t, err)
		require.Equal(t, d, got)
	}
	_, err := transfer.ParseDelayed("some")
	require.Error(t, err)
}

// TestImportInterrupted ends an import whose input does not come.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	target := openTarget(t, filepath.Join(t.TempDir(), "s"), false)
	in, feed := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	im := transfer.Import{Store: target.Store, Input: in, Progress: func(int64) { cancel(stopped) }}
	go func() { _, _ = feed.Write([]byte(rowOf(1) + "\n")) }()
	done, err := im.Run(ctx)
	require.ErrorIs(t, err, stopped)
	require.EqualValues(t, 1, done.Messages)
	require.EqualValues(t, 1, done.Lines)
	require.NoError(t, feed.Close()) // the reader ends
	require.NoError(t, target.Discard())
	require.NoDirExists(t, target.Path())
}

func TestImportInputThatFails(t *testing.T) {
	t.Parallel()
	target := openTarget(t, filepath.Join(t.TempDir(), "s"), false)
	broken := errors.New("broken")
	in := io.MultiReader(strings.NewReader(rowOf(1)+"\n"+rowOf(2)), iotestErr{broken})
	im := transfer.Import{Store: target.Store, Input: in, Topics: map[string]string{"t1": "other"}}
	done, err := im.Run(t.Context())
	require.ErrorIs(t, err, broken)
	require.EqualValues(t, 1, done.Lines, "half a line is none")
	require.NoError(t, target.Leave())
	all := messages(t, target.Path())
	require.Len(t, all, 1)
	require.Equal(t, "other", all[0].Topic)
	require.True(t, bytes.Equal([]byte("body 1"), all[0].Body))
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }
