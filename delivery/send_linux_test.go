// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/delivery"
)

const kib = 1 << 10

// shapes are what is sent in the tests: what Auto makes of them differs.
func shapes(t testing.TB) map[string][]delivery.Run {
	a, b := mapFile(t, 600*kib, 0), mapFile(t, 300*kib, 600*kib)
	scattered := func(n, size, step int64) (runs []delivery.Run) {
		for i := range n {
			runs = delivery.Append(runs, a, i*step+7, i*step+7+size)
		}
		return runs
	}
	mixed := scattered(3, 1000, 3000)
	mixed = delivery.Append(mixed, a, 100*kib+1, 500*kib)
	mixed = delivery.Append(mixed, b, 0, 300*kib)
	mixed = delivery.Append(mixed, a, 1, 2)
	return map[string][]delivery.Run{
		"one long run":   delivery.Append(nil, a, 0, 600*kib),
		"records":        scattered(32, 1000, 3000),
		"many records":   scattered(1500, 100, 200),
		"pieces":         scattered(10, 20*kib, 50*kib),
		"one byte":       delivery.Append(nil, b, 5, 6),
		"long and short": mixed,
	}
}

// TestEveryWay sends each shape each way through each kind of socket.
func TestEveryWay(t *testing.T) {
	t.Parallel()
	all := shapes(t)
	for _, name := range []string{"tcp", "unix"} {
		for m := delivery.Auto; m < delivery.Methods; m++ {
			for shape, runs := range all {
				t.Run(name+"/"+m.String()+"/"+shape, func(t *testing.T) {
					t.Parallel()
					var s delivery.Sender
					here, there := listen(name)(t)
					got := readAll(there)
					want := bytesOf(runs)
					n, err := s.Send(t.Context(), here, runs, m)
					require.NoError(t, err)
					require.EqualValues(t, len(want), n)
					require.NoError(t, here.Close())
					require.True(t, bytes.Equal(want, <-got), "other bytes came")
					st := s.Stats()
					require.EqualValues(t, len(want), st.Bytes())
					require.Equal(t, int64(1), st.Sends)
					require.Zero(t, st.Failed)
					if m != delivery.Auto {
						require.EqualValues(t, len(want), st.Of(m).Bytes, "another way was taken")
						require.Positive(t, st.Of(m).Calls)
					}
				})
			}
		}
	}
}

// TestWaysOfAuto tells by the counters which way was taken: to a plain connection
// a long run must not become a copy, and anything else must get copies.
func TestWaysOfAuto(t *testing.T) {
	t.Parallel()
	all := shapes(t)
	type ways map[delivery.Method]int64
	long, short := delivery.Len(all["long and short"][3:5]), int64(3001)
	for _, c := range []struct {
		name  string
		dial  network
		shape string
		want  ways
	}{
		{"tcp", listen("tcp"), "one long run", ways{delivery.Sendfile: 600 * kib}},
		{"unix", listen("unix"), "one long run", ways{delivery.Sendfile: 600 * kib}},
		{"tcp", listen("tcp"), "records", ways{delivery.Copy: 32000}},
		{"tcp", listen("tcp"), "pieces", ways{delivery.Writev: 200 * kib}},
		{"tcp", listen("tcp"), "long and short", ways{delivery.Sendfile: long, delivery.Copy: short}},
		{"wrapper", wrapped, "one long run", ways{delivery.Copy: 600 * kib}},
		{"wrapper", wrapped, "long and short", ways{delivery.Copy: long + short}},
		{"tls", overTLS, "one long run", ways{delivery.Copy: 600 * kib}},
		{"tls", overTLS, "records", ways{delivery.Copy: 32000}},
	} {
		t.Run(c.name+"/"+c.shape, func(t *testing.T) {
			t.Parallel()
			var s delivery.Sender
			here, there := c.dial(t)
			got := readAll(there)
			_, err := s.Send(t.Context(), here, all[c.shape], delivery.Auto)
			require.NoError(t, err)
			require.NoError(t, here.Close())
			require.True(t, bytes.Equal(bytesOf(all[c.shape]), <-got), "other bytes came")
			for m := range delivery.ReadWrite {
				went := s.Stats().Of(m).Bytes
				if m == delivery.Copy {
					went += s.Stats().Of(delivery.ReadWrite).Bytes // the machine may be short of memory
				}
				require.Equal(t, c.want[m], went, m.String())
			}
		})
	}
}

