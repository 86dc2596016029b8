// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
)

// The index of the sample: 500 slots, 669 of 1999 entries. Entry 3 is of user-13
// of the record at 740, in slot 196; entry 28 follows entry 10 in slot 264.
const (
	theIndex  = "index/20261122135434261"
	entriesAt = 40 + 4*500
)

func entryAt(k int) int64 { return entriesAt + 20*int64(k) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func TestVerifyIndexDamage(t *testing.T) {
	t.Parallel()
	const user13 = `["topic-1",1,1]` // the message of entry 3
	put := func(at int64, b []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { patch(t, filepath.Join(dir, theIndex), at, b) }
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []found
		notes  string
	}{
		{
			name: "a slot of another entry", damage: put(40+4*196, be32(2)),
			want: []found{{inspect.KindIndexSlot, theIndex, 40 + 4*196, "", "slot 196: it names entry 2, the newest of its chain is "}},
		},
		{
			name: "an empty slot", damage: put(40+4*367, be32(0)),
			want: []found{{inspect.KindIndexSlot, theIndex, 40 + 4*367, "", "slot 367: it names entry 0"}},
		},
		{
			name: "a slot behind the entries", damage: put(40+4*367, be32(1500)),
			want: []found{{inspect.KindIndexSlot, theIndex, 40 + 4*367, "", "slot 367: it names entry 1500"}},
		},
		{
			name: "a slot beyond the file", damage: put(40, be32(0x7F000000)),
			want: []found{{inspect.KindIndexSlot, theIndex, 40, "", "slot 0: it names entry 2130706432, the newest of its chain is 14"}},
		},
		{
			name: "a chain that is a loop", damage: put(entryAt(28)+16, be32(28)),
			want: []found{{inspect.KindIndexChain, theIndex, entryAt(28), "", "never ends so; 10 is"}},
		},
		{
			name: "a chain cut off", damage: put(entryAt(28)+16, be32(0)),
			want: []found{{inspect.KindIndexChain, theIndex, entryAt(28), "", "entry 0 is said to be before it in its chain, 10 is"}},
		},
		{
			name: "a hash", damage: put(entryAt(3), be32(960286197)),
			want: []found{{inspect.KindIndexHash, theIndex, entryAt(3), user13, "it has hash 0x393ccdf5, the key of its record has 0x393ccdf4"}},
		},
		{
			name: "a negative hash", damage: put(entryAt(3), be32(1<<31)),
			want: []found{{inspect.KindIndexHash, theIndex, entryAt(3), user13, "it has hash 0x80000000"}},
		},
		{
			name: "an offset of no record", damage: put(entryAt(3)+4, be64(741)),
			want: []found{{inspect.KindIndexRecord, theIndex, entryAt(3), user13, "it names offset 741, the record of its key is at 740"}},
		},
		{
			name: "an offset of another record", damage: put(entryAt(3)+4, be64(1443)),
			want: []found{{inspect.KindIndexRecord, theIndex, entryAt(3), user13, "it names offset 1443, the record of its key is at 740"}},
		},
		{
			name: "an offset behind the log", damage: put(entryAt(669)+4, be64(1<<40)),
			want: []found{{inspect.KindIndexRecord, theIndex, entryAt(669), `["topic-0",3,68]`, "it names offset 1099511627776"}},
		},
		{
			name: "a time", damage: put(entryAt(3)+12, be32(7)),
			want: []found{{inspect.KindIndexTime, theIndex, entryAt(3), user13, "it says 7 s after the file's begin, its record is of 0 s"}},
		},
		{
			name: "an entry of noise", damage: put(entryAt(3), []byte("twenty bytes of noise")[:20]),
			want: []found{
				{inspect.KindIndexRecord, theIndex, entryAt(3), user13, "here the record at 740 belongs, with 0x393ccdf4"},
				{inspect.KindIndexTime, theIndex, entryAt(3), user13, ""},
				{inspect.KindIndexChain, theIndex, entryAt(3), "", ""},
			},
		},
		{
			name: "the time of the header", damage: put(0, be64(1795355674179)),
			want: []found{{inspect.KindIndexHeader, theIndex, 0, "", "begins with time 1795355674179, the record of its first entry is of 1795355674178"}},
		},
		{
			name: "the last time of the header", damage: put(8, be64(1795355674656)),
			want: []found{{inspect.KindIndexHeader, theIndex, 0, "", "ends with time 1795355674656, the record of the last entry is of 1795355674657"}},
		},
		{
			name: "the offset of the header", damage: put(16, be64(1)),
			want: []found{{inspect.KindIndexHeader, theIndex, 0, "", "begins with offset 1, the first entry's is 0"}},
		},
		{
			name: "the last offset of the header", damage: put(24, be64(363858)),
			want: []found{{inspect.KindIndexHeader, theIndex, 0, "", "ends with offset 363858, the last entry's is 363857"}},
		},
		{
			name: "the slots of the header", damage: put(32, be32(353)),
			want: []found{{inspect.KindIndexHeader, theIndex, 0, "", "counts 353 slots in use, 354 are"}},
		},
		{
			name: "a count whose sizes can't be told", damage: put(36, be32(400)),
			want: []found{{inspect.KindIndexHeader, "index", -1, "", "the key index is not compared"}},
		},
		{
			name: "a stray file",
			damage: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "index", "notes"), []byte("x"), 0o600))
			},
			want: []found{{inspect.KindFile, "index/notes", -1, "", "stray"}},
		},
		{
			name: "a file of another length",
			damage: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "index", "20261122135434262"), make([]byte, 99), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "index", "20261122135434263"), []byte("x"), 0o600))
			},
			want: []found{
				{inspect.KindFile, "index/20261122135434262", -1, "", "wrong file size: 99 bytes, want 42040"},
				{inspect.KindFile, "index/20261122135434263", -1, "", "wrong file size: 1 bytes, want 42040"},
			},
		},
		{
			name: "no index at all", damage: func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "index"))) },
			notes: "there is no key index: 669 keys of 539 records can't be queried",
		},
		{
			name: "an entry lacks behind the last one",
			damage: func(t *testing.T, dir string) {
				path := filepath.Join(dir, theIndex)
				at := binary.BigEndian.Uint32(read(t, path)[entryAt(669):]) % 500
				prev := read(t, path)[entryAt(669)+16:][:4]
				patch(t, path, 40+4*int64(at), prev)
				patch(t, path, entryAt(669), make([]byte, 20))
				patch(t, path, 36, be32(669))
			},
			want: []found{
				{inspect.KindIndexMissing, nextLog, 363857, `["topic-0",3,68]`, "1 keys of the last 1 records"},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			c.damage(t, dir)
			before := snapshot(t, dir)
			got, notes, sum := verify(t, dir)
			require.Equal(t, before, snapshot(t, dir), "verify changes nothing")
			requireFindings(t, dir, c.want, got)
			require.Equal(t, int64(800), sum.Records)
			require.Equal(t, c.notes != "", len(notes) == 1, "%+v", notes)
			for _, n := range notes {
				require.Contains(t, n.Detail, c.notes)
			}
		})
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// TestVerifyIndexKilled: what a kill leaves of the index is a note.
func TestVerifyIndexKilled(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "abort"), []byte("1999999999"), 0o600))
	path := filepath.Join(dir, theIndex)

	// The last entry was not counted yet, and the header's end is its own.
	patch(t, path, 36, be32(669))
	findings, notes, _ := verify(t, dir)
	require.Empty(t, findings)
	require.Contains(t, details(notes), "one more is there: its writer was killed before it counted that")
	require.Contains(t, details(notes), "1 keys of the last 1 records are not in the key index yet")

	// A broker's writes the end of its header after the count.
	patch(t, path, 36, be32(670))
	patch(t, path, 8, be64(1795355674658))
	findings, notes, _ = verify(t, dir)
	require.Empty(t, findings)
	require.Contains(t, details(notes), "the record of the last entry is of 1795355674657: it was not closed in order")
}

