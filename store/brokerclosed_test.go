// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
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
// file. What queues still say about that file is no sign of a lost one, also where
// old bytes stand behind the end. Where they may be a damaged record or filler,
// the file may be lost.
func TestQueuesBeyondAShortLog(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("old", fileSize)
	for _, end := range ends {
		for name, tt := range map[string]struct {
			behind string // what stands behind the end
			named  bool   // an entry names the end
			lost   bool
		}{
			"zeros":            {"", true, false},
			"old bytes":        {old, false, false},
			"a damaged record": {old, true, true},
			"a damaged filler": {old[:message.FillerSize], false, true},
		} {
			t.Run(end+"/"+name, func(t *testing.T) {
				t.Parallel()
				d, m := filled(t, end)
				n := len(m.entries) / 2
				for m.entries[n].Offset%fileSize < fileSize/2 || !m.entries[n].keep {
					n--
				}
				next := m.entries[n]
				cut := next.Offset
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
				patch(t, d, root+"/commitlog", fileSize, int64(cut), tt.behind)
				if !tt.named {
					at := int64(next.QueueOffset) * consumequeue.EntrySize
					patch(t, d, queueDir(next.Topic, int(next.QueueID)), queueFileSize, at, strings.Repeat("\x00", consumequeue.EntrySize))
				}
				if tt.lost {
					_, err := store.Open(root, quiet(d))
					require.ErrorIs(t, err, store.ErrMissingFile)
					return
				}
				m.entries, m.acked = m.entries[:n], cut
				s := openStore(t, d)
				require.Equal(t, cut, s.Stats().Appended)
				left := m.checkWrecked(t, s)
				appendAndCheck(t, s, left)
			})
		}
	}
}

// patch writes over what stands at an offset of a run of files, up to the end of
// one of them.
func patch(t *testing.T, d *crashdisk.Disk, dir string, size, at int64, text string) {
	t.Helper()
	file := path.Join(dir, mappedfile.FileName(at-at%size))
	content, err := d.ReadFile(file)
	require.NoError(t, err)
	copy(content[at%size:], text)
	require.NoError(t, d.WriteFile(file, content))
}
