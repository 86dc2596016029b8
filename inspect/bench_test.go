// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// BenchmarkMessages reads a log of messages with two properties; one iteration
// is one message.
func BenchmarkMessages(b *testing.B) {
	for _, body := range []int{100, 1024} {
		dir := b.TempDir()
		w := newWriter(b, dir, 64<<20)
		const n = 100_000
		for i := range n {
			m := &message.Message{Topic: fmt.Sprintf("topic-%d", i%8), QueueID: int32(i % 4), Body: make([]byte, body)}
			m.SetTags("TagA")
			m.SetKeys(fmt.Sprintf("order-%d", i))
			_, err := w.append(m)
			require.NoError(b, err)
		}
		require.NoError(b, w.log.Close())
		d, err := inspect.Open(dir, inspect.Options{})
		require.NoError(b, err)
		for name, each := range map[string]func(inspect.Record, []byte) []byte{
			"read":   func(_ inspect.Record, buf []byte) []byte { return buf },
			"ndjson": func(r inspect.Record, buf []byte) []byte { return inspect.Row{Message: r.Message}.AppendJSON(buf[:0]) },
		} {
			b.Run(fmt.Sprintf("%s/body=%d", name, body), func(b *testing.B) {
				b.ReportAllocs()
				var buf []byte
				for i := 0; i < b.N; {
					for r, err := range d.Messages(context.Background(), inspect.Filter{Limit: int64(min(n, b.N-i))}) {
						if err != nil {
							b.Fatal(err)
						}
						buf = each(r, buf)
						i++
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
