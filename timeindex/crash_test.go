// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package timeindex

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestPowerCuts feeds an index and cuts the power, again and again. The log goes
// back to some record at or behind the last flush and grows again with other
// records in its place. Before the recovery a reader believes nothing wrong, after
// it a search finds what a scan finds.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	chains := 16
	if testing.Short() {
		chains = 8
	}
	for seed := range uint64(chains) {
		rng := rand.New(rand.NewPCG(seed, 9))
		l := newFakeLog(t)
		disk := crashdisk.New()
		o := Options{Stretch: 512, Damaged: func(e *DamageError) { t.Errorf("seed %d: a power cut is no damage: %v", seed, e) }}
		steady := seed%2 == 0
		l.grow(rng, 1+rng.IntN(50), steady)
		safe := l.lo()
		for range 6 {
			x := openIndex(t, disk, l, safe, o)
			requireScan(t, x, l, rng, l.end)
			safe = l.end
			require.NoError(t, x.Flush())
			for range rng.IntN(4) {
				from := l.end
				l.grow(rng, rng.IntN(1500), steady)
				feed(t, x, l, from, l.end)
				if rng.IntN(2) == 0 {
					require.NoError(t, x.Flush())
					safe = l.end
				}
				if rng.IntN(3) == 0 {
					disk.Writeback(rng.Uint64())
				}
			}
			requireScan(t, x, l, rng, l.end)
			if kill := rng.IntN(3) == 0; kill {
				next := disk.KillClone()
				require.NoError(t, x.Close())
				disk, safe = next, l.end // the page cache has it all
				continue
			}
			next := disk.CrashClone(rng.Uint64())
			require.NoError(t, x.Close())
			disk = next
			// The power cut takes the end of the log, too.
			i := len(l.records) - 1
			for i > 0 && l.records[i].PhysicalOffset > safe && rng.IntN(3) > 0 {
				i--
			}
			if at := l.records[i].PhysicalOffset; at >= safe {
				l.cut(at)
			}
			if len(l.records) == 0 {
				l.grow(rng, 1, steady)
			}
			// Somebody who knows nothing of the index goes on.
			if rng.IntN(2) == 0 {
				l.grow(rng, rng.IntN(200), steady)
			}
			if read, err := OpenReadOnly(disk, dir); err == nil && steady {
				requireScan(t, read, l, rng, l.end)
				require.NoError(t, read.Close())
			}
		}
	}
}

// damages are what can befall the files of an index.
var damages = map[string]func(t *testing.T, disk *crashdisk.Disk, rng *rand.Rand, files []string){
	"a bit": func(t *testing.T, disk *crashdisk.Disk, rng *rand.Rand, files []string) {
		change(t, disk, files[rng.IntN(len(files))], func(b []byte) { b[headerSize+rng.IntN(entrySize*10)] ^= 1 << rng.IntN(8) })
	},
	"a page of zeros": func(t *testing.T, disk *crashdisk.Disk, rng *rand.Rand, files []string) {
		change(t, disk, files[rng.IntN(len(files))], func(b []byte) { at := rng.IntN(len(b)/4096) * 4096; clear(b[at : at+4096]) })
	},
	"a page of noise": func(t *testing.T, disk *crashdisk.Disk, rng *rand.Rand, files []string) {
		change(t, disk, files[rng.IntN(len(files))], func(b []byte) {
			at := rng.IntN(len(b)/4096) * 4096
			for i := range 4096 {
				b[at+i] = byte(rng.Uint32())
			}
		})
	},
	"a page of another place": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, files []string) {
		change(t, disk, files[0], func(b []byte) { copy(b[4096:], b[8192:12288]) })
	},
	"headers": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, files []string) {
		for _, f := range files {
			change(t, disk, f, func(b []byte) { b[3] ^= 1 })
		}
	},
	"another version": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, files []string) {
		change(t, disk, files[len(files)-1], func(b []byte) { b[11]++ })
	},
	"all zeros": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, files []string) {
		for _, f := range files {
			change(t, disk, f, func(b []byte) { clear(b) })
		}
	},
	"a file gone": func(t *testing.T, disk *crashdisk.Disk, rng *rand.Rand, files []string) {
		require.NoError(t, disk.Remove(files[rng.IntN(len(files))]))
	},
	"a stray file": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, _ []string) {
		require.NoError(t, disk.WriteFile(path.Join(dir, "note"), []byte("x")))
	},
	"a short file": func(t *testing.T, disk *crashdisk.Disk, _ *rand.Rand, files []string) {
		require.NoError(t, disk.WriteFile(files[0], []byte("short")))
	},
}

