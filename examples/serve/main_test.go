// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServe has two clients follow a queue, before and while it is appended to.
func TestServe(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.TempDir(), store.Options{FileSize: 1 << 20})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l, s, "orders", 3) }()

	add := func(i int) {
		_, err := s.Append(ctx, &message.Message{Topic: "orders", QueueID: 3, Body: fmt.Appendf(nil, "box %d", i)})
		require.NoError(t, err)
	}
	for i := range 50 {
		add(i)
	}
	var lines [2]*bufio.Scanner
	printed := make(chan error, len(lines))
	for i := range lines {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		r, w := io.Pipe()
		lines[i] = bufio.NewScanner(r)
		go func() {
			err := printAll(ctx, c, w)
			printed <- err
			_ = w.CloseWithError(err)
		}()
	}
	for i := range 100 {
		if i >= 50 {
			add(i)
		}
		for _, l := range lines {
			require.True(t, l.Scan())
			require.Equal(t, fmt.Sprintf("orders/3/%d: box %d", i, i), l.Text())
		}
	}
	cancel()
	require.ErrorIs(t, <-served, net.ErrClosed)
	for range lines {
		<-printed
	}
	require.NoError(t, s.Close())
}

func TestUsage(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(t.Context(), "", "", nil), "want -connect")
	require.ErrorContains(t, run(t.Context(), "127.0.0.1:0", "", []string{"dir", "topic", "x"}), "invalid syntax")
	require.ErrorIs(t, run(t.Context(), "127.0.0.1:0", "", []string{t.TempDir(), "topic", "0"}), store.ErrNotStore)
}
