// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestViewRecord(t *testing.T) {
	t.Parallel()
	log := bytes.Clone(damageLog(t))
	clear(log[1424:1624])                             // record 7 is lost
	log[1624+4] ^= 1                                  // record 8 has another magic
	message.Record(log[1824:2024]).Patch(5, 9, 0)     // record 9 says it is elsewhere
	log[2248+2] = 255                                 // record 11 is longer than the file
	message.Record(log[2448:2648]).Patch(2448, 12, 1) // record 12 has another time, which nobody looks at
	d := write(t, log, damageFile)
	l := openLog(t, d, 0)
	require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd, LastTime: firstTime, Clean: true}))
	_, err := l.RemoveBefore(1024)
	require.NoError(t, err)
	for _, c := range []struct {
		name    string
		off     message.Offset
		err     error
		corrupt bool
	}{
		{"a record", 1024, nil, false},
		{"the last one", 2448, nil, false},
		{"in an expired file", 200, commitlog.ErrExpired, false},
		{"below zero", -1, commitlog.ErrOutOfRange, false},
		{"at the end", damageEnd, commitlog.ErrOutOfRange, false},
		{"within 8 bytes of the end", damageEnd - 7, commitlog.ErrOutOfRange, false},
		{"beyond the files", 1 << 50, commitlog.ErrOutOfRange, false},
		{"across two files", 2044, commitlog.ErrOutOfRange, false},
		{"a filler", 2024, message.ErrMagic, true},
		{"zeros", 1424, commitlog.ErrEmpty, true},
		{"no magic number", 1624, message.ErrMagic, true},
		{"the middle of a record", 1024 + 8, message.ErrMagic, true},
		{"another position", 1824, commitlog.ErrPosition, true},
		{"longer than the log", 2248, commitlog.ErrOutOfRange, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := l.ViewRecord(c.off)
			if c.err == nil {
				require.NoError(t, err)
				require.Len(t, v.Bytes(), damageRecord)
				require.Equal(t, c.off, message.Record(v.Bytes()).PhysicalOffset())
				v.Release()
				return
			}
			require.ErrorIs(t, err, c.err)
			require.Nil(t, v.File(), "nothing to release")
			var corrupt *commitlog.CorruptError
			if c.corrupt {
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, c.off, corrupt.Offset)
				require.Equal(t, l.Files().Find(int64(c.off)).Path(), corrupt.Path)
			} else {
				require.NotErrorAs(t, err, &corrupt)
			}
		})
	}
	// Whatever went wrong has given back its references: the files are
	// unmapped with the log, which crashdisk shows by overwriting them.
	v, err := l.View(1024, 8)
	require.NoError(t, err)
	b := v.Bytes()
	v.Release()
	require.NoError(t, l.Close())
	require.Equal(t, bytes.Repeat([]byte{0xDB}, 8), b)
}

func TestView(t *testing.T) {
	t.Parallel()
	whole := damageLog(t)
	l := openLog(t, write(t, whole, damageFile), 0)
	require.NoError(t, l.Start(commitlog.StartOptions{End: damageEnd, Flushed: damageEnd, LastTime: firstTime, Clean: true}))
	for _, c := range []struct {
		name string
		off  message.Offset
		n    int32
		err  error
	}{
		{"several records", 200, 600, nil},
		{"a whole file", 1024, 1024, nil},
		{"nothing", 200, 0, nil},
		{"up to the end", damageEnd - 10, 10, nil},
		{"past the end", damageEnd - 10, 11, commitlog.ErrOutOfRange},
		{"across two files", 1000, 100, commitlog.ErrOutOfRange},
		{"a negative length", 200, -1, commitlog.ErrOutOfRange},
		{"the largest offset", 1<<63 - 1, 8, commitlog.ErrOutOfRange},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := l.View(c.off, c.n)
			defer v.Release()
			require.ErrorIs(t, err, c.err)
			if err == nil {
				require.Equal(t, whole[c.off:int(c.off)+int(c.n)], v.Bytes())
			}
		})
	}
}

