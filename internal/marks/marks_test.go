// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"bytes"
	"encoding/hex"
	"math"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

const dir = "/store/stele"

var sample = State{
	Clean:   true,
	Safe:    Position{Offset: 0x1122334455667788, Last: 0x1122334455667700, LastTime: 1700000000000, Entries: 3},
	Flushed: math.MaxInt64, PID: 4242, Before: 17, Session: 0xDEADBEEF00C0FFEE,
	BootID: "8d0c2c86-1f6e-4a54-9c31-0d3a4e1f5b77",
}

// goldenSlot is sample as docs/format/stele.md says.
const goldenSlot = "0000000000000009" + "XXXXXXXX" + "01" +
	"1122334455667788" + "1122334455667700" + "0000018bcfe56800" + "0000000000000003" +
	"7fffffffffffffff" + "0000000000001092" + "0000000000000011" + "deadbeef00c0ffee" +
	"24" + "38643063326338362d316636652d346135342d396333312d306433613465316635623737"

func TestSlotGolden(t *testing.T) {
	t.Parallel()
	b := make([]byte, slotLen)
	require.NoError(t, encodeSlot(b, 9, sample))
	want := strings.Replace(goldenSlot, "XXXXXXXX", hex.EncodeToString(b[slotCRC:slotFields]), 1)
	want += strings.Repeat("00", slotLen-len(want)/2)
	require.Equal(t, want, hex.EncodeToString(b))
	seq, st, ok := decodeSlot(b)
	require.True(t, ok)
	require.EqualValues(t, 9, seq)
	require.Equal(t, sample, st)
	for i := range b {
		b[i] ^= 0x10
		_, _, ok := decodeSlot(b)
		require.False(t, ok, "byte %d", i)
		b[i] ^= 0x10
	}
}

func open(t *testing.T, d *crashdisk.Disk) *File {
	t.Helper()
	f, err := Open(d, dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestSaveAndOpen(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	f := open(t, d)
	_, ok := f.State()
	require.False(t, ok)
	for i := range 5 {
		st := sample
		st.PID = i
		require.NoError(t, f.Save(st))
		got, ok := f.State()
		require.True(t, ok)
		require.Equal(t, st, got)
		for _, left := range []*crashdisk.Disk{d.KillClone(), d.DurableClone(), d.CrashClone(uint64(i))} {
			got, ok = open(t, left).State()
			require.True(t, ok)
			require.Equal(t, st, got)
		}
	}
}

// TestTornSave: a power cut in the midst of a Save leaves the State before it or
// the new one.
func TestTornSave(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		d := crashdisk.New()
		f := open(t, d)
		old, next := sample, sample
		for range seed % 3 {
			require.NoError(t, f.Save(old))
		}
		next.PID = 7
		var left *crashdisk.Disk
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpFlush {
				left = d.CrashClone(seed)
			}
		})
		require.NoError(t, f.Save(next))
		d.Observe(nil)
		got, ok := open(t, left).State()
		if !ok {
			require.Zero(t, seed%3)
			continue
		}
		require.Contains(t, []State{old, next}, got)
	}
}

// TestCrashInCreate: whatever a crash leaves of a new file can be opened, saved
// to, and then survives the next one.
func TestCrashInCreate(t *testing.T) {
	t.Parallel()
	for at := range 8 {
		for seed := range uint64(20) {
			d := crashdisk.New()
			var left *crashdisk.Disk
			n := 0
			d.Observe(func(crashdisk.Op, string) {
				if n == at {
					if left = d.CrashClone(seed); seed%4 == 0 {
						left = d.KillClone() // the name is there and not durable
					}
				}
				n++
			})
			_ = open(t, d)
			d.Observe(nil)
			if left == nil {
				continue
			}
			f := open(t, left)
			_, ok := f.State()
			require.False(t, ok)
			require.NoError(t, f.Save(sample))
			got, ok := open(t, left.DurableClone()).State()
			require.True(t, ok)
			require.Equal(t, sample, got)
			require.Empty(t, left.Unreserved())
		}
	}
}

