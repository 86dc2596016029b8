// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk_test

import (
	"bytes"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

func boot(t *testing.T, d *crashdisk.Disk) string {
	t.Helper()
	id, err := d.BootID()
	require.NoError(t, err)
	return id
}

func open(t *testing.T, d *crashdisk.Disk, path string) mappedfile.Region {
	t.Helper()
	r, err := d.Open(path, mappedfile.Mapping{})
	require.NoError(t, err)
	return r
}

func TestDurableCloneHasWhatIsDurableAndNothingElse(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 3*page+100) // the last page is not whole
	fill(r.Bytes(), 1)
	require.NoError(t, r.Flush(3*page+99, 1))
	_, err := d.Create("d/new", page, mappedfile.Mapping{})
	require.NoError(t, err)
	clone := d.DurableClone()
	want := make([]byte, 3*page+100)
	fill(want[3*page:], 1)
	require.True(t, bytes.Equal(want, read(t, clone, "d/f")))
	_, err = clone.ReadFile("d/new")
	require.ErrorIs(t, err, fs.ErrNotExist)
	durable, named, err := d.Durable("d/f")
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, durable))
	require.True(t, named)
	_, named, err = d.Durable("d/new")
	require.NoError(t, err)
	require.False(t, named)
}

func TestFlushTakesThePagesAsTheyWere(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", page)
	fill(r.Bytes(), 1)
	require.NoError(t, r.Flush(0, 1))
	fill(r.Bytes(), 2)
	require.True(t, only(read(t, d.DurableClone(), "d/f"), 1))
	require.True(t, only(read(t, d, "d/f"), 2))
	// Back to zeros is a change like any other.
	fill(r.Bytes(), 0)
	require.NoError(t, r.Flush(0, page))
	require.True(t, only(read(t, d.DurableClone(), "d/f"), 0))
}

func TestCrashCloneIsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 16*page)
	fill(r.Bytes(), 1)
	for seed := range uint64(20) {
		require.True(t, bytes.Equal(read(t, d.CrashClone(seed), "d/f"), read(t, d.CrashClone(seed), "d/f")))
	}
}

func TestEverythingInACrashCloneIsDurable(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 8*page)
	fill(r.Bytes(), 1)
	for seed := range uint64(20) {
		once := d.CrashClone(seed)
		open(t, once, "d/f")
		require.True(t, bytes.Equal(read(t, once, "d/f"), read(t, once.DurableClone(), "d/f")))
	}
}

func TestKillClone(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 2*page)
	fill(r.Bytes(), 1)
	require.NoError(t, r.Flush(0, page))
	_, err := d.Create("d/new", page, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	r = open(t, d, "d/f")
	_, err = d.Lock("d/lock")
	require.NoError(t, err)

	killed := d.KillClone()
	require.Equal(t, boot(t, d), boot(t, killed))
	require.True(t, only(read(t, killed, "d/f"), 1), "a kill loses nothing")
	read(t, killed, "d/new")
	_, err = killed.Lock("d/lock")
	require.NoError(t, err, "a kill releases locks")

	// What was not durable still is not.
	got := read(t, killed.DurableClone(), "d/f")
	require.True(t, only(got[:page], 1) && only(got[page:], 0))
	_, err = killed.DurableClone().ReadFile("d/new")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, killed.SyncDir("d"))
	read(t, killed.DurableClone(), "d/new")

	// And the two go their own ways.
	k := open(t, killed, "d/f")
	fill(k.Bytes(), 3)
	require.NoError(t, k.Flush(0, 2*page))
	require.True(t, only(r.Bytes(), 1))
	got, _, err = d.Durable("d/f")
	require.NoError(t, err)
	require.True(t, only(got[:page], 1) && only(got[page:], 0))
	fill(r.Bytes(), 4)
	require.NoError(t, r.Flush(0, 2*page))
	require.True(t, only(read(t, killed.DurableClone(), "d/f"), 3))
}

