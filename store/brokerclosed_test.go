// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestBrokerClosedAfterOurCrash: we crash, and the last record is torn. A broker
// takes it for whole, because it looks at the body and at lengths only, appends
// behind it, and closes in order. What it appended stays.
func TestBrokerClosedAfterOurCrash(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*crashdisk.Disk) *crashdisk.Disk{
		"killed":    (*crashdisk.Disk).KillClone,
		"power cut": (*crashdisk.Disk).DurableClone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := crashdisk.New()
			s := openStore(t, disk, func(o *store.Options) { o.PropertyCRC = store.CRCBodyOnly })
			appendMany(t, s, 10, 0, 1)
			last := msg("orders", 0, "its properties get lost")
			last.SetKeys("a-key-that-is-long-enough")
			torn, err := s.Append(context.Background(), last)
			require.NoError(t, err)
			require.NoError(t, s.Flush(context.Background()))
			require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
			left := crash(disk)
			require.NoError(t, s.Close())

			theirs := msg("orders", 1, "a broker's")
			record, err := message.Encoder{}.Append(nil, theirs)
			require.NoError(t, err)
			at := torn.Offset + message.Offset(torn.Size)
			message.Record(record).Patch(at, 10, torn.StoreTime)
			file := root + "/commitlog/00000000000000000000"
			log, err := left.ReadFile(file)
			require.NoError(t, err)
			clear(log[at-20 : at])
			copy(log[at:], record)
			require.NoError(t, left.WriteFile(file, log))
			require.NoError(t, left.Remove(root+"/abort"))

			s = openStore(t, left)
			rec := s.Stats().Recovery
			require.Len(t, rec.Damage, 1)
			require.Equal(t, torn.Offset, rec.Damage[0].Offset)
			got, err := s.Get(at)
			require.NoError(t, err)
			require.Equal(t, "a broker's", string(got.Body))
			all := bodies(fetchAll(t, s, "orders", 1))
			require.Equal(t, "a broker's", all[len(all)-1])
			require.NoError(t, s.Close())
		})
	}
}

// TestQueuesBeyondAShortLog: a broker has cut the log, and with it the last
// file. What queues still say about that file is no sign of a lost one.
func TestQueuesBeyondAShortLog(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			d, m := filled(t, end)
			n := len(m.entries) / 2
			for m.entries[n].Offset%fileSize < fileSize/2 {
				n--
			}
			cut := m.entries[n].Offset
			cutLog(t, d, int64(cut))
			all, err := d.List(root + "/commitlog")
			require.NoError(t, err)
			gone := false
			for _, e := range all {
				if base, _ := mappedfile.ParseFileName(e.Name); base > int64(cut) {
					gone = true
					require.NoError(t, d.Remove(root+"/commitlog/"+e.Name))
				}
			}
			require.True(t, gone)
			m.entries, m.acked = m.entries[:n], cut
			s := openStore(t, d)
			require.Equal(t, cut, s.Stats().Appended)
			left := m.checkWrecked(t, s)
			appendAndCheck(t, s, left)
		})
	}
}
