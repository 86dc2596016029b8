// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// childEnv makes the test binary a child of a test: see runChild.
const childEnv = "STELE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	fusefs.Main()
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(runChild(job))
	}
	goleak.VerifyTestMain(m)
}

const (
	root = "/store"
	// fileSize and queueFileSize make files roll soon.
	fileSize      = 16 << 10
	queueFileSize = 16 * 20
)

// smallIndex makes index files roll soon. Its slots take two pages.
var smallIndex = store.IndexOptions{Slots: 1100, Entries: 40}

// long is an interval that does not pass in a test.
const long = time.Hour

// quiet are options under which nothing is flushed unless it is asked for.
func quiet(disk mappedfile.Disk) store.Options {
	return store.Options{
		Disk: disk, MetaFS: vfs.NewMem(), FileSize: fileSize, QueueFileSize: queueFileSize, Index: smallIndex,
		FlushInterval: long, FlushThoroughInterval: long, CheckpointInterval: long, OffsetInterval: long,
	}
}

// openStore opens the store on disk and closes it when the test ends.
func openStore(t testing.TB, disk mappedfile.Disk, change ...func(*store.Options)) *store.Store {
	t.Helper()
	o := quiet(disk)
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(root, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var allPaths = []store.WritePath{store.WriteMmap, store.WritePool, store.WriteFile}

// eachPath runs a test once for each write path.
func eachPath(t *testing.T, name string, test func(t *testing.T, path store.WritePath)) {
	t.Helper()
	for _, path := range allPaths {
		t.Run(name+", "+path.String(), func(t *testing.T) {
			t.Parallel()
			test(t, path)
		})
	}
}

func syncFlush(o *store.Options) { o.Flush = store.FlushSync }

// osOptions are for a store on the real disk with small files.
func osOptions() store.Options {
	return store.Options{FileSize: fileSize, QueueFileSize: queueFileSize, Index: smallIndex}
}

func msg(topic string, queue int32, body string) *message.Message {
	return &message.Message{Topic: topic, QueueID: queue, Body: []byte(body)}
}

func appendOne(t testing.TB, s *store.Store, topic string, queue int32, body string) store.AppendResult {
	t.Helper()
	r, err := s.Append(context.Background(), msg(topic, queue, body))
	require.NoError(t, err)
	return r
}

// appendMany appends n messages to each of some queues, in turn, and waits until
// they are in their queues.
func appendMany(t testing.TB, s *store.Store, n int, queues ...int32) (all []store.AppendResult) {
	t.Helper()
	for i := range n {
		for _, q := range queues {
			all = append(all, appendOne(t, s, "orders", q, fmt.Sprintf("%d/%d", q, i)))
		}
	}
	last := all[len(all)-1]
	require.NoError(t, s.WaitDispatched(context.Background(), last.Offset+message.Offset(last.Size)))
	return all
}

// fetchAll returns every message of a queue from its minimum to its maximum, as
// copies, and requires that their offsets follow each other.
func fetchAll(t testing.TB, s *store.Store, topic string, queue int32) (all []*message.Message) {
	t.Helper()
	lo, hi, err := s.Bounds(topic, queue)
	require.NoError(t, err)
	for from := lo; from < hi; {
		b, err := s.Fetch(context.Background(), topic, queue, from, store.Limit{Messages: 100})
		require.NoError(t, err)
		require.NotZero(t, b.Len(), "queue %s/%d at %d of [%d, %d)", topic, queue, from, lo, hi)
		for m, err := range b.All() {
			require.NoError(t, err)
			require.Equal(t, from, m.QueueOffset, "a hole in queue %s/%d", topic, queue)
			all = append(all, m.Clone())
			from++
		}
		require.Equal(t, from, b.Next)
		b.Release()
	}
	return all
}

func bodies(all []*message.Message) []string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = string(m.Body)
	}
	return texts
}

// hashTree returns the content, mode and time of each file below dir, but for
// the lock file.
func hashTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil || rel == "lock" || rel == "." {
			return err
		}
		if d.IsDir() {
			sums[rel] = "directory"
			return nil
		}
		data, err := os.ReadFile(p)
		info, err2 := d.Info()
		if err != nil || err2 != nil {
			return fmt.Errorf("%w, %w", err, err2)
		}
		sums[rel] = fmt.Sprintf("%x %v %v", sha256.Sum256(data), info.Mode(), info.ModTime())
		return nil
	})
	require.NoError(t, err)
	return sums
}

// contents returns the bytes of each file below dir of a disk in memory.
func contents(t testing.TB, d *crashdisk.Disk, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := d.List(dir)
	require.NoError(t, err)
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		if e.Dir {
			for k, v := range contents(t, d, p) {
				all[k] = v
			}
			continue
		}
		data, err := d.ReadFile(p)
		require.NoError(t, err)
		all[p] = string(data)
	}
	return all
}

// removeTree deletes a file or directory of a disk in memory, durably.
func removeTree(t testing.TB, d *crashdisk.Disk, p string) {
	t.Helper()
	if entries, err := d.List(p); err == nil {
		for _, e := range entries {
			removeTree(t, d, path.Join(p, e.Name))
		}
	}
	require.NoError(t, d.Remove(p))
	require.NoError(t, d.SyncDir(path.Dir(p)))
}

// sealSlot gives a slot of the marks its checksum.
func sealSlot(slot []byte) {
	sum := crc32.Update(crc32.ChecksumIEEE(slot[:8]), crc32.IEEETable, slot[12:])
	binary.BigEndian.PutUint32(slot[8:], sum)
}

// clock tells a fixed time, and a millisecond more each time that it is asked.
type clock struct {
	mu  sync.Mutex
	now int64
}

func newClock() *clock { return &clock{now: 1700000000000} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	return time.UnixMilli(c.now)
}

// handClock tells what it was set to.
type handClock struct{ ms atomic.Int64 }

func newHandClock(start time.Time) *handClock {
	c := &handClock{}
	c.set(start)
	return c
}

func (c *handClock) set(t time.Time) { c.ms.Store(t.UnixMilli()) }

func (c *handClock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }
