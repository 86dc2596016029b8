// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestVerifyBesideAWriter verifies a store over and over while it is appended
// to: what is not in its queue yet is no finding, and nothing else is wrong.
func TestVerifyBesideAWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{FileSize: 256 << 10, QueueFileSize: 4000})
	require.NoError(t, err)
	const readings, each = 15, 1500
	turns, failed := make(chan struct{}, readings), error(nil)
	var writing sync.WaitGroup
	writing.Go(func() {
		n := 0
		for range turns {
			for i := 0; i < each && failed == nil; i++ {
				n++
				_, failed = s.Append(context.Background(), &message.Message{
					Topic: fmt.Sprintf("t%d", n%5), QueueID: int32(n % 3), Body: make([]byte, n%300),
				})
			}
		}
	})
	for range readings {
		turns <- struct{}{}
		var out, words bytes.Buffer
		status := run(t.Context(), []string{"verify", dir, "-o", "ndjson"}, strings.NewReader(""), &out, &words)
		require.Equal(t, exitOK, status, "%s%s", out.String(), words.String())
		require.Empty(t, out.String())
	}
	close(turns)
	writing.Wait()
	require.NoError(t, failed)
	require.NoError(t, s.Close())

	var out, words bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"verify", dir}, strings.NewReader(""), &out, &words))
	require.Contains(t, words.String(), fmt.Sprintf("%d records", readings*each))
	require.Contains(t, words.String(), fmt.Sprintf("%d entries of 15 queues read, 0 findings", readings*each))
	require.NotContains(t, words.String(), "note:")
}
