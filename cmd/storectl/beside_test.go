// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// TestBesideAnOwnerThatExpires has the reading commands look at a store while its
// owner appends and files go as fast as they come: the store begins later, and
// nothing is wrong with it.
func TestBesideAnOwnerThatExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{
		FileSize: 16 << 10, QueueFileSize: 400,
		Retention: store.RetentionOptions{Policy: retention.Policy{MaxSize: 64 << 10, FilesPerPass: -1}},
	})
	require.NoError(t, err)
	m := &message.Message{Topic: "orders", Body: make([]byte, 500)}
	appendOne := func() {
		_, err := s.Append(context.Background(), m)
		require.NoError(t, err)
		m.QueueID = (m.QueueID + 1) % 2
	}
	for range 200 {
		appendOne()
	}
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	stop := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				appendOne()
			}
		}
	})
	defer func() {
		close(stop)
		owner.Wait()
		require.NoError(t, s.Close())
	}()
	began := s.Stats().Retention.Files
	looks := 0
	for s.Stats().Retention.Files < began+100 || looks < 20 {
		looks++
		for _, args := range [][]string{
			{"inspect", dir},
			{"inspect", "messages", dir, "--limit", "300"},
			{"inspect", "queue", dir, "orders", "1"},
			{"retention", dir, "--max-age", "1h"},
		} {
			var out, words bytes.Buffer
			status := run(t.Context(), args, strings.NewReader(""), &out, &words)
			require.Zero(t, status, "%v: %s", args, words.String())
		}
		d, err := inspect.Open(dir, inspect.Options{})
		require.NoError(t, err)
		next := message.QueueOffset(-1)
		for e, err := range d.Queue(t.Context(), "orders", 0, inspect.QueueRange{}) {
			require.NoError(t, err)
			require.Greater(t, e.At, next, "the offsets of a queue grow")
			require.False(t, e.IsDamage(), "%v", e.Err)
			next = e.At
		}
	}
	t.Logf("%d looks while %d files expired", looks, s.Stats().Retention.Files-began)
}