func TestOpenOtherFiles(t *testing.T) {
	t.Parallel()
	with := func(data []byte) *crashdisk.Disk {
		d := crashdisk.New()
		require.NoError(t, d.MkdirAll(dir))
		require.NoError(t, d.WriteFile(path.Join(dir, FileName), data))
		return d
	}
	for _, data := range [][]byte{nil, []byte("short"), make([]byte, fileSize), make([]byte, 2*fileSize)} {
		f := open(t, with(data))
		_, ok := f.State()
		require.False(t, ok)
		require.NoError(t, f.Save(sample))
	}
	foreign := bytes.Repeat([]byte("x"), fileSize)
	newer := make([]byte, fileSize)
	copy(newer, magic+"\x00\x00\x00\x02")
	for _, data := range [][]byte{foreign, newer} {
		d := with(data)
		_, err := Open(d, dir)
		require.ErrorIs(t, err, ErrVersion)
		left, err := d.ReadFile(path.Join(dir, FileName))
		require.NoError(t, err)
		require.Equal(t, data, left)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	d.Inject(crashdisk.Fault{Op: crashdisk.OpReserve, Err: syscall.ENOSPC})
	_, err := Open(d, dir)
	require.ErrorIs(t, err, mappedfile.ErrDiskFull)
	require.Empty(t, d.Unreserved())
	open(t, d)
}

func TestFailedSave(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	f := open(t, d)
	require.NoError(t, f.Save(sample))
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
	require.ErrorIs(t, f.Save(State{PID: 1}), syscall.EIO)
	got, _ := f.State()
	require.Equal(t, sample, got)
	long := sample
	long.BootID = strings.Repeat("x", bootIDMax+1)
	require.Error(t, f.Save(long))
	require.NoError(t, f.Save(State{PID: 2}))
	got, ok := open(t, d.DurableClone()).State()
	require.True(t, ok)
	require.Equal(t, 2, got.PID)
}

// TestLive: a kill leaves the live Position of its session whole, wherever it
// strikes; another session has none.
func TestLive(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	f := open(t, d)
	_, ok := f.Live(0)
	require.False(t, ok)
	f.StartLive(5, Position{Offset: 1, Last: -1, LastTime: -1})
	for i := range int64(10) {
		p := Position{Offset: 100, Last: 50, LastTime: i, Entries: 3 * i}
		f.SetLive(p)
		left := open(t, d.KillClone())
		got, ok := left.Live(5)
		require.True(t, ok)
		require.Equal(t, p, got)
		_, ok = left.Live(6)
		require.False(t, ok)
	}
	// The half of the next one that a kill leaves is in the copy that does not
	// count.
	want, _ := f.Live(5)
	b := f.region.Bytes()
	turn := b[liveTurn+7] + 1
	copy(b[livePositions+int(turn%2)*positionLen:], bytes.Repeat([]byte{0xFF}, positionLen))
	got, ok := f.Live(5)
	require.True(t, ok)
	require.Equal(t, want, got)
}

// FuzzDecode: no bytes make the decoder panic, and what it takes is what was
// encoded.
func FuzzDecode(f *testing.F) {
	b := make([]byte, slotLen)
	require.NoError(f, encodeSlot(b, 9, sample))
	f.Add(bytes.Clone(b))
	b[77] = 255
	f.Add(bytes.Clone(b))
	f.Add(make([]byte, slotLen))
	f.Fuzz(func(t *testing.T, data []byte) {
		slot := make([]byte, slotLen)
		copy(slot, data)
		check := func() {
			seq, st, ok := decodeSlot(slot)
			if !ok {
				return
			}
			again := make([]byte, slotLen)
			require.NoError(t, encodeSlot(again, seq, st))
			seq2, st2, ok := decodeSlot(again)
			require.True(t, ok)
			require.Equal(t, seq, seq2)
			require.Equal(t, st, st2)
		}
		check()
		// With its checksum right, so that the fields are looked at.
		sum := slotSum(slot)
		slot[8], slot[9], slot[10], slot[11] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		check()

		d := crashdisk.New()
		require.NoError(t, d.MkdirAll(dir))
		file := make([]byte, fileSize)
		copy(file, data)
		copy(file[slotA:], slot)
		require.NoError(t, d.WriteFile(path.Join(dir, FileName), file))
		m, err := Open(d, dir)
		if err != nil {
			require.ErrorIs(t, err, ErrVersion)
			return
		}
		_, _ = m.Live(1)
		require.NoError(t, m.Close())
	})
}

// A file with a State had its blocks and its name when that was saved; one without
// may have neither, since whoever made it was killed.
func TestOpenSyncsTheName(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	f, err := Open(d, "/stele")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	before := d.DirSyncs("/stele")
	f, err = Open(d, "/stele")
	require.NoError(t, err)
	require.Equal(t, before+1, d.DirSyncs("/stele"))
	require.NoError(t, f.Save(State{Session: 1}))
	require.NoError(t, f.Close())
	f, err = Open(d, "/stele")
	require.NoError(t, err)
	require.Equal(t, before+1, d.DirSyncs("/stele"))
	require.NoError(t, f.Close())
	require.Empty(t, d.Unreserved())
	_, named, err := d.Durable("/stele/" + FileName)
	require.NoError(t, err)
	require.True(t, named)
}