func TestOtherWriters(t *testing.T) {
	t.Parallel()
	runs := shapes(t)["long and short"]
	var s delivery.Sender
	var buf bytes.Buffer
	n, err := s.Send(t.Context(), &buf, runs, delivery.Auto)
	require.NoError(t, err)
	require.EqualValues(t, buf.Len(), n)
	require.True(t, bytes.Equal(bytesOf(runs), buf.Bytes()))

	for _, m := range []delivery.Method{delivery.Sendfile, delivery.Splice, delivery.Write, delivery.Writev, delivery.Methods} {
		_, err = s.Send(t.Context(), &buf, runs, m)
		require.ErrorIs(t, err, delivery.ErrUnsupported, m.String())
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	// Memory has no descriptor.
	memory := &delivery.Source{Data: make([]byte, 200*kib), Path: "memory"}
	here, there := listen("tcp")(t)
	got := readAll(there)
	runs = delivery.Append(nil, memory, 0, 200*kib)
	for _, m := range []delivery.Method{delivery.Sendfile, delivery.Splice, delivery.ReadWrite} {
		_, err = s.Send(t.Context(), here, runs, m)
		require.ErrorIs(t, err, delivery.ErrUnsupported, m.String())
	}
	before := s.Stats().Of(delivery.Write).Bytes
	_, err = s.Send(t.Context(), here, runs, delivery.Auto)
	require.NoError(t, err)
	require.EqualValues(t, 200*kib, s.Stats().Of(delivery.Write).Bytes-before)
	n, err = s.Send(t.Context(), here, nil, delivery.Auto)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, here.Close())
	require.Len(t, <-got, 200*kib)

	// A writer that takes less than it says.
	_, err = s.Send(t.Context(), writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }), runs, delivery.Auto)
	require.ErrorIs(t, err, io.ErrShortWrite)
	broken := errors.New("broken")
	n, err = s.Send(t.Context(), writerFunc(func([]byte) (int, error) { return 3, broken }), runs, delivery.Auto)
	require.ErrorIs(t, err, broken)
	require.EqualValues(t, 3, n)
	require.ErrorContains(t, err, "3 of 204800 bytes sent: ")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestPeers has peers that go away or don't read. Each way is tried, nothing is
// left open, and the sender is fit for the next peer.
func TestPeers(t *testing.T) {
	src := mapFile(t, 8<<20, 0)
	runs := delivery.Append(nil, src, 0, 8<<20)
	gone := errors.New("gone")
	for m := delivery.Auto; m < delivery.Methods; m++ {
		t.Run(m.String(), func(t *testing.T) {
			before := openFiles(t)
			var s delivery.Sender
			send := func(ctx context.Context, prepare func(here, there net.Conn)) (int64, error) {
				here, there := listen("tcp")(t)
				prepare(here, there)
				n, err := s.Send(ctx, here, runs, m)
				require.Error(t, err)
				require.Less(t, n, delivery.Len(runs))
				require.NoError(t, errors.Join(ignoreClosed(here.Close()), ignoreClosed(there.Close())))
				return n, err
			}
			_, err := send(t.Context(), func(_, there net.Conn) { require.NoError(t, there.Close()) })
			require.True(t, errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET), "%v", err)

			_, err = send(t.Context(), func(_, there net.Conn) {
				_, err := io.ReadFull(there, nil)
				require.NoError(t, err)
				require.NoError(t, there.(*net.TCPConn).SetLinger(0))
				require.NoError(t, there.Close())
			})
			require.True(t, errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET), "%v", err)

			// It stops reading: the connection's deadline, and a context.
			n, err := send(t.Context(), func(here, _ net.Conn) {
				require.NoError(t, here.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
			})
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Positive(t, n, "the buffers took something")

			ctx, cancel := context.WithCancelCause(t.Context())
			_, err = send(ctx, func(net.Conn, net.Conn) { time.AfterFunc(50*time.Millisecond, func() { cancel(gone) }) })
			require.ErrorIs(t, err, gone)

			n, err = send(ctx, func(net.Conn, net.Conn) {})
			require.ErrorIs(t, err, gone)
			require.Zero(t, n)

			_, err = send(t.Context(), func(here, _ net.Conn) { require.NoError(t, here.Close()) })
			require.ErrorIs(t, err, net.ErrClosed)

			require.Equal(t, int64(6), s.Stats().Failed)
			require.Equal(t, before, openFiles(t), "descriptors were left open")
		})
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// TestContextBetweenCalls ends the context while nothing waits: the send is left at
// the next call, and says how much went out.
func TestContextBetweenCalls(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	src := mapFile(t, 600*kib, 0)
	runs := delivery.Append(nil, src, 0, 600*kib)
	here, there := listen("tcp")(t)
	got := readAll(there)
	for name, w := range map[string]io.Writer{
		"tcp": here, "no deadlines": writerFunc(func(p []byte) (int, error) { return len(p), nil }),
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		parts := 0
		s := delivery.Sender{Guard: func(do func() error) error {
			if parts++; parts == 2 {
				cancel(gone)
			}
			return do()
		}}
		n, err := s.Send(ctx, w, runs, delivery.Copy)
		require.ErrorIs(t, err, gone, name)
		require.Equal(t, 2, parts, name)
		require.EqualValues(t, 256*kib, n, name)
	}
	require.NoError(t, here.Close())
	require.True(t, bytes.Equal(src.Data[:256*kib], <-got), "other bytes came")
}
