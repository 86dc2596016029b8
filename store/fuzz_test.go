// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

const (
	fuzzFile   = 4096
	fuzzQueues = "/consumequeue/orders/0"
	fuzzMost   = 3 // files of each kind
)

// fuzzDir makes a directory of a store whose files hold log, queue and marks.
func fuzzDir(t testing.TB, log, queue, marks []byte, abort bool) *crashdisk.Disk {
	t.Helper()
	d := crashdisk.New()
	run := func(dir string, data []byte, size int) {
		require.NoError(t, d.MkdirAll(root+dir))
		for i := 0; i < fuzzMost && (len(data) > 0 || i == 0); i++ {
			file := make([]byte, size)
			data = data[copy(file, data):]
			require.NoError(t, d.WriteFile(root+dir+"/"+mappedfile.FileName(int64(i*size)), file))
		}
	}
	run("/commitlog", log, fuzzFile)
	run(fuzzQueues, queue, queueFileSize)
	if len(marks) > 0 {
		require.NoError(t, d.MkdirAll(root+"/stele"))
		require.NoError(t, d.WriteFile(root+"/stele/marks", marks))
	}
	if abort {
		require.NoError(t, d.WriteFile(root+"/abort", []byte("1")))
	}
	return d
}

// fuzzSeed is a store of some messages: its log, a queue and the marks.
func fuzzSeed(f *testing.F, o ...func(*store.Options)) (log, queue, marks []byte) {
	d := crashdisk.New()
	o = append(o, func(o *store.Options) { o.FileSize = fuzzFile })
	s := openStore(f, d, o...)
	for i := range 30 {
		appendOne(f, s, "orders", int32(i%2), string(bytes.Repeat([]byte{byte(i)}, 10*i)))
	}
	require.NoError(f, s.Close())
	read := func(dir string) (all []byte) {
		files, err := d.List(root + dir)
		require.NoError(f, err)
		for _, e := range files {
			data, err := d.ReadFile(root + dir + "/" + e.Name)
			require.NoError(f, err)
			all = append(all, data...)
		}
		return all
	}
	marks, err := d.ReadFile(root + "/stele/marks")
	require.NoError(f, err)
	return read("/commitlog"), read(fuzzQueues), marks
}

// FuzzOpen opens a store of which any byte may be anything. What it serves is
// intact, what is appended then is there afterwards, and a second opening finds
// what the first one left.
func FuzzOpen(f *testing.F) {
	log, queue, marks := fuzzSeed(f)
	plain, _, _ := fuzzSeed(f, func(o *store.Options) { o.PropertyCRC = store.CRCBodyOnly })
	golden, err := os.ReadFile("../message/testdata/broker.log") // what RocketMQ wrote
	require.NoError(f, err)
	damaged := bytes.Clone(log)
	damaged[700] ^= 0x10
	for _, abort := range []bool{false, true} {
		f.Add(log, queue, marks, abort)
		f.Add(log, queue, []byte(nil), abort)
		f.Add(log[:3000], queue, marks, abort)
		f.Add(damaged, queue[:50], marks, abort)
		f.Add(plain, []byte(nil), []byte(nil), abort)
		f.Add(golden, []byte(nil), []byte(nil), abort)
	}
	f.Fuzz(func(t *testing.T, log, queue, marks []byte, abort bool) {
		d := fuzzDir(t, log, queue, marks, abort)
		o := quiet(d)
		o.FileSize, o.Flush = fuzzFile, store.FlushSync
		s, err := store.Open(root, o)
		if err != nil {
			return // it says so, and does not panic
		}
		readAll(t, s)
		_, hi, err := s.Bounds("orders", 0)
		require.True(t, err == nil || errors.Is(err, store.ErrNoQueue))
		r, err := s.Append(context.Background(), msg("orders", 0, "new"))
		require.NoError(t, err)
		require.Equal(t, hi, r.QueueOffset)
		require.NoError(t, s.Close())

		o = quiet(d.DurableClone())
		o.FileSize = fuzzFile
		s, err = store.Open(root, o)
		require.NoError(t, err)
		require.Equal(t, r.Offset+message.Offset(r.Size), s.Stats().Appended)
		b, err := s.Fetch(context.Background(), "orders", 0, r.QueueOffset, store.Limit{})
		require.NoError(t, err)
		for m, err := range b.All() {
			require.NoError(t, err)
			require.Equal(t, "new", string(m.Body))
		}
		require.Equal(t, 1, b.Len())
		b.Release()
		readAll(t, s)
		require.NoError(t, s.Close())
		require.Empty(t, d.Unreserved())
	})
}

// readAll fetches every queue from end to end. What is damaged comes as such.
func readAll(t *testing.T, s *store.Store) {
	t.Helper()
	for _, q := range s.Queues() {
		for from := q.Min; from < q.Max; {
			b, err := s.Fetch(context.Background(), q.Topic, q.QueueID, from, store.Limit{Messages: 100})
			if err != nil {
				var c *commitlog.CorruptError
				require.True(t, errors.As(err, &c) || errors.Is(err, store.ErrNotFound), "fetch %+v from %d: %v", q, from, err)
				break
			}
			require.Greater(t, b.Next, from)
			for m, err := range b.All() {
				var c *commitlog.CorruptError
				if err != nil {
					require.ErrorAs(t, err, &c)
					continue
				}
				require.Equal(t, q.Topic, m.Topic)
			}
			from = b.Next
			b.Release()
		}
	}
}
