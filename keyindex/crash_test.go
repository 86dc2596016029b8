// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestCrash kills the writer, or cuts the power, between records. What comes out
// of the recovery, fed again, holds the bytes of a set that never crashed.
func TestCrash(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk, b := crashdisk.New(), &books{}
		s := b.fresh(t, disk)
		for life := range 3 {
			var safe, live message.Offset
			if life > 0 {
				safe = b.end()
			}
			for range rng.IntN(120) {
				live = b.end()
				require.NoError(t, s.Put(b.add(rng)))
				if rng.IntN(25) == 0 {
					require.NoError(t, s.Flush())
					safe = b.end()
				}
				if rng.IntN(10) == 0 {
					disk.Writeback(rng.Uint64())
				}
			}
			kill := rng.IntN(2) == 0
			from, trust := safe, keyindex.TrustNothing
			if kill {
				disk = disk.KillClone()
				trust = keyindex.TrustOrder
				from = min(live, safe+(live-safe)/100/2*100)
			} else {
				disk = disk.CrashClone(rng.Uint64())
			}
			_ = s.Close()
			s = b.open(t, disk)
			at, err := s.Recover(from, trust, "")
			require.NoError(t, err)
			require.LessOrEqual(t, at, from)
			// The log lost some that were not flushed, and gets others.
			lost := b.end()
			if !kill && safe < lost {
				lost = safe + message.Offset(rng.Int64N(int64(lost-safe)/100+1)*100)
			}
			for b.end() > lost {
				b.all = b.all[:len(b.all)-1]
			}
			b.feed(t, s, at)
			want := b.fresh(t, crashdisk.New())
			b.feed(t, want, 0)
			requireSame(t, want, s, "seed %d, life %d: kill %v, from %d, fed from %d", seed, life, kill, from, at)
			b.requireAll(t, s)
			require.False(t, t.Failed(), "seed %d, life %d", seed, life)
			require.Empty(t, disk.Unreserved(), "seed %d", seed)
			require.NoError(t, s.Flush())
		}
	}
}

// TestKilledInPut stops a put between any two of its writes.
func TestKilledInPut(t *testing.T) {
	t.Parallel()
	for cut := range 8 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(cut), 7))
			disk, b := crashdisk.New(), &books{}
			s := b.fresh(t, disk)
			for range 10 {
				require.NoError(t, s.Put(b.add(rng)))
			}
			before := images(t, s)[0]
			m := b.add(rng)
			for len(m.Keys()) > 0 {
				m = b.add(rng)
			}
			b.all = b.all[:len(b.all)-1]
			m.Properties = message.NewProperties(message.PropertyKeys, "k1")
			b.all = append(b.all, m)
			require.NoError(t, s.Put(m))
			after := images(t, s)[0]
			require.NoError(t, s.Flush())
			name := s.Files()[0].Path()
			require.NoError(t, s.Close())

			// Which bytes of the put were written, in its order.
			slots := 40 + 4*small.Slots
			half := append([]byte(nil), before...)
			count := int(binary.BigEndian.Uint32(before[36:]))
			entry := slots + 20*count
			switch cut {
			case 7:
				copy(half[32:], after[32:40])
				fallthrough
			case 6:
				copy(half[24:], after[24:32])
				fallthrough
			case 5:
				copy(half[8:], after[8:16])
				fallthrough
			case 4:
				copy(half[40:slots], after[40:slots])
				fallthrough
			case 3:
				copy(half[entry:], after[entry:])
			case 2:
				copy(half[entry:entry+12], after[entry:])
			case 1:
				copy(half[entry:entry+4], after[entry:])
			}
			r, err := disk.Open(name, mappedfile.Mapping{})
			require.NoError(t, err)
			copy(r.Bytes(), half)
			require.NoError(t, r.Close())

			got := b.open(t, disk)
			at, err := got.Recover(m.PhysicalOffset, keyindex.TrustOrder, "")
			require.NoError(t, err)
			require.Equal(t, m.PhysicalOffset, at)
			require.Equal(t, before, images(t, got)[0])
			b.feed(t, got, at)
			require.Equal(t, after, images(t, got)[0])
		})
	}
}

