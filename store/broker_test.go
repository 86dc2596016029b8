// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// brokerData are directories that Apache RocketMQ's DefaultMessageStore wrote.
// Its README says more.
const brokerData = "../inspect/testdata"

// TestBroker opens what a real RocketMQ wrote, goes on appending, and fetches
// old and new messages.
func TestBroker(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"append-prop-crc", "default-sizes-killed"} {
		for _, abort := range []bool{false, true} {
			for _, queues := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/abort %v/queues %v", name, abort, queues), func(t *testing.T) {
					t.Parallel()
					dir := unpack(t, name, abort)
					if !queues {
						require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
					}
					useBrokers(t, dir, brokerLines(t, name), abort)
				})
			}
		}
	}
}

// line is what putMessage returned for one message.
type line struct {
	Topic          string              `json:"topic"`
	QueueID        int32               `json:"queueId"`
	QueueOffset    message.QueueOffset `json:"queueOffset"`
	PhysicalOffset message.Offset      `json:"physicalOffset"`
	Size           int32               `json:"size"`
	StoreTimestamp int64               `json:"storeTimestamp"`
	MsgID          string              `json:"msgId"`
	BodySize       int                 `json:"bodySize"`
	BodyCRC        json.RawMessage     `json:"bodyCRC"`
}

func useBrokers(t *testing.T, dir string, lines []line, abort bool) {
	t.Helper()
	kind := store.ForeignClean
	if abort {
		kind = store.ForeignCrash
	}
	before := readQueues(t, dir)
	s, err := store.Open(dir, store.Options{})
	require.NoError(t, err)
	t.Logf("%+v", s.Stats().Recovery)
	require.Equal(t, kind, s.Stats().Recovery.Kind)
	require.Empty(t, s.Stats().Recovery.Damage)
	checkBrokers(t, s, lines, 0)
	type queue struct {
		topic string
		id    int32
	}
	old := map[queue]bool{}
	for _, l := range lines {
		old[queue{l.Topic, l.QueueID}] = true
	}
	require.Len(t, s.Queues(), len(old))
	for q := range old {
		for i := range 3 {
			appendOne(t, s, q.topic, q.id, fmt.Sprintf("new %d", i))
		}
	}
	waitAll(t, s)
	checkBrokers(t, s, lines, 3)
	require.NoError(t, s.Close())
	checkQueueFiles(t, before, readQueues(t, dir))

	s, err = store.Open(dir, store.Options{})
	require.NoError(t, err)
	require.Equal(t, store.CleanClose, s.Stats().Recovery.Kind)
	checkBrokers(t, s, lines, 3)
	require.NoError(t, s.Close())
	_, err = os.Stat(filepath.Join(dir, "abort"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// checkBrokers fetches every queue from its minimum.
func checkBrokers(t *testing.T, s *store.Store, lines []line, more int) {
	t.Helper()
	want := map[string][]line{}
	for _, l := range lines {
		k := fmt.Sprintf("%s/%d", l.Topic, l.QueueID)
		want[k] = append(want[k], l)
	}
	for _, q := range s.Queues() {
		all := fetchAll(t, s, q.Topic, q.QueueID)
		old := want[fmt.Sprintf("%s/%d", q.Topic, q.QueueID)]
		require.Len(t, all, len(old)+more)
		for i, l := range old {
			m := all[i]
			got := line{
				Topic: m.Topic, QueueID: m.QueueID, QueueOffset: m.QueueOffset, PhysicalOffset: m.PhysicalOffset, Size: m.Size,
				StoreTimestamp: m.StoreTimestamp, MsgID: m.ID(), BodySize: len(m.Body), BodyCRC: l.BodyCRC,
			}
			require.Equal(t, l, got)
			crc := strings.Trim(string(l.BodyCRC), `"`)
			sum := crc32.ChecksumIEEE(m.Body)
			require.Contains(t, []string{fmt.Sprint(sum), fmt.Sprintf("%08x", sum)}, crc)
		}
		for i, m := range all[len(old):] {
			require.Equal(t, fmt.Sprintf("new %d", i), string(m.Body))
			require.EqualValues(t, len(old)+i, m.QueueOffset)
		}
	}
}

// readQueues returns the bytes of each queue file up to the last that is not
// zero.
func readQueues(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "consumequeue", "*", "*", "*"))
	require.NoError(t, err)
	for _, p := range files {
		data, err := os.ReadFile(p)
		require.NoError(t, err)
		all[p] = bytes.TrimRight(data, "\x00")
	}
	return all
}

// checkQueueFiles requires that what was there is as it was. Entries may end in
// zeros.
func checkQueueFiles(t *testing.T, before, after map[string][]byte) {
	t.Helper()
	for p, b := range before {
		require.True(t, bytes.HasPrefix(after[p], b), p)
	}
}

func brokerLines(t *testing.T, name string) (lines []line) {
	t.Helper()
	f, err := os.Open(filepath.Join(brokerData, name+".ndjson.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for dec := json.NewDecoder(z); ; {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return lines
		}
		require.NoError(t, err)
		lines = append(lines, l)
	}
}

// unpack makes a sparse copy of a broker's directory, with abort or without.
func unpack(t *testing.T, name string, abort bool) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(filepath.Join(brokerData, name+".tar.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for r := tar.NewReader(bufio.NewReaderSize(z, 1<<20)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		_, rel, _ := strings.Cut(strings.TrimPrefix(filepath.ToSlash(h.Name), "./"), "/") // below its one directory
		const large = 100 << 20                                                           // an index of the default sizes, which is not what is looked at here
		if rel == "" || strings.HasPrefix(rel, "index/") && h.Size > large {
			continue
		}
		p := filepath.Join(dir, filepath.FromSlash(rel))
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(p, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		copySparse(t, p, r)
	}
	p := filepath.Join(dir, "abort")
	if abort {
		write(t, p, []byte("1234567"))
	} else {
		require.NoError(t, os.RemoveAll(p))
	}
	return dir
}

func copySparse(t *testing.T, path string, r io.Reader) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	size := int64(0)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			_, err := f.WriteAt(buf[:n], size)
			require.NoError(t, err)
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(size))
}

