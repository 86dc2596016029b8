// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

const fuzzFile = 512

// fuzzLog makes data the bytes of a log of whole files.
func fuzzLog(t testing.TB, data []byte) (*crashdisk.Disk, message.Offset) {
	t.Helper()
	const most = 8 * fuzzFile
	files := min(max(len(data)+fuzzFile-1, fuzzFile), most) / fuzzFile
	log := make([]byte, files*fuzzFile)
	copy(log, data)
	return write(t, log, fuzzFile), message.Offset(len(log))
}

// seedLogs are logs to start from: whole, damaged, and of a broker without
// property CRCs.
func seedLogs(f *testing.F) [][]byte {
	d := crashdisk.New()
	l := startLog(f, d, fuzzFile)
	seq := commitlog.NewSequence(0)
	for i := range 8 {
		add(f, l, seq, 150+i*10, "seed")
	}
	require.NoError(f, l.Close())
	var log []byte
	for base := int64(0); base < int64(l.Appended()); base += fuzzFile {
		log = append(log, readFile(f, d, base)...)
	}
	damaged := bytes.Clone(log)
	damaged[300] ^= 1
	clear(damaged[fuzzFile-40 : fuzzFile+20])
	plain, err := message.Encoder{}.Append(nil, &message.Message{Topic: "TopicTest", Body: []byte("hello")})
	require.NoError(f, err)
	return [][]byte{nil, log, damaged, log[:len(log)-100], plain, bytes.Repeat(magic, 100)}
}

var magic = []byte{0, 0, 0, 200, 0xDA, 0xA3, 0x20, 0xA7}

func FuzzScan(f *testing.F) {
	for _, log := range seedLogs(f) {
		f.Add(log, uint16(0), uint16(8*fuzzFile), uint16(0))
		f.Add(log, uint16(0), uint16(700), uint16(8*fuzzFile))
		f.Add(log, uint16(150), uint16(8*fuzzFile), uint16(8*fuzzFile))
	}
	f.Fuzz(func(t *testing.T, data []byte, from, to, resync uint16) {
		d, size := fuzzLog(t, data)
		l := openLog(t, d, 0, func(o *commitlog.Options) { o.ReadOnly = true })
		s := l.Scan(message.Offset(from), message.Offset(to), commitlog.ScanOptions{
			Check: message.CheckAll, Resync: message.Offset(resync),
		})
		next := message.Offset(from)
		for s.Next() {
			it := s.Item()
			require.Equal(t, next, it.Offset, "one behind the other")
			require.Less(t, it.Offset, message.Offset(to))
			require.Positive(t, it.Size)
			next += message.Offset(it.Size)
			require.LessOrEqual(t, next, size)
			require.Equal(t, next, s.Offset())
			switch it.Kind {
			case commitlog.ItemRecord:
				require.Equal(t, it.Offset/fuzzFile, (next-1)/fuzzFile, "in one file")
				require.Equal(t, it.Offset, it.Message.PhysicalOffset)
				require.Len(t, it.Record, int(it.Size))
			case commitlog.ItemFiller:
				require.Zero(t, next%fuzzFile)
			case commitlog.ItemDamage:
				require.Less(t, it.Offset, message.Offset(resync))
				require.Equal(t, it.Offset, it.Err.Offset)
			}
		}
		stop := s.Stop()
		require.Equal(t, next, stop.Offset)
		require.NotEqual(t, commitlog.StopError, stop.Kind)
		require.Equal(t, stop.Kind == commitlog.StopDamaged, stop.Err != nil)
		s.Close()
	})
}

// Whatever is in the files: what a recovery finds can be started, and what is
// appended then is the end of what the next recovery finds.
func FuzzRecover(f *testing.F) {
	for _, log := range seedLogs(f) {
		f.Add(log, uint16(0), uint16(0))
		f.Add(log, uint16(0), uint16(8*fuzzFile))
		f.Add(log, uint16(150), uint16(600))
	}
	f.Fuzz(func(t *testing.T, data []byte, from, durable uint16) {
		d, size := fuzzLog(t, data)
		l := openLog(t, d, 0)
		o := commitlog.RecoverOptions{From: min(message.Offset(from), size), Durable: message.Offset(durable)}
		r, err := l.Recover(o)
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.End, o.From)
		require.LessOrEqual(t, r.End, size)
		require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: 0, LastTime: r.LastTime}))
		added := add(t, l, commitlog.NewSequence(1), 200, "new")
		require.NoError(t, l.Close())

		d = d.DurableClone()
		o.Durable = min(o.Durable, r.End)
		again, err := openLog(t, d, 0).Recover(o)
		require.NoError(t, err)
		require.Equal(t, added.End(), again.End)
		require.Equal(t, r.Records+1, again.Records)
		require.Equal(t, commitlog.StopEmpty, again.Stop.Kind)
		require.Len(t, again.Damage, len(r.Damage))
	})
}
