// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestLostSector: the last few bytes of a record lie in a sector that a power
// cut took. They are properties without a checksum, and nobody is left to tell
// how far the log was flushed: without the marks the record must not count as
// whole all the same.
func TestLostSector(t *testing.T) {
	t.Parallel()
	for rest := 1; rest < 8; rest++ {
		d := crashdisk.New()
		bodyOnly := func(o *store.Options) { o.PropertyCRC = store.CRCBodyOnly }
		s := openStore(t, d, bodyOnly)
		whole := appendOne(t, s, "orders", 0, "whole")
		m := msg("orders", 0, "x")
		m.Properties.Set("k", "value")
		probe, err := s.Append(t.Context(), m)
		require.NoError(t, err)
		// The next one ends so many bytes behind the beginning of a sector.
		from := int(probe.Offset) + int(probe.Size)
		end := (from+int(probe.Size)+512)/512*512 + rest
		m.Body = []byte(strings.Repeat("x", end-from-int(probe.Size)+1))
		torn, err := s.Append(t.Context(), m)
		require.NoError(t, err)
		require.EqualValues(t, end, torn.Offset+message.Offset(torn.Size))
		waitAll(t, s)
		require.NoError(t, s.Flush(t.Context()))

		left := d.KillClone()
		removeTree(t, left, root+"/stele")
		removeTree(t, left, root+"/consumequeue")
		r, err := left.Open(path.Join(root, "commitlog", mappedfile.FileName(0)), mappedfile.Mapping{})
		require.NoError(t, err)
		clear(r.Bytes()[end-rest : end])
		require.NoError(t, r.Flush(0, int64(end)))
		require.NoError(t, r.Close())

		s = openStore(t, left, bodyOnly)
		rec := s.Stats().Recovery
		require.Equal(t, store.ForeignCrash, rec.Kind)
		require.Equal(t, torn.Offset, rec.End, rest)
		require.ErrorIs(t, rec.Torn, commitlog.ErrTorn)
		all := fetchAll(t, s, "orders", 0)
		require.Len(t, all, 2)
		require.Equal(t, whole.Offset, all[0].PhysicalOffset)
	}
}