func TestScanStops(t *testing.T) {
	t.Parallel()
	whole := damageLog(t)
	d := write(t, whole, damageFile)
	l := openLog(t, d, 0, func(o *commitlog.Options) { o.ReadOnly = true })
	for _, c := range []struct {
		name     string
		from, to message.Offset
		items    int
		want     commitlog.StopKind
		at       message.Offset
	}{
		{"at its end", 0, 600, 3, commitlog.StopEnd, 600},
		{"where it begins", 600, 600, 0, commitlog.StopEnd, 600},
		{"before it begins", 600, 200, 0, commitlog.StopEnd, 600},
		{"behind a filler", 800, 1024, 2, commitlog.StopEnd, 1024},
		{"at zeros", 2048, 3072, 3, commitlog.StopEmpty, damageEnd},
		{"beyond the files", 3072, 1 << 40, 0, commitlog.StopEnd, 3072},
		{"in the middle of a record", 100, damageEnd, 0, commitlog.StopDamaged, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, stop := scan(t, l, c.from, c.to, commitlog.ScanOptions{})
			require.Len(t, all, c.items)
			require.Equal(t, c.want, stop.Kind)
			require.Equal(t, c.at, stop.Offset)
		})
	}

	t.Run("in an expired file", func(t *testing.T) {
		d := crashdisk.New()
		makeFile(t, d, 4096, 1024)
		_, stop := scan(t, openLog(t, d, 0), 0, 8192, commitlog.ScanOptions{})
		require.Equal(t, commitlog.StopError, stop.Kind)
		require.ErrorIs(t, stop.Err, commitlog.ErrExpired)
		require.ErrorIs(t, stop.Err, mappedfile.ErrExpired)
	})
	t.Run("at a file that can't be mapped", func(t *testing.T) {
		d := write(t, whole, damageFile)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpOpen, After: 1})
		l := openLog(t, d, 0)
		all, stop := scan(t, l, 0, damageEnd, commitlog.ScanOptions{})
		require.Len(t, all, 6)
		require.Equal(t, commitlog.StopError, stop.Kind)
		d.Inject(crashdisk.Fault{Op: crashdisk.OpOpen})
		_, err := l.Recover(commitlog.RecoverOptions{From: 1024})
		require.Error(t, err)
	})
	t.Run("and goes on when its end is moved", func(t *testing.T) {
		s := l.Scan(0, 400, commitlog.ScanOptions{})
		defer s.Close()
		var offsets []message.Offset
		for _, to := range []message.Offset{400, 400, 100, 1024, 1224} {
			s.Extend(to)
			for s.Next() {
				offsets = append(offsets, s.Item().Offset)
			}
			require.Equal(t, commitlog.StopEnd, s.Stop().Kind)
			require.Equal(t, s.Offset(), s.Stop().Offset)
		}
		require.Equal(t, []message.Offset{0, 200, 400, 600, 800, 1000, 1024}, offsets)
	})
	t.Run("when it is closed", func(t *testing.T) {
		s := l.Scan(0, damageEnd, commitlog.ScanOptions{})
		require.True(t, s.Next())
		s.Close()
		s.Close()
		require.False(t, s.Next())
		require.Equal(t, commitlog.Stop{Kind: commitlog.StopEnd, Offset: 200}, s.Stop())
	})
	require.NoError(t, l.Close())
	for base := 0; base < len(whole); base += damageFile {
		require.Equal(t, whole[base:base+damageFile], readFile(t, d, int64(base)), "reading changes nothing")
	}
}

func TestRecoverStopsWithVisit(t *testing.T) {
	t.Parallel()
	l := openLog(t, write(t, damageLog(t), damageFile), 0)
	n := 0
	_, err := l.Recover(commitlog.RecoverOptions{From: 400, Visit: func(message.Record, *message.Message) error {
		if n++; n == 3 {
			return commitlog.ErrEmpty
		}
		return nil
	}})
	require.Equal(t, commitlog.ErrEmpty, err)
	require.Equal(t, 3, n)
	r, err := l.Recover(commitlog.RecoverOptions{From: 3072, Time: 5})
	require.NoError(t, err)
	require.Equal(t, commitlog.Recovery{End: 3072, LastTime: 5, Stop: commitlog.Stop{Kind: commitlog.StopEnd, Offset: 3072}}, r)
}