// TestFullDisk puts records while there is no space for the next page, or file,
// again and again. Each put can be repeated.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	disk, b := crashdisk.New(), &books{}
	s := b.fresh(t, disk)
	refused := 0
	for range 400 {
		m := b.add(rng)
		for op := range 3 {
			disk.Inject(crashdisk.Fault{Op: []crashdisk.Op{crashdisk.OpReserve, crashdisk.OpCreate, crashdisk.OpSetLength}[op], After: rng.IntN(3), Err: syscall.ENOSPC})
		}
		for {
			err := s.Put(m)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, mappedfile.ErrDiskFull)
			refused++
		}
		disk.ClearFaults()
	}
	require.Greater(t, refused, 10)
	want := b.fresh(t, crashdisk.New())
	b.feed(t, want, 0)
	requireSame(t, want, s)
	require.Empty(t, disk.Unreserved())
}

// TestDamage damages a file that was closed in order, or whose owner was killed.
// What can be told when it is opened is mended or fed again; the rest is
// reported by Find or Problems. Nothing loops.
func TestDamage(t *testing.T) {
	t.Parallel()
	slots := 40 + 4*small.Slots
	for _, c := range []struct {
		name   string
		do     func(b []byte)
		mended bool // by Recover, without more
	}{
		{"count lower", func(b []byte) { b[39] -= 3 }, true},
		{"count one lower", func(b []byte) { b[39]-- }, true},
		{"count higher", func(b []byte) { b[39] += 3 }, true},
		{"count huge", func(b []byte) { b[36] = 0x7f }, true},
		{"count negative", func(b []byte) { b[36] = 0xff }, true},
		{"begin time", func(b []byte) { b[5] ^= 1 }, true},
		{"end time", func(b []byte) { b[13] ^= 1 }, true},
		{"begin offset", func(b []byte) { b[22] ^= 1 }, true},
		{"end offset", func(b []byte) { b[30] ^= 1 }, true},
		{"header of zeros", func(b []byte) { clear(b[:40]) }, true},
		{"header of ones", func(b []byte) { fill(b[:40]) }, true},
		{"slots of zeros", func(b []byte) { clear(b[40:slots]) }, false},
		{"slots of ones", func(b []byte) { fill(b[40:slots]) }, false},
		{"last entry of zeros", func(b []byte) {
			k := int(binary.BigEndian.Uint32(b[36:])) - 1
			clear(b[slots+20*k:][:20])
		}, true},
		{"an entry of zeros", func(b []byte) { clear(b[slots+20*5:][:20]) }, false},
		{"entries of ones", func(b []byte) { fill(b[slots+20*5:][:60]) }, false},
		{"a loop", func(b []byte) {
			for k := 1; k < 20; k++ {
				binary.BigEndian.PutUint32(b[slots+20*k+16:], uint32(k))
			}
		}, false},
		{"garbage behind the end", func(b []byte) { fill(b[len(b)-40:]) }, false},
		{"all zeros", func(b []byte) { clear(b) }, true},
	} {
		for _, trust := range []keyindex.Trust{keyindex.TrustAll, keyindex.TrustOrder, keyindex.TrustNothing} {
			t.Run(fmt.Sprint(c.name, "/", trust), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(5, 5))
				disk, b := crashdisk.New(), &books{}
				s := b.fresh(t, disk)
				for range 48 {
					require.NoError(t, s.Put(b.add(rng)))
				}
				files := s.Files()
				require.NoError(t, s.Flush())
				name := files[len(files)-1].Path()
				require.NoError(t, s.Close())
				r, err := disk.Open(name, mappedfile.Mapping{})
				require.NoError(t, err)
				c.do(r.Bytes())
				require.NoError(t, r.Close())

				got := b.open(t, disk)
				at, err := got.Recover(b.end(), trust, "")
				require.NoError(t, err)
				if c.name == "all zeros" || c.name == "last entry of zeros" {
					at = min(at, got.End()) // the store asks the note whether it is whole
				}
				b.feed(t, got, at)
				if c.mended || trust == keyindex.TrustNothing {
					want := b.fresh(t, crashdisk.New())
					b.feed(t, want, 0)
					requireSame(t, want, got)
					return
				}
				damaged := 0
				for _, f := range got.Files() {
					require.NoError(t, f.Read(func(m keyindex.Image) error {
						for range m.Problems {
							damaged++
						}
						m.Stats()
						return nil
					}))
				}
				if c.name != "garbage behind the end" {
					require.NotZero(t, damaged)
				}
				for i := range 30 { // ends, and says so where it meets it
					err := got.Find("orders", fmt.Sprintf("k%d", i), keyindex.Range{}, func(message.Offset) bool { return true })
					if err != nil {
						var d *keyindex.DamageError
						require.ErrorAs(t, err, &d)
						require.Equal(t, path.Base(name), path.Base(d.Path))
					}
				}
			})
		}
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}