// TestBrokerAgain opens a broker's store that Stele had before: the broker went
// on from there and was closed, or killed.
func TestBrokerAgain(t *testing.T) {
	t.Parallel()
	for _, abort := range []bool{false, true} {
		t.Run(fmt.Sprint("abort ", abort), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, "append-prop-crc", false)
			lines := brokerLines(t, "append-prop-crc")
			whole := readQueues(t, dir)
			s, err := store.Open(dir, store.Options{})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			old, err := os.ReadFile(filepath.Join(dir, "stele", "marks"))
			require.NoError(t, err)
			// As if the broker had written what Stele writes now.
			s, err = store.Open(dir, store.Options{})
			require.NoError(t, err)
			for _, q := range s.Queues() {
				for i := range 3 {
					_, err := s.Append(context.Background(), msg(q.Topic, q.QueueID, fmt.Sprintf("new %d", i)))
					require.NoError(t, err)
				}
			}
			require.NoError(t, s.Close())
			write(t, filepath.Join(dir, "stele", "marks"), old)
			if abort {
				write(t, filepath.Join(dir, "abort"), []byte("1"))
			}
			s, err = store.Open(dir, store.Options{})
			require.NoError(t, err)
			defer s.Close()
			require.NotZero(t, s.Stats().Recovery.Records)
			require.Less(t, s.Stats().Recovery.Records, int64(len(lines)))
			require.False(t, s.Stats().Recovery.Rebuilt)
			checkBrokers(t, s, lines, 3)
			checkQueueFiles(t, whole, readQueues(t, dir))
		})
	}
}

// TestBrokersQueuesLag: the power of a broker's machine failed. Its checkpoint was
// a second old, but the only entry of a queue had not been flushed for as long as
// RocketMQ may keep one. The message is found in the log; not all of that is read.
func TestBrokersQueuesLag(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{time.Second, 59 * time.Second, 100 * time.Second} {
		t.Run(age.String(), func(t *testing.T) {
			t.Parallel()
			disk := crashdisk.New()
			var now atomic.Int64 // the store's goroutines look at it as well
			now.Store(1_700_000_000_000)
			clock := func(o *store.Options) { o.Clock = func() time.Time { return time.UnixMilli(now.Load()) } }
			s := openStore(t, disk, clock)
			const n = 600
			for i := range n { // one each second
				if left := (n - 1 - i) * int(time.Second); left == int(age) {
					appendOne(t, s, "payments", 0, "not in its queue")
				}
				appendOne(t, s, "orders", 0, fmt.Sprintf("%01000d", i))
				now.Add(1000)
			}
			require.NoError(t, s.Close())

			at := now.Load() - 1000
			text := make([]byte, checkpoint.Size)
			checkpoint.Checkpoint{Log: at, Queues: at}.Encode(text)
			require.NoError(t, disk.WriteFile(root+"/checkpoint", text))
			require.NoError(t, disk.WriteFile(root+"/abort", []byte("1")))
			broker(t, disk)
			queue := path.Join(queueDir("payments", 0), mappedfile.FileName(0))
			require.NoError(t, disk.WriteFile(queue, make([]byte, queueFileSize)))

			s = openStore(t, disk, clock)
			rec := s.Stats().Recovery
			require.Equal(t, store.ForeignCrash, rec.Kind)
			require.False(t, rec.Rebuilt)
			require.Positive(t, int64(rec.From))
			require.Equal(t, []string{"not in its queue"}, bodies(fetchAll(t, s, "payments", 0)))
			require.Len(t, fetchAll(t, s, "orders", 0), n)
		})
	}
}