func change(t *testing.T, disk *crashdisk.Disk, file string, do func(b []byte)) {
	t.Helper()
	r, err := disk.Open(file, mappedfile.Mapping{})
	require.NoError(t, err)
	do(r.Bytes())
	require.NoError(t, r.Close())
}

func indexFiles(t *testing.T, disk *crashdisk.Disk) (files []string) {
	t.Helper()
	entries, err := disk.List(dir)
	require.NoError(t, err)
	for _, e := range entries {
		files = append(files, path.Join(dir, e.Name))
	}
	return files
}

// TestDamage: an index that is damaged is searched as far as it goes, by whoever
// has it open and by a reader, and whole again after the next opening.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				rng := rand.New(rand.NewPCG(seed, 8))
				l := newFakeLog(t)
				l.grow(rng, 9000, true)
				disk := crashdisk.New()
				x := openIndex(t, disk, l, 0, Options{Stretch: 512})
				require.NoError(t, x.Flush())
				want := x.Stats()
				if strings.Contains(name, "file") { // an open one can't be changed in this disk
					require.NoError(t, x.Close())
				}
				damage(t, disk, rng, indexFiles(t, disk))
				requireScan(t, x, l, rng, l.end)
				if read, err := OpenReadOnly(disk, dir); err == nil {
					requireScan(t, read, l, rng, l.end)
					require.NoError(t, read.Close())
				}
				require.NoError(t, x.Close())
				said := 0
				x = openIndex(t, disk, l, l.end, Options{Stretch: 512, Damaged: func(*DamageError) { said++ }})
				if strings.Contains(name, "gone") || strings.Contains(name, "zeros") || strings.Contains(name, "page") {
					t.Logf("seed %d: said %d", seed, said) // what is behind the end may be what was damaged
				} else {
					require.NotZero(t, said, "seed %d", seed)
				}
				requireScan(t, x, l, rng, l.end)
				require.Equal(t, want, x.Stats())
				for k := x.begin.Load(); k < x.end.Load(); k++ {
					_, ok := x.read(k)
					require.True(t, ok, "slot %d was not filled in", k)
				}
				require.NoError(t, x.Close())
				x = openIndex(t, disk, l, l.end, Options{Stretch: 512, Damaged: func(e *DamageError) { t.Errorf("again: %v", e) }})
				require.NoError(t, x.Close())
			}
		})
	}
}

// TestDamageInALongLog can't be filled in within Rebuild: a search steps over it.
func TestDamageInALongLog(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 7))
	l := newFakeLog(t)
	l.grow(rng, 4000, true)
	disk := crashdisk.New()
	x := openIndex(t, disk, l, 0, Options{Stretch: 512})
	want := x.Stats()
	require.NoError(t, x.Close())
	change(t, disk, indexFiles(t, disk)[0], func(b []byte) { clear(b[4096:8192]) })
	said := 0
	x = openIndex(t, disk, l, l.end, Options{Stretch: 512, Rebuild: 10_000, Damaged: func(*DamageError) { said++ }})
	require.Equal(t, want, x.Stats())
	requireScan(t, x, l, rng, l.end)
	require.Equal(t, 1, said, "it is said once")
}

// TestAnotherLog: an index that was made for another log is not believed.
func TestAnotherLog(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 6))
	l, other := newFakeLog(t), newFakeLog(t)
	l.grow(rng, 3000, true)
	for i := range l.records { // the same places, other times
		other.add(l.records[i].StoreTimestamp+5000, len(l.records[i].Body))
	}
	disk := crashdisk.New()
	x := openIndex(t, disk, l, 0, Options{Stretch: 512})
	require.NoError(t, x.Close())
	read, err := OpenReadOnly(disk, dir)
	require.NoError(t, err)
	requireScan(t, read, other, rng, other.end)
	require.NoError(t, read.Close())
	said := 0
	x = openIndex(t, disk, other, other.end, Options{Stretch: 512, Damaged: func(*DamageError) { said++ }})
	require.Equal(t, 1, said)
	requireScan(t, x, other, rng, other.end)
}

