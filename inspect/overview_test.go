// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func overview(t testing.TB, dir string) *inspect.Overview {
	t.Helper()
	o, err := open(t, dir).Overview(context.Background())
	require.NoError(t, err)
	return o
}

func TestOverviewOfABroker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		messages int64
		files    int
		fileSize int64
		max      message.Offset
		abort    *inspect.Abort
	}{
		{closed, 800, 2, 262144, 364563, nil},
		{killed, 400, 2, 1 << 30, 166660, &inspect.Abort{PID: 20197}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, tt.name)
			d := open(t, dir)
			msgs, errs := collect(t, d, inspect.Filter{})
			require.Empty(t, errs)
			o := overview(t, dir)
			require.Empty(t, o.Problems)
			require.Equal(t, inspect.LogOverview{
				Dir: filepath.Join(dir, "commitlog"), Files: tt.files, FileSize: tt.fileSize, Min: 0, Max: tt.max,
				FirstStoreTime: msgs[0].StoreTimestamp, LastStoreTime: msgs[len(msgs)-1].StoreTimestamp,
			}, o.CommitLog)
			require.Len(t, o.Queues, 12)
			require.Len(t, o.Topics, 3)
			sum := int64(0)
			for _, q := range o.Queues {
				sum += q.Entries
				require.Zero(t, q.Min)
				var first, last int64
				for _, m := range msgs {
					if m.Topic == q.Topic && m.QueueID == q.Queue {
						if first == 0 {
							first = m.StoreTimestamp
						}
						last = m.StoreTimestamp
					}
				}
				require.Equal(t, first, q.FirstStoreTime)
				require.Equal(t, last, q.LastStoreTime)
			}
			require.Equal(t, tt.messages, sum)
			require.Equal(t, int64(len(msgs)), sum)
			if tt.abort != nil {
				require.NotNil(t, o.Abort)
				require.Equal(t, tt.abort.PID, o.Abort.PID)
			} else {
				require.Nil(t, o.Abort)
			}
			require.NotNil(t, o.Checkpoint)
			require.False(t, o.Stele)
			require.Empty(t, o.NotShown)
		})
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	pristine := overview(t, sample(t, closed))
	tests := map[string]struct {
		change func(t *testing.T, dir string)
		check  func(t *testing.T, o *inspect.Overview)
	}{
		"this process holds it": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "abort"), []byte(strconv.Itoa(os.Getpid())), 0o600))
			},
			func(t *testing.T, o *inspect.Overview) {
				require.Equal(t, &inspect.Abort{PID: os.Getpid(), Alive: true}, o.Abort)
			},
		},
		"an empty abort": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "abort"), nil, 0o600))
			},
			func(t *testing.T, o *inspect.Overview) { require.Equal(t, &inspect.Abort{}, o.Abort) },
		},
		"no consume queues": {
			func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue"))) },
			func(t *testing.T, o *inspect.Overview) {
				require.Equal(t, pristine.CommitLog.Max, o.CommitLog.Max)
				require.Empty(t, o.Queues)
				require.Empty(t, o.Problems)
			},
		},
		"no commit log": {
			func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "commitlog"))) },
			func(t *testing.T, o *inspect.Overview) {
				require.Zero(t, o.CommitLog.Files)
				require.Len(t, o.Queues, 12)
				require.Empty(t, o.Problems)
			},
		},
		"a damaged last record": {
			func(t *testing.T, dir string) {
				flip(t, logFile(dir, 262144), int64(pristine.CommitLog.Max)-262144-30)
			},
			func(t *testing.T, o *inspect.Overview) {
				require.Less(t, o.CommitLog.Max, pristine.CommitLog.Max)
				require.Len(t, o.Problems, 1)
				require.ErrorIs(t, o.Problems[0], message.ErrPropertyCRC)
			},
		},
		"a damaged first record": {
			func(t *testing.T, dir string) { flip(t, logFile(dir, 0), 5) },
			func(t *testing.T, o *inspect.Overview) {
				require.Equal(t, pristine.CommitLog.Max, o.CommitLog.Max)
				require.Len(t, o.Problems, 1)
				require.ErrorIs(t, o.Problems[0], message.ErrMagic)
			},
		},
		"a stray file in the log": {
			func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(logFile(dir, 0)+".tmp", nil, 0o600)) },
			func(t *testing.T, o *inspect.Overview) {
				require.Len(t, o.Queues, 12)
				require.Equal(t, int64(800), o.Topics[0].Entries+o.Topics[1].Entries+o.Topics[2].Entries)
				require.Len(t, o.Problems, 1)
				require.ErrorIs(t, o.Problems[0], mappedfile.ErrStrayFile)
			},
		},
		"a queue file of a wrong length": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Truncate(filepath.Join(dir, "consumequeue/topic-1/2", mappedfile.FileName(0)), 100))
			},
			func(t *testing.T, o *inspect.Overview) {
				require.Equal(t, pristine.CommitLog, withDir(o.CommitLog, pristine.CommitLog.Dir))
				require.Len(t, o.Problems, 1)
				require.ErrorIs(t, o.Problems[0], mappedfile.ErrFileSize)
			},
		},
		"a short checkpoint": {
			func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "checkpoint"), 16)) },
			func(t *testing.T, o *inspect.Overview) {
				require.Nil(t, o.Checkpoint)
				require.Len(t, o.Problems, 1)
				require.ErrorContains(t, o.Problems[0], "checkpoint of 16 bytes")
			},
		},
		"things beside": {
			func(t *testing.T, dir string) {
				for _, sub := range []string{"config/rdb", "batchconsumequeue", "stele", "timerlog"} {
					require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, "config/topics.json"), nil, 0o600))
			},
			func(t *testing.T, o *inspect.Overview) {
				require.True(t, o.Stele)
				require.Equal(t, []string{"topics.json"}, o.Config)
				require.Equal(t, []string{"batchconsumequeue (batch consume queues)", "timerlog (timer log)", "config/rdb (configuration in RocksDB)"}, o.NotShown)
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			tt.change(t, dir)
			tt.check(t, overview(t, dir))
		})
	}
}

func withDir(l inspect.LogOverview, dir string) inspect.LogOverview {
	l.Dir = dir
	return l
}

func TestOverviewJSON(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	require.NoError(t, os.Truncate(filepath.Join(dir, "checkpoint"), 16))
	b, err := json.Marshal(overview(t, dir))
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, []any{filepath.Join(dir, "checkpoint") + ": checkpoint of 16 bytes, want 4096"}, got["problems"])
	require.Equal(t, []any{}, got["config"])
	require.Nil(t, got["abort"])
	require.Equal(t, float64(364563), got["commitLog"].(map[string]any)["max"])
}
