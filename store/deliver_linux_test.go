// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// connect makes a connection whose send buffer is as small as the kernel allows.
func connect(t testing.TB, network string) (here, there net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	there, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = there.Close() })
	here, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = here.Close() })
	require.NoError(t, here.(interface{ SetWriteBuffer(n int) error }).SetWriteBuffer(1))
	return here, there
}

// received is what a peer got.
type received struct {
	data []byte
	err  error
}

func receive(c net.Conn) <-chan received {
	got := make(chan received, 1)
	go func() {
		data, err := io.ReadAll(c)
		got <- received{data, err}
	}()
	return got
}

// decodeStream decodes records that lie back to back, fillers between them, and
// holds each checksum.
func decodeStream(t testing.TB, data []byte) (all []*message.Message) {
	t.Helper()
	dec := message.Decoder{Check: message.CheckAll}
	for len(data) > 0 {
		size, kind, err := message.Peek(data)
		require.NoError(t, err)
		if kind != message.KindFiller {
			var m message.Message
			require.NoError(t, dec.Decode(data[:size], &m))
			all = append(all, m.Clone())
		}
		data = data[size:]
	}
	return all
}

// deliverStore has several files of 64 KiB, and two queues: one whose messages lie
// alone between those of the other, one whose messages lie back to back in part.
func deliverStore(t testing.TB, change ...func(*store.Options)) *store.Store {
	t.Helper()
	o := osOptions()
	o.FileSize = 64 << 10
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(t.TempDir(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })

	for i := range 300 {
		appendOne(t, s, "orders", 0, fmt.Sprintf("%d:%s", i, strings.Repeat("a", i)))
		if i%50 < 10 {
			appendOne(t, s, "orders", 1, fmt.Sprintf("%d", i))
		}
	}
	last := appendOne(t, s, "orders", 0, strings.Repeat("z", 40<<10))
	require.NoError(t, s.WaitDispatched(t.Context(), last.Offset+message.Offset(last.Size)))
	return s
}

func TestBatchWriteTo(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for _, path := range allPaths {
			t.Run(network+"/"+path.String(), func(t *testing.T) {
				t.Parallel()
				s := deliverStore(t, func(o *store.Options) { o.WritePath = path })
				here, there := connect(t, network)
				got := receive(there)
				want := fetchAll(t, s, "orders", 0)
				sent := int64(0)
				for at := message.QueueOffset(0); at < message.QueueOffset(len(want)); {
					b, err := s.Fetch(t.Context(), "orders", 0, at, store.Limit{Messages: max(1, min(64, len(want)-1-int(at)))}) // the long one alone
					require.NoError(t, err)
					n, err := b.WriteTo(here)
					require.NoError(t, err)
					require.EqualValues(t, b.Bytes(), n)
					sent += n
					at = b.Next
					b.Release()
				}
				require.NoError(t, here.Close())
				r := <-got
				require.NoError(t, r.err)
				require.Len(t, r.data, int(sent))
				require.Equal(t, bodies(want), bodies(decodeStream(t, r.data)))
				st := s.Stats().Delivery
				require.Equal(t, sent, st.Bytes())
				require.Positive(t, st.Of(delivery.Sendfile).Bytes, "the long record")
				require.Zero(t, st.Failed)
			})
		}
	}
}

// TestSendRange sends all of a log: the peer gets the files' bytes, by sendfile
// where there is a descriptor and a plain connection.
func TestSendRange(t *testing.T) {
	t.Parallel()
	s := deliverStore(t)
	from, to := s.Stats().Min, s.Stats().Committed
	var want []byte
	for _, f := range s.Log().Files().Files() {
		data, err := os.ReadFile(f.Path())
		require.NoError(t, err)
		want = append(want, data...)
	}
	want = want[:to-from]
	for _, network := range []string{"tcp", "unix"} {
		before := s.Stats().Delivery
		here, there := connect(t, network)
		got := receive(there)
		n, err := s.SendRange(t.Context(), here, from, to)
		require.NoError(t, err)
		require.EqualValues(t, to-from, n)
		require.NoError(t, here.Close())
		r := <-got
		require.NoError(t, r.err)
		require.True(t, bytes.Equal(want, r.data))
		require.Len(t, decodeStream(t, r.data), 361)
		after := s.Stats().Delivery
		big := after.Of(delivery.Sendfile).Bytes - before.Of(delivery.Sendfile).Bytes
		require.Greater(t, big, n/2, "sendfile became something else")
		require.Equal(t, n, after.Bytes()-before.Bytes())
	}
	// To anything else the same bytes, as copies.
	var buf bytes.Buffer
	_, err := s.SendRange(t.Context(), &buf, from+1000, to-1000)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want[1000:len(want)-1000], buf.Bytes()))
}

