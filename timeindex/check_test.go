// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestChecker: an index is what its log says, and each bit of an entry that is not
// is found, and reported once.
func TestChecker(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := newFakeLog(t)
	l.grow(rng, 300, false)
	own := t.TempDir()
	x, err := Open(Options{Dir: own, Stretch: 1024})
	require.NoError(t, err)
	_, err = x.Recover(0, 0, l)
	require.NoError(t, err)
	feed(t, x, l, 0, l.end)
	require.NoError(t, x.Flush())
	entries := x.Stats().Entries
	require.Greater(t, entries, int64(20))
	require.NoError(t, x.Close())

	check := func(records []message.Message, trust func(message.Offset) bool) (found []Mismatch, lacks int64) {
		x, err := OpenReadOnly(nil, own)
		require.NoError(t, err)
		defer func() { require.NoError(t, x.Close()) }()
		c := NewChecker(x, trust, func(m Mismatch) error {
			found = append(found, m)
			return nil
		})
		for i := range records {
			require.NoError(t, c.Record(&records[i]))
		}
		lacks, err = c.Finish()
		require.NoError(t, err)
		return found, lacks
	}
	none := func(message.Offset) bool { return false }
	found, lacks := check(l.records, none)
	require.Empty(t, found)
	require.Zero(t, lacks)
	path := filepath.Join(own, mappedfile.FileName(0))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for range 100 {
		bad := append([]byte(nil), data...)
		at := headerSize + rng.IntN(int(entries)*entrySize)
		bad[at] ^= 1 << rng.IntN(8)
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		found, _ = check(l.records, none)
		require.Len(t, found, 1, "byte %d", at)
		require.ErrorIs(t, found[0].Cause, errSlot)
		require.Equal(t, int64(at/entrySize*entrySize), found[0].At)
		require.Equal(t, path, found[0].Path)
	}
	// A sound entry that says something else.
	e, ok := decodeEntry(data[headerSize+5*entrySize:], 5, 1024)
	require.True(t, ok)
	for want, change := range map[error]func(*entry){
		errTime:  func(e *entry) { e.time++ },
		errOther: func(e *entry) { e.mark++ },
	} {
		bad, other := append([]byte(nil), data...), e
		change(&other)
		other.encode(bad[headerSize+5*entrySize:], 5, 1024)
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		found, _ = check(l.records, none)
		require.Len(t, found, 1)
		require.ErrorIs(t, found[0].Cause, want)
	}
	require.NoError(t, os.WriteFile(path, data, 0o600))

	// An index that is ahead of the log, and one that is behind.
	half := l.records[:150]
	end := half[149].PhysicalOffset + message.Offset(half[149].Size)
	found, _ = check(half, none)
	require.Len(t, found, 1)
	require.ErrorIs(t, found[0].Cause, errOther)
	found, _ = check(half, func(off message.Offset) bool { return off >= end })
	require.Empty(t, found)
	l.grow(rng, 300, false)
	found, lacks = check(l.records, none)
	require.Empty(t, found)
	require.Positive(t, lacks)
}