// TestDamagedRecord: the record of the last entry is damaged; another one serves.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 5))
	l := newFakeLog(t)
	l.grow(rng, 500, true)
	disk := crashdisk.New()
	x := openIndex(t, disk, l, 0, Options{Stretch: 512, Rebuild: 3000})
	e, ok := x.read(x.end.Load() - 1)
	require.True(t, ok)
	require.NoError(t, x.Close())
	f := l.files.Find(int64(e.offset))
	b, err := f.Bytes()
	require.NoError(t, err)
	b[int64(e.offset)-f.Base()+20] ^= 1 // its queue offset
	x = openIndex(t, disk, l, l.end, Options{Stretch: 512, Rebuild: 3000})
	require.EqualValues(t, 0, x.Stats().From, "it was not begun anew")
}

// FuzzFile searches an index of which a file holds any bytes, and feeds it again.
// It may be slow and never wrong.
func FuzzFile(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 4))
	l := newFakeLog(f)
	l.grow(rng, 300, true)
	disk := crashdisk.New()
	x := openIndex(f, disk, l, 0, Options{Stretch: 512})
	require.NoError(f, x.Flush())
	file := path.Join(dir, mappedfile.FileName(0))
	whole, err := disk.ReadFile(file)
	require.NoError(f, err)
	used := int(position(x.end.Load()))
	f.Add(uint16(0), whole[:used])
	f.Add(uint16(headerSize), make([]byte, 64))
	f.Add(uint16(headerSize+160), whole[headerSize:headerSize+160])
	f.Fuzz(func(t *testing.T, at uint16, b []byte) {
		disk := crashdisk.New()
		require.NoError(t, disk.MkdirAll(dir))
		bytes := append([]byte(nil), whole...)
		copy(bytes[at:], b)
		require.NoError(t, disk.WriteFile(file, bytes))
		rng := rand.New(rand.NewPCG(uint64(at), 4))
		if read, err := OpenReadOnly(disk, dir); err == nil {
			requireScan(t, read, l, rng, l.end)
			require.NoError(t, read.Close())
		}
		o := Options{Stretch: 512, Rebuild: 1 + int64(at)%100_000}
		x := openIndex(t, disk, l, l.records[int(at)%len(l.records)].PhysicalOffset, o)
		requireScan(t, x, l, rng, l.end)
		require.NoError(t, x.Close())
	})
}

// TestPutTwice: what was put already is passed over.
func TestPutTwice(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 3))
	l := newFakeLog(t)
	l.grow(rng, 100, true)
	x := openIndex(t, crashdisk.New(), l, 0, Options{Stretch: 512})
	before := x.Stats()
	feed(t, x, l, 0, l.end)
	require.Equal(t, before, x.Stats())
	// A stretch of damage that no slot can span leaves slots without an entry.
	far := message.Message{PhysicalOffset: l.end + 1<<20, Size: 100, StoreTimestamp: 1}
	require.NoError(t, x.Put(&far))
	require.Greater(t, x.Stats().Entries, before.Entries)
}

// TestHalfAHeader: who looks at a file while its header is being written, or after
// its maker was killed there, sees a file that is not begun, and no damage.
func TestHalfAHeader(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 7))
	l := newFakeLog(t)
	l.grow(rng, 300, true)
	var whole [24]byte
	encodeHeader(whole[:], 512)
	for written := 8; written <= len(whole); written++ {
		disk := crashdisk.New()
		require.NoError(t, openIndex(t, disk, l, 0, Options{Stretch: 512}).Close())
		change(t, disk, indexFiles(t, disk)[0], func(b []byte) {
			clear(b[:headerSize])
			copy(b[8:], whole[8:written])
		})
		_, err := OpenReadOnly(disk, dir)
		require.ErrorIs(t, err, ErrUnbegun, "%d bytes", written)
		x := openIndex(t, disk, l, l.end, Options{Stretch: 512, Damaged: func(e *DamageError) { t.Errorf("%d bytes: %v", written, e) }})
		requireScan(t, x, l, rng, l.end)
		read, err := OpenReadOnly(disk, dir)
		require.NoError(t, err, "the header was written again")
		require.NoError(t, read.Close())
	}
	// The magic is what comes last.
	b := make([]byte, headerSize)
	publishHeader(b, 512)
	require.Equal(t, whole[:], b[:24])
	require.True(t, headerBegun(b))
}
