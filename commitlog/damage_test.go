// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// The damage tests share a log of 13 records of 200 bytes in files of 1024:
//
//	0 200 400 600 800 │1000 filler│ 1024 1224 … 2024 filler │ 2048 2248 2448 │ 2648 zeros
const (
	damageFile    = 1024
	damageRecord  = 200
	damageRecords = 13
	damageEnd     = message.Offset(2648)
)

// damageLog returns the three files of the log, one behind the other.
func damageLog(t testing.TB) []byte {
	t.Helper()
	d := crashdisk.New()
	l := startLog(t, d, damageFile)
	seq := commitlog.NewSequence(0)
	for i := range damageRecords {
		add(t, l, seq, damageRecord, fmt.Sprintf("record %d", i))
	}
	require.Equal(t, damageEnd, l.Appended())
	require.NoError(t, l.Close())
	var log []byte
	for base := int64(0); base < 3*damageFile; base += damageFile {
		log = append(log, readFile(t, d, base)...)
	}
	return log
}

// write puts the bytes of a log on a new disk.
func write(t testing.TB, log []byte, size int) *crashdisk.Disk {
	t.Helper()
	d := crashdisk.New()
	require.NoError(t, d.MkdirAll(dir))
	for base := 0; base < len(log); base += size {
		require.NoError(t, d.WriteFile(filePath(int64(base)), log[base:base+size]))
	}
	return d
}

// forge writes a whole record at off, sealed unless it has no property CRC.
func forge(log []byte, off int, rec message.Record, queue message.QueueOffset, time int64) {
	rec.Patch(message.Offset(off), queue, time)
	rec.Seal()
	copy(log[off:], rec)
}

func flip(off int) func(testing.TB, []byte) {
	return func(_ testing.TB, log []byte) { log[off] ^= 0x10 }
}

func zero(from, to int) func(testing.TB, []byte) {
	return func(_ testing.TB, log []byte) { clear(log[from:to]) }
}

// found is what a recovery should find.
type found struct {
	end     message.Offset
	records int
	damage  []message.Offset
	stop    commitlog.StopKind
	cause   error // of the damage, or of the stop
}

