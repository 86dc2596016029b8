// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// examine runs Doctor and returns the diagnoses by their check.
func examine(t *testing.T, dir string, now time.Time) map[string][]inspect.Diagnosis {
	t.Helper()
	found := map[string][]inspect.Diagnosis{}
	require.NoError(t, open(t, dir).Doctor(context.Background(), now, func(x inspect.Diagnosis) error {
		require.NotEmpty(t, x.Found)
		require.NotEmpty(t, x.Level)
		found[x.Check] = append(found[x.Check], x)
		return nil
	}))
	return found
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	const queue = "consumequeue/topic-0/0"
	for name, c := range map[string]struct {
		sample string
		harm   func(t *testing.T, dir string)
		now    time.Time
		check  string
		level  inspect.Level
		says   string
	}{
		"closed in order":    {sample: closed, check: "owner", level: inspect.LevelOK, says: "in order"},
		"killed":             {sample: killed, check: "owner", level: inspect.LevelNote, says: "was not closed"},
		"sound files":        {sample: closed, check: "files", level: inspect.LevelOK},
		"sound clock":        {sample: closed, check: "clock", level: inspect.LevelOK},
		"nobody's files":     {sample: closed, check: "strangers", level: inspect.LevelOK},
		"messages to come":   {sample: closed, now: now.AddDate(0, 0, -2), check: "clock", level: inspect.LevelProblem, says: "from now"},
		"a little ahead":     {sample: closed, now: time.UnixMilli(1795355674000), check: "clock", level: inspect.LevelOK},
		"holes":              {sample: killed, check: "reserved", level: inspect.LevelNote, says: "have holes"},
		"a stranger":         {closed, write("core.4711", "x"), now, "strangers", inspect.LevelNote, "core.4711"},
		"a backup of config": {closed, write("config.bak", "x"), now, "strangers", inspect.LevelOK, ""},
		"a stray log file":   {closed, write("commitlog/copy", "x"), now, "files", inspect.LevelProblem, "stray file"},
		"a cut log file":     {closed, func(t *testing.T, dir string) { require.NoError(t, os.Truncate(logFile(dir, 0), 1000)) }, now, "files", inspect.LevelProblem, "wrong file size"},
		"a bad checkpoint":   {closed, write("checkpoint", "x"), now, "files", inspect.LevelProblem, "checkpoint of 1 bytes"},
		"a stray queue file": {closed, write(queue+"/copy", "x"), now, "files", inspect.LevelProblem, "stray file"},
		"a bad index file":   {closed, write("index/20261122135434999", "x"), now, "files", inspect.LevelProblem, "20261122135434999"},
		"set back, a little": {closed, storedAt(2000), now, "clock", inspect.LevelNote, "set back by 2"},
		"set back":           {closed, storedAt(3_600_000), now, "clock", inspect.LevelProblem, "set back by 1h"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, c.sample)
			if c.harm != nil {
				c.harm(t, dir)
			}
			if c.now.IsZero() {
				c.now = now
			}
			before := snapshot(t, dir)
			found := examine(t, dir, c.now)
			require.Equal(t, before, snapshot(t, dir))
			require.Len(t, found[c.check], 1)
			x := found[c.check][0]
			require.Equal(t, c.level, x.Level, "%v", x)
			require.Contains(t, x.Found, c.says)
			for _, check := range []string{"file-system", "space", "maps"} {
				require.NotEmpty(t, found[check])
			}
		})
	}
}

// write writes a file into a store.
func write(name, text string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// storedAt makes the record that begins the second file of the log older than the
// one that begins the first, by so many milliseconds.
func storedAt(back int64) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		first, err := os.ReadFile(logFile(dir, 0))
		require.NoError(t, err)
		path := logFile(dir, 256<<10)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		r := message.Record(b)
		r = r[:r.Size()]
		r.Patch(r.PhysicalOffset(), r.QueueOffset(), message.Record(first).StoreTimestamp()-back)
		r.Seal()
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
}

func TestDoctorOfNothing(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"commitlog", "stele"} { // Stele makes the log with the first message
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, part), 0o755))
		found := examine(t, dir, time.Now())
		require.Equal(t, inspect.LevelOK, found["clock"][0].Level)
		require.Equal(t, inspect.LevelOK, found["files"][0].Level)
		require.Len(t, found["file-system"], 1)
	}

	stop := errors.New("stop")
	err := open(t, sample(t, closed)).Doctor(context.Background(), time.Now(), func(inspect.Diagnosis) error { return stop })
	require.ErrorIs(t, err, stop)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = open(t, sample(t, closed)).Doctor(ctx, time.Now(), func(inspect.Diagnosis) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
}
