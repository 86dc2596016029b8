// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// makeStore makes a closed store of three log files on the real disk.
func makeStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	for range 3 {
		_, err := s.Append(context.Background(), &message.Message{Topic: "orders", Body: make([]byte, 10000)})
		require.NoError(t, err)
	}
	_, err = s.Append(context.Background(), msg("payments", 0, ""))
	require.NoError(t, err)
	_, err = s.Append(context.Background(), msg("payments", 1, ""))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// TestBadDirectories are refused by name, and not a byte of them changes.
func TestBadDirectories(t *testing.T) {
	t.Parallel()
	third := mappedfile.FileName(2 * fileSize)
	second := mappedfile.FileName(fileSize)
	cases := []struct {
		name    string
		wreck   func(t *testing.T, dir string)
		options func(o *store.Options)
		want    error
		text    string // what and where
	}{
		{"nothing of a store", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			write(t, filepath.Join(dir, "photo.jpg"), []byte("x"))
		}, nil, store.ErrNotStore, "photo.jpg"},
		{"the log's own directory", func(t *testing.T, dir string) {
			for _, n := range []string{"stele", "consumequeue"} {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, n)))
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "checkpoint")))
			all, err := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
			require.NoError(t, err)
			for _, p := range all {
				require.NoError(t, os.Rename(p, filepath.Join(dir, filepath.Base(p))))
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "commitlog")))
		}, nil, store.ErrNotStore, "directory above it"},
		{"a missing directory that must exist", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o755))
		}, func(o *store.Options) { o.MustExist = true }, store.ErrNotStore, "empty directory"},
		{"a stray file in the log", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "commitlog", "notes.txt"), []byte("x"))
		}, nil, store.ErrStrayFile, "notes.txt"},
		{"a stray file in a queue", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "consumequeue", "orders", "0", "notes.txt"), []byte("x"))
		}, nil, store.ErrStrayFile, "notes.txt"},
		{"a log file of another size", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "commitlog", second), fileSize-1))
		}, nil, store.ErrFileSize, second},
		{"a queue file of another size", func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "consumequeue", "orders", "0", mappedfile.FileName(0)), 100))
		}, nil, store.ErrFileSize, "orders"},
		{"a missing file", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "commitlog", second)))
		}, nil, store.ErrMissingFile, second},
		{"another FileSize", nil, func(o *store.Options) { o.FileSize = 2 * fileSize }, store.ErrFileSize, "16384 bytes, want 32768"},
		{"another QueueFileSize", nil, func(o *store.Options) { o.QueueFileSize = 2 * queueFileSize }, store.ErrFileSize, "320 bytes, want 640"},
		{"a lost log", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "commitlog")))
		}, nil, store.ErrMissingFile, "orders"},
		{"RocksDB queues", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "consumequeue", "CURRENT"), []byte("MANIFEST-000001\n"))
		}, nil, store.ErrUnsupportedLayout, "RocksDB"},
		{"DLedger", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "dledger-n0", "data", "x"), []byte("x"))
		}, nil, store.ErrUnsupportedLayout, "DLedger"},
		{"several log directories", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "commitlog2", third), make([]byte, fileSize))
		}, nil, store.ErrUnsupportedLayout, "commitlog2"},
		{"batch queues", func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "batchconsumequeue", "lots", "0"), 0o755))
		}, nil, store.ErrUnsupportedLayout, "lots"},
		{"FileSize too small", nil, func(o *store.Options) { o.FileSize = 100 }, store.ErrOptions, "FileSize 100"},
		{"FileSize beyond the format", nil, func(o *store.Options) { o.FileSize = 1 << 31 }, store.ErrOptions, "FileSize 2147483648"},
		{"QueueFileSize beyond the format", nil, func(o *store.Options) { o.QueueFileSize = 1 << 40 }, store.ErrOptions, "QueueFileSize"},
		{"negative QueueFileSize", nil, func(o *store.Options) { o.QueueFileSize = -1 }, store.ErrOptions, "QueueFileSize -1"},
		{"negative MaxBodyLen", nil, func(o *store.Options) { o.MaxBodyLen = -1 }, store.ErrOptions, "MaxBodyLen -1"},
		{"unknown Flush", nil, func(o *store.Options) { o.Flush = 9 }, store.ErrOptions, "Flush 9"},
		{"unknown WritePath", nil, func(o *store.Options) { o.WritePath = 9 }, store.ErrOptions, "WritePath 9"},
		{"negative PoolBuffers", nil, func(o *store.Options) { o.PoolBuffers = -1 }, store.ErrOptions, "PoolBuffers -1"},
		{"unknown Topics", nil, func(o *store.Options) { o.Topics = 9 }, store.ErrOptions, "Topics 9"},
		{"unknown PropertyCRC", nil, func(o *store.Options) { o.PropertyCRC = 9 }, store.ErrOptions, "PropertyCRC 9"},
		{"negative interval", nil, func(o *store.Options) { o.CheckpointInterval = -time.Second }, store.ErrOptions, "CheckpointInterval -1s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := makeStore(t)
			if c.wreck != nil {
				c.wreck(t, dir)
			}
			o := store.Options{}
			if c.options != nil {
				c.options(&o)
			}
			before := hashTree(t, dir)
			_, err := store.Open(dir, o)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, before, hashTree(t, dir))
			_, again := store.Open(dir, o)
			require.ErrorIs(t, again, c.want, "the failed opening left something behind")
		})
	}
}

func TestOpenAFile(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, []byte("text"))
	_, err := store.Open(p, store.Options{})
	require.ErrorIs(t, err, store.ErrNotStore)
	require.ErrorContains(t, err, p)
	data, err := os.ReadFile(p)
	require.NoError(t, err)
	require.Equal(t, "text", string(data))
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	defer s.Close()
	before := hashTree(t, dir)
	_, err = store.Open(dir, osOptions())
	require.ErrorIs(t, err, store.ErrLocked)
	var locked *mappedfile.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	require.Equal(t, before, hashTree(t, dir))
}

// TestBadMessages are refused, alone and in a batch, and not a byte changes.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	manyProperties := message.Properties{}
	for i := range 40 {
		manyProperties.Set(strings.Repeat("k", 1+i), strings.Repeat("v", 1000))
	}
	cases := []struct {
		name string
		m    message.Message
		want error
		text string
	}{
		{"empty topic", message.Message{}, store.ErrEmptyTopic, "topic"},
		{"long topic", message.Message{Topic: strings.Repeat("t", 300)}, store.ErrTopicTooLong, "300"},
		{"bad topic", message.Message{Topic: "a/b"}, store.ErrTopicChars, "a/b"},
		{"topic ..", message.Message{Topic: ".."}, store.ErrTopicChars, ".."},
		{"negative queue", message.Message{Topic: "t", QueueID: -1}, store.ErrNegativeQueue, "-1"},
		{"queue too large", message.Message{Topic: "t", QueueID: store.MaxQueueID + 1}, store.ErrTooManyQueues, "65536"},
		{"body too large", message.Message{Topic: "t", Body: make([]byte, 20001)}, store.ErrBodyTooLarge, "20001"},
		{"properties too large", message.Message{Topic: "t", Properties: manyProperties}, store.ErrPropertiesTooLarge, "32767"},
		{"bad property", message.Message{Topic: "t", Properties: message.NewProperties("a\x01b", "c")}, store.ErrBadProperty, ""},
		{"record larger than a file", message.Message{Topic: "t", Body: make([]byte, fileSize)}, store.ErrRecordTooLarge, "16384"},
		{"inner batch", message.Message{Topic: "t", SysFlag: message.InnerBatch}, store.ErrInnerBatch, `"t"`},
		{"undeclared queue", message.Message{Topic: "few", QueueID: 2}, store.ErrNoQueue, `"few", queue 2`},
		{"no permission", message.Message{Topic: "readonly"}, store.ErrPermission, "readonly"},
	}
	dir := t.TempDir()
	o := osOptions()
	o.MaxBodyLen, o.CheckpointInterval, o.OffsetInterval = 20000, long, long
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	defer s.Close()
	declare(t, s, "few", 2, "RW")
	declare(t, s, "readonly", 2, "R")
	_, err = s.Append(context.Background(), msg("t", 0, "x"))
	require.NoError(t, err)
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	before := hashTree(t, dir)
	for _, c := range cases {
		_, err := s.Append(context.Background(), &c.m)
		require.ErrorIs(t, err, c.want, c.name)
		require.ErrorContains(t, err, c.text, c.name)
		_, err = s.AppendBatch(context.Background(), []*message.Message{msg("t", 0, "good"), &c.m})
		if errors.Is(c.want, store.ErrRecordTooLarge) {
			c.want = store.ErrBatchTooLarge
		}
		require.ErrorIs(t, err, c.want, c.name)
	}
	_, err = s.AppendBatch(context.Background(), []*message.Message{
		{Topic: "t", Body: make([]byte, 9000)}, {Topic: "t", Body: make([]byte, 9000)},
	})
	require.ErrorIs(t, err, store.ErrBatchTooLarge)
	require.Equal(t, before, hashTree(t, dir))
	_, hi, err := s.Bounds("t", 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, hi)
	r := appendOne(t, s, "t", 0, "next")
	require.EqualValues(t, 1, r.QueueOffset, "a refused message took a place in the queue")
	require.False(t, bytes.Equal(nil, []byte(r.ID())))
}

// TestDamagedHeadOfLog: a file whose last bytes are no filler and a log whose
// first record is damaged are opened, and what is readable is read.
func TestDamagedHeadOfLog(t *testing.T) {
	t.Parallel()
	dir := makeStore(t)
	p := filepath.Join(dir, "commitlog", mappedfile.FileName(0))
	data, err := os.ReadFile(p)
	require.NoError(t, err)
	data[200] ^= 1 // in the body of the first record
	require.NoError(t, os.WriteFile(p, data, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
	s, err := store.Open(dir, store.Options{})
	require.NoError(t, err)
	defer s.Close()
	require.Len(t, s.Stats().Recovery.Damage, 1)
	require.True(t, s.Stats().Recovery.Rebuilt)
	lo, hi, err := s.Bounds("orders", 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, lo)
	require.EqualValues(t, 3, hi)
	require.Len(t, fetchAll(t, s, "orders", 0), 2)
}