func TestDamage(t *testing.T) {
	t.Parallel()
	whole := damageLog(t)
	atTwo := found{end: 400, records: 2, stop: commitlog.StopDamaged}
	overTwo := found{end: damageEnd, records: 12, damage: []message.Offset{400}, stop: commitlog.StopEmpty}
	because := func(f found, cause error) found { f.cause = cause; return f }
	for _, c := range []struct {
		name   string
		damage func(testing.TB, []byte)
		above  found // nothing is known to be durable
		below  found // everything is
	}{
		{"none", func(testing.TB, []byte) {},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty}},
		{"bit flip in a body", flip(400 + 95),
			because(atTwo, message.ErrBodyCRC), because(overTwo, message.ErrBodyCRC)},
		{"bit flip in the queue id", flip(400 + 15),
			because(atTwo, message.ErrPropertyCRC), because(overTwo, message.ErrPropertyCRC)},
		{"bit flip in the store time", flip(400 + 57),
			because(atTwo, message.ErrPropertyCRC), because(overTwo, message.ErrPropertyCRC)},
		{"bit flip in the digits of the property CRC", flip(400 + 195),
			because(atTwo, message.ErrPropertyCRC), because(overTwo, message.ErrPropertyCRC)},
		{"length too small", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[400:], 50) },
			because(atTwo, message.ErrLength), because(overTwo, message.ErrLength)},
		{"length beyond the file", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[400:], 1<<30) },
			because(atTwo, message.ErrShort), because(overTwo, message.ErrShort)},
		{"negative length", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[400:], 1<<31) },
			because(atTwo, message.ErrLength), because(overTwo, message.ErrLength)},
		{"length that takes in the next record", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[400:], 400) },
			because(atTwo, message.ErrLength), because(overTwo, message.ErrLength)},
		{"magic of nothing", flip(400 + 6),
			because(atTwo, message.ErrMagic), because(overTwo, message.ErrMagic)},
		{"magic of the other version", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[404:], message.MagicV2) },
			because(atTwo, message.ErrLength), because(overTwo, message.ErrLength)},
		{"magic that turns a record into a filler", func(_ testing.TB, log []byte) { binary.BigEndian.PutUint32(log[404:], message.MagicFiller) },
			because(atTwo, commitlog.ErrFiller), because(overTwo, commitlog.ErrFiller)},
		{"record that says it stands elsewhere", func(_ testing.TB, log []byte) {
			rec := message.Record(log[400:600])
			rec.Patch(401, 2, firstTime+2)
			rec.Seal()
		}, because(atTwo, commitlog.ErrPosition), because(overTwo, commitlog.ErrPosition)},
		{"record without a property CRC in a log that has them", func(t testing.TB, log []byte) {
			rec, err := message.Encoder{}.Append(nil, &message.Message{Topic: "T", Body: bytes.Repeat([]byte("."), damageRecord-message.MinRecordSize)})
			require.NoError(t, err)
			forge(log, 400, rec, 2, firstTime+2)
		},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty}},
		{"zeros over a record", zero(400, 600),
			found{end: 400, records: 2, stop: commitlog.StopEmpty}, because(overTwo, commitlog.ErrEmpty)},
		{"zeros over several records, from the middle of one", zero(450, 850),
			because(atTwo, message.ErrTopic),
			found{end: damageEnd, records: 10, damage: []message.Offset{400}, stop: commitlog.StopEmpty, cause: message.ErrTopic}},
		{"zeros over the rest of a file, its filler too", zero(400, 1024),
			found{end: 400, records: 2, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 10, damage: []message.Offset{400}, stop: commitlog.StopEmpty, cause: commitlog.ErrEmpty}},
		{"zeros over a whole file", zero(1024, 2048),
			found{end: 1024, records: 5, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 8, damage: []message.Offset{1024}, stop: commitlog.StopEmpty, cause: commitlog.ErrEmpty}},
		{"the last record of a file", flip(800 + 95),
			found{end: 800, records: 4, stop: commitlog.StopDamaged, cause: message.ErrBodyCRC},
			found{end: damageEnd, records: 12, damage: []message.Offset{800}, stop: commitlog.StopEmpty, cause: message.ErrBodyCRC}},
		{"filler of another size", func(_ testing.TB, log []byte) { message.PutFiller(log[1000:], 25) },
			found{end: 1000, records: 5, stop: commitlog.StopDamaged, cause: commitlog.ErrFiller},
			found{end: damageEnd, records: 13, damage: []message.Offset{1000}, stop: commitlog.StopEmpty, cause: commitlog.ErrFiller}},
		{"filler of another magic", flip(1000 + 5),
			found{end: 1000, records: 5, stop: commitlog.StopDamaged, cause: message.ErrMagic},
			found{end: damageEnd, records: 13, damage: []message.Offset{1000}, stop: commitlog.StopEmpty, cause: message.ErrMagic}},
		{"filler that is missing", zero(1000, 1024),
			found{end: 1000, records: 5, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 13, damage: []message.Offset{1000}, stop: commitlog.StopEmpty, cause: commitlog.ErrEmpty}},
		{"the end of one file and the beginning of the next", zero(900, 1100),
			found{end: 800, records: 4, stop: commitlog.StopDamaged, cause: message.ErrTopic},
			found{end: damageEnd, records: 11, damage: []message.Offset{800}, stop: commitlog.StopEmpty, cause: message.ErrTopic}},
		{"two places", func(_ testing.TB, log []byte) { log[295] ^= 1; log[1524] ^= 1 },
			found{end: 200, records: 1, stop: commitlog.StopDamaged, cause: message.ErrBodyCRC},
			found{end: damageEnd, records: 11, damage: []message.Offset{200, 1424}, stop: commitlog.StopEmpty, cause: message.ErrBodyCRC}},
		{"torn last record", zero(2448+100, 2648),
			found{end: 2448, records: 12, stop: commitlog.StopDamaged, cause: message.ErrTopic},
			found{end: 2448, records: 12, stop: commitlog.StopDamaged, cause: message.ErrTopic}},
		// Where many zeros end its properties a record is torn anywhere.
		{"last record that has lost its property CRC", zero(2448+184, 2648),
			found{end: 2448, records: 12, stop: commitlog.StopDamaged, cause: commitlog.ErrTorn},
			found{end: 2448, records: 12, stop: commitlog.StopDamaged, cause: commitlog.ErrTorn}},
		{"last record whose first page is lost", zero(2448, 2548),
			found{end: 2448, records: 12, stop: commitlog.StopEmpty},
			found{end: 2448, records: 12, stop: commitlog.StopEmpty}},
		{"garbage behind the end", func(_ testing.TB, log []byte) {
			rng := rand.New(rand.NewPCG(1, 2))
			for i := int(damageEnd); i < len(log); i++ {
				log[i] = byte(rng.Uint32())
			}
		},
			found{end: damageEnd, records: 13, stop: commitlog.StopDamaged, cause: message.ErrMagic},
			found{end: damageEnd, records: 13, stop: commitlog.StopDamaged, cause: message.ErrMagic}},
		{"old records behind the damage, as a truncation leaves them", func(t testing.TB, log []byte) {
			log[2048+95] ^= 1
			forge(log, 2248, recordOf(t, damageRecord, "old"), 11, firstTime-1000)
			forge(log, 2448, recordOf(t, damageRecord, "old"), 12, firstTime-999)
		},
			found{end: 2048, records: 10, stop: commitlog.StopDamaged, cause: message.ErrBodyCRC},
			found{end: 2048, records: 10, stop: commitlog.StopDamaged, cause: message.ErrBodyCRC}},
		// Without damage nothing tells an old tail from a clock that went back,
		// and cutting there would lose what a broker acknowledged.
		{"an old record that lines up with the end", func(t testing.TB, log []byte) {
			forge(log, int(damageEnd), recordOf(t, damageRecord, "old"), 13, firstTime-1000)
		},
			found{end: damageEnd + damageRecord, records: 14, stop: commitlog.StopEmpty},
			found{end: damageEnd + damageRecord, records: 14, stop: commitlog.StopEmpty}},
		{"an old record behind the end that does not line up", func(t testing.TB, log []byte) {
			forge(log, int(damageEnd)+30, recordOf(t, damageRecord, "old"), 13, firstTime+1000)
		},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty},
			found{end: damageEnd, records: 13, stop: commitlog.StopEmpty}},
	} {
		for _, known := range []struct {
			name    string
			durable message.Offset
			want    found
		}{{"above durable", 0, c.above}, {"below durable", damageEnd, c.below}} {
			t.Run(c.name+"/"+known.name, func(t *testing.T) {
				t.Parallel()
				log := bytes.Clone(whole)
				c.damage(t, log)
				checkRecovery(t, write(t, log, damageFile), known.durable, known.want)
			})
		}
	}
}

