// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// The header of a record without a property CRC is not protected. A damaged
// queue offset must neither fill the disk with blank entries nor take the place
// of another message.
func TestDamagedQueueOffset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		value  uint64
		reason string
		want   []string // bodies of the queue, in order
	}{
		{"far ahead", 1 << 40, "queue offset impossible: it follows 0 after 0 bytes of log", []string{"m0", "m2", "m3"}},
		{"one too far", 2, "queue offset impossible", []string{"m0", "m2", "m3"}},
		{"of another message", 0, "queue offset taken: the record at 0 has it", []string{"m0", "m2", "m3"}},
		{"negative", 1 << 63, "outside", []string{"m0", "m2", "m3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, err := store.Open(dir, store.Options{FileSize: 64 << 10, PropertyCRC: store.CRCBodyOnly})
			require.NoError(t, err)
			var second store.AppendResult
			for i := range 4 {
				r, err := s.Append(t.Context(), &message.Message{Topic: "T", Body: fmt.Appendf(nil, "m%d", i)})
				require.NoError(t, err)
				if i == 1 {
					second = r
				}
			}
			require.NoError(t, s.Close())

			path := filepath.Join(dir, "commitlog", mappedfile.FileName(0))
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			binary.BigEndian.PutUint64(data[second.Offset+20:], tt.value)
			require.NoError(t, os.WriteFile(path, data, 0o600))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "stele")))

			var skipped []error
			s, err = store.Open(dir, store.Options{Events: store.Events{
				Skipped: func(off message.Offset, why error) {
					require.Equal(t, second.Offset, off)
					skipped = append(skipped, why)
				},
			}})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			require.Len(t, skipped, 1)
			require.ErrorContains(t, skipped[0], tt.reason)
			b, err := s.Fetch(t.Context(), "T", 0, 0, store.Limit{})
			require.NoError(t, err)
			defer b.Release()
			var got []string
			for m, err := range b.All() {
				require.NoError(t, err)
				got = append(got, string(m.Body))
			}
			require.Equal(t, tt.want, got)
			require.EqualValues(t, 4, b.Next)
			m, err := s.Get(second.Offset)
			require.NoError(t, err, "it is still in the log")
			require.Equal(t, "m1", string(m.Body))
		})
	}
}