func TestBootIDChangesWithAPowerCut(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	ids := map[string]bool{boot(t, d): true}
	for range 3 {
		ids[boot(t, d.CrashClone(1))] = true
		ids[boot(t, d.DurableClone())] = true
		ids[boot(t, d.CrashClone(1).CrashClone(1))] = true
	}
	require.Len(t, ids, 10)
}

func TestRemovedFileComesBackWithItsDurableBytes(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 2*page)
	fill(r.Bytes(), 1)
	require.NoError(t, r.Flush(0, page))
	require.NoError(t, d.Remove("d/f"))
	require.True(t, only(r.Bytes(), 1), "a removed file stays readable")
	back, gone := 0, 0
	for seed := range uint64(seeds) {
		got, err := d.CrashClone(seed).ReadFile("d/f")
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
			gone++
			continue
		}
		require.True(t, only(got[:page], 1) && only(got[page:], 0))
		back++
	}
	require.NotZero(t, back)
	require.NotZero(t, gone)
}

func TestRecreatedFileIsOneOrTheOther(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", page)
	fill(r.Bytes(), 1)
	require.NoError(t, r.Flush(0, page))
	require.NoError(t, d.Remove("d/f"))
	r, err := d.Create("d/f", 2*page, mappedfile.Mapping{})
	require.NoError(t, err)
	fill(r.Bytes(), 2)
	require.NoError(t, r.Flush(0, 2*page))
	sizes := map[int]int{}
	for seed := range uint64(seeds) {
		got := read(t, d.CrashClone(seed), "d/f")
		require.True(t, only(got, 1) && len(got) == page || only(got, 2) && len(got) == 2*page)
		sizes[len(got)]++
	}
	require.Len(t, sizes, 2)
}

func TestWritebackMakesOlderStatesDurable(t *testing.T) {
	t.Parallel()
	seen := map[byte]bool{}
	for seed := range uint64(50) {
		d := crashdisk.New()
		r := create(t, d, "d/f", page)
		fill(r.Bytes(), 1)
		d.Writeback(seed)
		fill(r.Bytes(), 2)
		got := read(t, d.DurableClone(), "d/f")
		require.True(t, only(got, got[0]))
		seen[got[0]] = true
	}
	require.Equal(t, map[byte]bool{0: true, 1: true}, seen)
}

func TestCloseOverwritesWhatMustNotBeReadAgain(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", page)
	second := open(t, d, "d/f")
	fill(r.Bytes(), 1)
	kept := r.Bytes()
	require.NoError(t, r.Close())
	require.True(t, only(kept, 1), "the file is still mapped")
	require.True(t, only(second.Bytes(), 1), "regions share the bytes")
	require.NoError(t, second.Close())
	require.True(t, only(kept, 0xDB))
	require.True(t, only(open(t, d, "d/f").Bytes(), 1))
}

// Run with -race: the copies beside a writer must not be reported.
func TestWriterBesideFlushAndClones(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 64*page)
	var wg sync.WaitGroup
	wg.Go(func() {
		record := bytes.Repeat([]byte{7}, 100)
		for off := 0; off+100 <= 64*page; off += 100 {
			copy(r.Bytes()[off:], record)
		}
	})
	for seed := range uint64(20) {
		require.NoError(t, r.Flush(0, 64*page))
		d.CrashClone(seed)
		d.KillClone()
		d.Writeback(seed)
	}
	wg.Wait()
	require.NoError(t, r.Flush(0, 64*page))
	require.True(t, bytes.Equal(r.Bytes(), read(t, d.DurableClone(), "d/f")))
}

func BenchmarkCrashClone64MiB(b *testing.B) {
	d := crashdisk.New()
	require.NoError(b, d.MkdirAll("d"))
	r, err := d.Create("d/f", 64<<20, mappedfile.Mapping{})
	require.NoError(b, err)
	fill(r.Bytes()[:1<<20], 1)
	require.NoError(b, d.SyncDir("d"))
	b.ReportAllocs()
	for seed := uint64(0); b.Loop(); seed++ {
		d.CrashClone(seed)
	}
}