func details(all []inspect.Finding) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString(f.Detail + "\n")
	}
	return b.String()
}

// TestVerifyIndexRandomBits flips one bit anywhere in what an index file holds: it
// is found, it is named as one of the index, and no record or entry of a queue is
// blamed for it.
func TestVerifyIndexRandomBits(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := sample(t, closed)
	path := filepath.Join(dir, theIndex)
	sound := read(t, path)
	rounds := 100
	if testing.Short() {
		rounds = 40
	}
	for range rounds {
		at := int64(rng.IntN(entriesAt + 20*670))
		if at >= entriesAt && at < entryAt(1) || at >= entryAt(1)+12 && at < entryAt(1)+16 {
			continue // entry 0 is of no use, and the first one counts from a file that may be gone
		}
		bit := byte(1) << rng.IntN(8)
		patch(t, path, at, []byte{sound[at] ^ bit})
		findings, notes, sum := verify(t, dir)
		require.NotEmpty(t, findings, "byte %d, bit %d", at, bit)
		require.Empty(t, notes)
		for _, f := range findings {
			require.True(t, strings.HasPrefix(string(f.Kind), "index-"), "byte %d, bit %d: %+v", at, bit, findings)
			require.True(t, strings.HasPrefix(f.File, filepath.Dir(path)), "byte %d, bit %d: %+v", at, bit, findings)
		}
		require.LessOrEqual(t, len(findings), 2, "byte %d, bit %d: %+v", at, bit, findings)
		require.Equal(t, int64(800), sum.Records)
		patch(t, path, at, []byte{sound[at]})
	}
}
