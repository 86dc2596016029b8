// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// manual has Expire keep one file, and nothing expire by itself.
func manual(o *store.Options) {
	o.Retention.Policy = retention.Policy{MaxSize: o.FileSize, FilesPerPass: -1}
	o.Retention.Manual = true
}

// longDeliverStore is deliverStore with more files, of which Expire keeps one.
func longDeliverStore(t testing.TB) *store.Store {
	t.Helper()
	s := deliverStore(t, manual)
	for s.Log().Files().Len() < 5 {
		appendOne(t, s, "orders", 2, strings.Repeat("y", 30<<10))
	}
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	return s
}

// TestConsumerThatStalls: one that does not read pins its batch and nothing else.
// Appends, other consumers and expiry go on beside it, and its file goes when it
// lets go. It does not read for as long as the test takes to see all of that.
func TestConsumerThatStalls(t *testing.T) {
	t.Parallel()
	s := longDeliverStore(t)
	files := s.Log().Files()
	here, there := connect(t, "tcp")
	b, err := s.Fetch(t.Context(), "orders", 0, 0, store.Limit{Messages: 50})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // until the buffers of both ends are full
			_, err = b.SendTo(ctx, here)
		}
		b.Release()
		ended <- err
	}()
	_, err = io.ReadFull(there, make([]byte, 1)) // it has begun
	require.NoError(t, err)

	before := files.Len()
	expired, err := s.Expire(t.Context())
	require.NoError(t, err)
	require.Len(t, expired.Removed, before-1)
	require.NoFileExists(t, filepath.Join(files.Dir(), mappedfile.FileName(0)))
	require.Equal(t, s.Stats().FileSize, s.Stats().Retention.Held, "the file of the batch is held, and no other")
	appendMany(t, s, 50, 5)
	require.Len(t, fetchAll(t, s, "orders", 5), 50)
	other, another := connect(t, "unix")
	got := receive(another)
	_, err = s.SendRange(t.Context(), other, s.Log().Min(), s.Log().Committed())
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NotEmpty(t, decodeStream(t, (<-got).data))

	select {
	case err := <-ended:
		require.Fail(t, "the stalled send ended", "%v", err)
	default:
	}
	enough := errors.New("enough")
	cancel(enough)
	require.ErrorIs(t, <-ended, enough)
	require.Zero(t, s.Stats().Retention.Held, "a reference is left")
}

// TestRangeThatStalls: what pulls a range and does not read holds the file that is
// being sent. When the ones behind it expire meanwhile, it gets the rest of that
// file, and whoever sends is told.
func TestRangeThatStalls(t *testing.T) {
	t.Parallel()
	s := longDeliverStore(t)
	size := s.Stats().FileSize
	here, there := net.Pipe()
	type result struct {
		n   int64
		err error
	}
	ended := make(chan result, 1)
	go func() {
		n, err := s.SendRange(t.Context(), here, 0, s.Log().Committed())
		ended <- result{n, errors.Join(err, here.Close())}
	}()
	var data [1]byte
	_, err := io.ReadFull(there, data[:]) // the rest of the write waits
	require.NoError(t, err)
	_, err = s.Expire(t.Context())
	require.NoError(t, err)
	require.Positive(t, s.Log().Min())
	require.Equal(t, size, s.Stats().Retention.Held, "the file that is sent is held, and no other")
	rest := <-receive(there)
	r := <-ended
	require.ErrorIs(t, r.err, store.ErrExpired)
	require.Equal(t, size, r.n)
	require.NoError(t, rest.err)
	require.NotEmpty(t, decodeStream(t, slices.Concat(data[:], rest.data)))
	require.Zero(t, s.Stats().Retention.Held, "a reference is left")
}

// sockets counts those of this process, and its pipes. (The store opens and closes
// files of its own all the time.)
func sockets(t testing.TB) (n int) {
	t.Helper()
	const dir = "/proc/self/fd"
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, fd := range all {
		to, _ := os.Readlink(filepath.Join(dir, fd.Name())) // it may be closed by now
		if strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// TestPeersThatFail: after a peer that has gone, a deadline, or the end of a context
// nothing is held, no descriptor is left, and the next peer gets all. (That no
// goroutine is left is seen when all tests have run.)
func TestPeersThatFail(t *testing.T) {
	s := longDeliverStore(t)
	from, to := s.Log().Min(), s.Log().Committed()
	b, err := s.Fetch(t.Context(), "orders", 0, 0, store.Limit{Messages: 1000, Bytes: 1 << 20})
	require.NoError(t, err)
	gone := errors.New("gone")
	reset := []error{syscall.EPIPE, syscall.ECONNRESET}
	before := sockets(t)
	for _, c := range []struct {
		name    string
		prepare func(here, there *net.TCPConn, end func(error))
		want    []error
	}{
		{"closes", func(_, there *net.TCPConn, _ func(error)) { _ = there.Close() }, reset},
		{"resets", func(_, there *net.TCPConn, _ func(error)) { _ = errors.Join(there.SetLinger(0), there.Close()) }, reset},
		{"deadline", func(here, _ *net.TCPConn, _ func(error)) {
			_ = here.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		}, []error{os.ErrDeadlineExceeded}},
		{"context", func(_, _ *net.TCPConn, end func(error)) { time.AfterFunc(30*time.Millisecond, func() { end(gone) }) }, []error{gone}},
		{"closed here", func(here, _ *net.TCPConn, _ func(error)) { _ = here.Close() }, []error{net.ErrClosed}},
	} {
		for name, send := range map[string]func(context.Context, io.Writer) (int64, error){
			"batch": b.SendTo,
			"range": func(ctx context.Context, w io.Writer) (int64, error) { return s.SendRange(ctx, w, from, to) },
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				here, there := connect(t, "tcp")
				defer func() { _, _ = here.Close(), there.Close() }()
				ctx, end := context.WithCancelCause(t.Context())
				defer end(nil)
				c.prepare(here.(*net.TCPConn), there.(*net.TCPConn), end)
				var err error
				for err == nil { // until the buffers of both ends are full
					_, err = send(ctx, here)
				}
				matches := 0
				for _, want := range c.want {
					if errors.Is(err, want) {
						matches++
					}
				}
				require.Positive(t, matches, "%v", err)
			})
		}
	}
	require.Equal(t, before, sockets(t), "descriptors are left open")
	here, there := connect(t, "tcp")
	got := receive(there)
	n, err := b.WriteTo(here)
	require.NoError(t, err)
	require.NoError(t, here.Close())
	require.Len(t, (<-got).data, int(n))
	b.Release()
	_, err = s.Expire(t.Context())
	require.NoError(t, err)
	require.Greater(t, s.Log().Min(), message.Offset(0))
	require.Zero(t, s.Stats().Retention.Held, "a reference is left")
}