func TestSendRangeOutOfRange(t *testing.T) {
	t.Parallel()
	s := deliverStore(t)
	end := s.Stats().Committed
	var buf bytes.Buffer
	for _, c := range []struct {
		name     string
		from, to message.Offset
	}{
		{"beyond the end", 0, end + 1},
		{"far beyond", end + 10, end + 20},
		{"backwards", 10, 9},
		{"negative", -1, 10},
	} {
		n, err := s.SendRange(t.Context(), &buf, c.from, c.to)
		require.ErrorIs(t, err, store.ErrNotFound, c.name)
		require.ErrorContains(t, err, fmt.Sprintf("committed is %d", end))
		require.Zero(t, n)
	}
	n, err := s.SendRange(t.Context(), &buf, end, end)
	require.NoError(t, err)
	require.Zero(t, n)

	_, err = s.Log().RemoveBefore(64 << 10)
	require.NoError(t, err)
	n, err = s.SendRange(t.Context(), &buf, 0, end)
	require.ErrorIs(t, err, store.ErrExpired)
	require.Zero(t, n)
	require.Zero(t, buf.Len(), "nothing went out")

	require.NoError(t, s.Close())
	_, err = s.SendRange(t.Context(), &buf, 64<<10, end)
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = s.Log().SendRange(t.Context(), &buf, 64<<10, end)
	require.ErrorIs(t, err, commitlog.ErrClosed)
}

// TestBatchOverCutFile: a file that somebody cut is an error for who sends from it.
func TestBatchOverCutFile(t *testing.T) {
	t.Parallel()
	s := deliverStore(t)
	b, err := s.Fetch(t.Context(), "orders", 0, 0, store.Limit{Messages: 100})
	require.NoError(t, err)
	defer b.Release()
	first := s.Log().Files().First()
	require.NoError(t, os.Truncate(first.Path(), 0))
	for _, network := range []string{"tcp", "unix"} {
		here, there := connect(t, network)
		got := receive(there)
		n, err := b.WriteTo(here)
		var source *delivery.SourceError
		require.ErrorAs(t, err, &source)
		require.Equal(t, first.Path(), source.Path)
		require.Zero(t, n)
		n, err = s.SendRange(t.Context(), here, 0, 60<<10)
		require.ErrorIs(t, err, delivery.ErrCut)
		require.Zero(t, n)
		require.NoError(t, here.Close())
		require.Empty(t, (<-got).data)
	}
	var buf bytes.Buffer
	_, err = b.WriteTo(&buf)
	require.ErrorAs(t, err, new(*delivery.SourceError))
	_, err = s.SendRange(t.Context(), &buf, 64<<10, 100<<10)
	require.NoError(t, err, "another file is not harmed")
	// Only a cut file is left: nothing is to be flushed any more.
	_ = s.Close()
}

// TestBatchWithoutRecord: a record that can't be found is told before anything goes
// out, and Records has the others.
func TestBatchWithoutRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	all := appendMany(t, s, 5, 0)
	overwrite := func(path string, at int64, data []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(data, at)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	// The entry names a place beyond the log, and the record lost its body.
	overwrite(filepath.Join(dir, "consumequeue/orders/0", mappedfile.FileName(0)), 2*consumequeue.EntrySize, []byte{0, 0, 1})
	overwrite(filepath.Join(dir, "commitlog", mappedfile.FileName(0)), int64(all[2].Offset)+8, bytes.Repeat([]byte{0xee}, 16))
	b, err := s.Fetch(t.Context(), "orders", 0, 0, store.Limit{})
	require.NoError(t, err)
	defer b.Release()
	require.Equal(t, 5, b.Len())
	var buf bytes.Buffer
	n, err := b.WriteTo(&buf)
	require.ErrorAs(t, err, new(*consumequeue.EntryError))
	require.ErrorContains(t, err, `send of topic "orders", queue 0`)
	require.Zero(t, n)
	require.Zero(t, buf.Len())
	for r := range b.Records() {
		buf.Write(r)
	}
	require.Equal(t, []string{"0/0", "0/1", "0/3", "0/4"}, bodies(decodeStream(t, buf.Bytes())))
}

// TestSendWithoutDescriptor: a disk without descriptors is sent from its mapping.
func TestSendWithoutDescriptor(t *testing.T) {
	t.Parallel()
	s := openStore(t, crashdisk.New())
	appendMany(t, s, 100, 0)
	here, there := connect(t, "tcp")
	got := receive(there)
	_, err := s.SendRange(t.Context(), here, 0, s.Log().Committed())
	require.NoError(t, err)
	require.NoError(t, here.Close())
	require.Len(t, decodeStream(t, (<-got).data), 100)
	require.Zero(t, s.Stats().Delivery.Of(delivery.Sendfile))
}