func checkRecovery(t *testing.T, d *crashdisk.Disk, durable message.Offset, want found) {
	t.Helper()
	l := openLog(t, d, 0)
	visited, lastTime := 0, int64(0)
	r, err := l.Recover(commitlog.RecoverOptions{Durable: durable, Visit: func(rec message.Record, m *message.Message) error {
		require.Equal(t, rec.PhysicalOffset(), m.PhysicalOffset)
		visited++
		lastTime = max(lastTime, m.StoreTimestamp)
		return nil
	}})
	require.NoError(t, err)
	got := found{end: r.End, records: int(r.Records), stop: r.Stop.Kind}
	cause := r.Stop.Err
	for _, e := range r.Damage {
		got.damage = append(got.damage, e.Offset)
		cause = e
	}
	if want.cause != nil {
		require.ErrorIs(t, cause, want.cause)
		var corrupt *commitlog.CorruptError
		require.ErrorAs(t, cause, &corrupt)
		require.Equal(t, l.Files().Find(int64(corrupt.Offset)).Path(), corrupt.Path)
		require.True(t, strings.HasPrefix(cause.Error(), fmt.Sprintf("%s: damaged record at offset %d: ", corrupt.Path, corrupt.Offset)))
		want.cause = nil
	} else {
		require.NoError(t, cause)
	}
	require.Equal(t, want, got)
	require.Equal(t, r.End, r.Stop.Offset)
	require.Equal(t, want.records, visited)
	require.Equal(t, lastTime, r.LastTime)

	// What was recovered can be started, and a record that is appended then is
	// found by the next recovery, with nothing behind it.
	require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: 0, LastTime: r.LastTime}))
	seq := commitlog.NewSequence(99)
	last := add(t, l, seq, damageRecord, "new")
	require.NoError(t, l.Close())
	again, err := openLog(t, d, 0).Recover(commitlog.RecoverOptions{Durable: min(durable, r.End)})
	require.NoError(t, err)
	require.Equal(t, last.End(), again.End)
	require.EqualValues(t, want.records+1, again.Records)
	require.Equal(t, commitlog.StopEmpty, again.Stop.Kind)
	require.Len(t, again.Damage, len(want.damage))
}

// A log may be long and nearly empty. The search behind a damage must neither
// read its holes nor miss what lies behind them.
func TestResyncStepsOverHoles(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	d := crashdisk.New()
	l := startLog(t, d, size)
	seq := commitlog.NewSequence(0)
	for range 40 {
		add(t, l, seq, 1<<19, "x")
	}
	end := l.Appended()
	require.NoError(t, l.Close())
	// 16 records to a file, the last of which does not fit: 15, and a filler.
	for _, c := range []struct {
		name     string
		from, to int64 // zeros, in the log
		damage   message.Offset
		next     message.Offset
	}{
		{"a file but its last record", 0, 14 << 19, 0, 14 << 19},
		{"over a file", 3 << 19, size + 2<<19, 3 << 19, size + 2<<19},
		{"to the last record", 1 << 19, int64(end) - 1<<19, 1 << 19, end - 1<<19},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clone := d.KillClone()
			for base := int64(0); base < int64(end); base += size {
				file := readFile(t, clone, base)
				if lo, hi := max(c.from, base), min(c.to, base+size); lo < hi {
					clear(file[lo-base : hi-base])
				}
				require.NoError(t, clone.WriteFile(filePath(base), file))
			}
			all, stop := scan(t, openLog(t, clone, 0), 0, end, commitlog.ScanOptions{Resync: commitlog.ResyncAlways})
			require.Equal(t, commitlog.Stop{Kind: commitlog.StopEnd, Offset: end}, stop)
			var damage []scanned
			for _, s := range all {
				if s.Kind == commitlog.ItemDamage {
					damage = append(damage, s)
				}
			}
			require.Equal(t, []scanned{{Kind: commitlog.ItemDamage, Offset: c.damage, Size: int64(c.next - c.damage)}}, damage)
		})
	}
}
