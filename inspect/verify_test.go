// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// verify runs Verify and returns its findings and notes.
func verify(t testing.TB, dir string) (findings, notes []inspect.Finding, sum inspect.Verified) {
	t.Helper()
	sum, err := open(t, dir).Verify(context.Background(), func(f *inspect.Finding) error {
		if f.Note {
			notes = append(notes, *f)
		} else {
			findings = append(findings, *f)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int64(len(findings)), sum.Findings)
	require.Equal(t, int64(len(notes)), sum.Notes)
	return findings, notes, sum
}

// found is what a test expects of a Finding. Offset -1 is none.
type found struct {
	kind   inspect.Kind
	file   string // below the store
	offset int64
	queue  string // topic/id/queue offset, or ""
	detail string // a part of it
}

func requireFindings(t testing.TB, dir string, want []found, got []inspect.Finding) {
	t.Helper()
	require.Len(t, got, len(want), "%+v", got)
	for i, w := range want {
		g := got[i]
		require.Equal(t, w.kind, g.Kind, "%+v", g)
		require.Equal(t, filepath.Join(dir, filepath.FromSlash(w.file)), g.File)
		require.Equal(t, w.offset, g.Offset, "%+v", g)
		require.Contains(t, g.Detail, w.detail)
		queue := ""
		if g.Queued {
			b, err := json.Marshal([]any{g.Topic, g.QueueID, g.QueueOffset})
			require.NoError(t, err)
			queue = string(b)
		}
		require.Equal(t, w.queue, queue)
	}
}

// The first messages of queue 1 of topic-1 in the sample, by queue offset:
// records at 0, 740 and 3717, of 740, 703 and 170 bytes. It has 72 entries.
const (
	theQueue = "consumequeue/topic-1/1/00000000000000000000"
	theLog   = "commitlog/00000000000000000000"
	nextLog  = "commitlog/00000000000000262144"
)

func putEntry(t testing.TB, dir string, at int64, offset uint64, size uint32, tags uint64) {
	t.Helper()
	var b [20]byte
	binary.BigEndian.PutUint64(b[0:], offset)
	binary.BigEndian.PutUint32(b[8:], size)
	binary.BigEndian.PutUint64(b[12:], tags)
	patch(t, filepath.Join(dir, filepath.FromSlash(theQueue)), at*20, b[:])
}

func TestVerifyDamage(t *testing.T) {
	t.Parallel()
	const tag0, tag1, tag2 = 2598922, 2598920, 2598919
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []found
		lost   int64 // records
	}{
		{name: "nothing", damage: func(*testing.T, string) {}},
		{
			name:   "a bit in a body",
			damage: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, theLog), 740+120) },
			want:   []found{{inspect.KindRecord, theLog, 740, "", "703 bytes skipped, the next intact record is at offset 1443"}}, lost: 1,
		},
		{
			name:   "a bit in a header",
			damage: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, theLog), 740+16) },
			want:   []found{{inspect.KindRecord, theLog, 740, "", "next intact record is at offset 1443"}}, lost: 1,
		},
		{
			name:   "a bit in a property",
			damage: func(t *testing.T, dir string) { flip(t, filepath.Join(dir, theLog), 1443-40) },
			want:   []found{{inspect.KindRecord, theLog, 740, "", "next intact record is at offset 1443"}}, lost: 1,
		},
		{
			name:   "a length",
			damage: func(t *testing.T, dir string) { patch(t, filepath.Join(dir, theLog), 740, []byte{0x7F, 0, 0, 0}) },
			want:   []found{{inspect.KindRecord, theLog, 740, "", "next intact record is at offset 1443"}}, lost: 1,
		},
		{
			name:   "an entry's offset",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 741, 703, tag1) },
			want:   []found{{inspect.KindNoRecord, theQueue, 20, `["topic-1",1,1]`, "no intact record at 741"}},
		},
		{
			name:   "an entry's size",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 740, 704, tag1) },
			want:   []found{{inspect.KindSize, theQueue, 20, `["topic-1",1,1]`, "the entry says 704"}},
		},
		{
			name:   "an entry's tag hash",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 740, 703, tag1+1) },
			want:   []found{{inspect.KindTag, theQueue, 20, `["topic-1",1,1]`, "it says tag hash 2598921, its record's is 2598920"}},
		},
		{
			name: "two entries swapped",
			damage: func(t *testing.T, dir string) {
				putEntry(t, dir, 1, 3717, 170, tag2)
				putEntry(t, dir, 2, 740, 703, tag1)
			},
			want: []found{
				{inspect.KindWrong, theQueue, 20, `["topic-1",1,1]`, `the record at 3717 is of topic "topic-1", queue 1, offset 2`},
				{inspect.KindWrong, theQueue, 40, `["topic-1",1,2]`, `the record at 740 is of topic "topic-1", queue 1, offset 1`},
			},
		},
		{
			name:   "an entry twice",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 0, 740, tag0) },
			want:   []found{{inspect.KindWrong, theQueue, 20, `["topic-1",1,1]`, "offset 0"}},
		},
		{
			name:   "an entry of zeros",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 0, 0, 0) },
			want: []found{
				{inspect.KindUnqueued, theLog, 740, `["topic-1",1,1]`, "queue offsets 1 to 1"},
				{inspect.KindHole, theQueue, 20, `["topic-1",1,1]`, "never filled"},
			},
		},
		{
			name:   "an entry that can't be one",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 1<<63, 703, tag1) },
			want:   []found{{inspect.KindNoRecord, theQueue, 20, `["topic-1",1,1]`, "can't be a record's"}},
		},
		{
			name:   "an entry behind the log",
			damage: func(t *testing.T, dir string) { putEntry(t, dir, 1, 1<<40, 703, tag1) },
			want:   []found{{inspect.KindDangling, theQueue, 20, `["topic-1",1,1]`, "the log's files end at 524288"}},
		},
		{
			name:   "the queue file is gone",
			damage: func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, theQueue))) },
			want:   []found{{inspect.KindUnqueued, theLog, 0, `["topic-1",1,0]`, "queue offsets 0 to "}},
		},
		{
			name: "the queue's directory is gone",
			damage: func(t *testing.T, dir string) {
				require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Join(dir, theQueue))))
			},
			want: []found{{inspect.KindUnqueued, theLog, 0, `["topic-1",1,0]`, "no file holds its entry"}},
		},
		{
			name: "a stray file beside the log",
			damage: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "commitlog", "notes"), []byte("x"), 0o600))
			},
			want: []found{{inspect.KindFile, "commitlog/notes", -1, "", "stray"}},
		},
		{
			name: "a queue file cut short",
			damage: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(filepath.Join(dir, theQueue)), "stray"), nil, 0o600))
			},
			want: []found{{inspect.KindFile, "consumequeue/topic-1/1/stray", -1, `["topic-1",1,0]`, "stray"}},
		},
		{
			name: "a checkpoint from the future",
			damage: func(t *testing.T, dir string) {
				path := filepath.Join(dir, "checkpoint")
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				c, err := checkpoint.Decode(b)
				require.NoError(t, err)
				c.Log = time.Now().Add(1000 * time.Hour).UnixMilli()
				c.Encode(b)
				require.NoError(t, os.WriteFile(path, b, 0o600))
			},
			want: []found{{inspect.KindCheckpoint, "checkpoint", -1, "", "the log was flushed up to time"}},
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
			require.Empty(t, notes)
			require.Equal(t, 800-c.lost, sum.Records, "every undamaged record is read")
		})
	}
}

// withQueues writes a store of several small log files, with its queues.
func withQueues(t testing.TB, dir string, n int) []message.Offset {
	t.Helper()
	w := newWriter(t, dir, 4096)
	set, err := consumequeue.OpenSet(consumequeue.Options{Dir: filepath.Join(dir, "consumequeue"), FileSize: 400})
	require.NoError(t, err)
	offs := make([]message.Offset, n)
	for i := range n {
		m := &message.Message{Topic: "t", QueueID: int32(i % 3), Body: make([]byte, 100+i)}
		m.SetTags("red")
		res, err := w.append(m)
		require.NoError(t, err)
		q, err := set.GetOrCreate("t", m.QueueID)
		require.NoError(t, err)
		put, err := q.Put(res.QueueOffset, consumequeue.Entry{Offset: res.Offset, Size: res.Size, TagsCode: message.TagsCode([]byte("red"))})
		require.NoError(t, err)
		require.Equal(t, consumequeue.Appended, put)
		offs[i] = res.Offset
	}
	require.NoError(t, set.Flush())
	require.NoError(t, set.Close())
	require.NoError(t, w.log.Close())
	return offs
}

// TestVerifyMissingFiles: what one file takes along is told once, and the rest
// of the store is checked.
func TestVerifyMissingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	offs := withQueues(t, dir, 100)
	findings, notes, sum := verify(t, dir)
	require.Empty(t, findings)
	require.Empty(t, notes)
	require.Equal(t, int64(100), sum.Records)
	require.Equal(t, int64(100), sum.Entries)

	missing := filepath.Join(dir, theQueue[:len("consumequeue/")]+"t/1/"+mappedfile.FileName(400))
	require.NoError(t, os.Remove(missing)) // queue 1, entries 20 to 39: messages 61 and on
	findings, _, sum = verify(t, dir)
	require.Equal(t, int64(100), sum.Records)
	requireFindings(t, dir, []found{
		{inspect.KindUnqueued, "commitlog/" + mappedfile.FileName(int64(offs[61])/4096*4096), int64(offs[61]), `["t",1,20]`, "queue offsets 20 to 32"},
	}, findings)

	gone := int64(2 * 4096)
	require.NoError(t, os.Remove(logFile(dir, gone)))
	findings, _, sum = verify(t, dir)
	lost := 0
	for _, o := range offs {
		if int64(o) >= gone && int64(o) < gone+4096 {
			lost++
		}
	}
	require.Equal(t, int64(100-lost), sum.Records)
	require.Equal(t, inspect.KindFile, findings[0].Kind)
	require.Equal(t, logFile(dir, gone), findings[0].File)
	require.Equal(t, inspect.KindRecord, findings[1].Kind, "the hole, as the scan meets it")
	require.Equal(t, gone, findings[1].Offset)
	require.Equal(t, inspect.KindUnqueued, findings[2].Kind)
	require.Len(t, findings, 3, "no entry is reported that points into the hole")
}

// TestVerifyKilled: what a kill leaves is a note.
func TestVerifyKilled(t *testing.T) {
	t.Parallel()
	dir := sample(t, killed)
	findings, notes, sum := verify(t, dir)
	require.Empty(t, findings)
	require.Len(t, notes, 1)
	require.Equal(t, filepath.Join(dir, "abort"), notes[0].File)
	require.Equal(t, inspect.Verified{Records: 400, Bytes: 166660, Queues: 12, Entries: 400, Notes: 1}, sum)
}

// TestVerifyUndispatchedTail: the last records of a store that was killed may
// not be in their queues; those of one that was closed in order are.
func TestVerifyUndispatchedTail(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	var last []*message.Message
	for r, err := range open(t, dir).Messages(context.Background(), inspect.Filter{}) {
		require.NoError(t, err)
		m := *r.Message
		last = append(last, &m)
	}
	last = last[len(last)-3:]
	for _, m := range last {
		path := filepath.Join(dir, "consumequeue", m.Topic, strconv.Itoa(int(m.QueueID)), "00000000000000000000")
		patch(t, path, int64(m.QueueOffset)*20, make([]byte, 20))
	}
	findings, notes, _ := verify(t, dir)
	require.NotEmpty(t, findings)
	require.Empty(t, notes)
	for _, f := range findings {
		require.Equal(t, inspect.KindUnqueued, f.Kind)
	}

	require.NoError(t, os.WriteFile(filepath.Join(dir, "abort"), []byte("1"), 0o600))
	// It said that these were in their queues.
	findings, _, _ = verify(t, dir)
	require.NotEmpty(t, findings)
	b, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	require.NoError(t, err)
	c, err := checkpoint.Decode(b)
	require.NoError(t, err)
	c.Queues = last[0].StoreTimestamp - 1
	c.Encode(b)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoint"), b, 0o600))
	findings, notes, _ = verify(t, dir)
	require.Empty(t, findings)
	require.Len(t, notes, 2)
	require.Equal(t, int64(last[0].PhysicalOffset), notes[1].Offset)
	require.Contains(t, notes[1].Detail, "the last 3 records are not in their queues yet")
}

// TestVerifyRandomBits flips one bit of a random record: exactly that record is
// reported. Only the last property, which is the checksum over all, is left
// alone: one whose name has changed is none, and the message is whole.
func TestVerifyRandomBits(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := sample(t, closed)
	var all []*message.Message
	for r, err := range open(t, dir).Messages(context.Background(), inspect.Filter{}) {
		require.NoError(t, err)
		m := *r.Message
		all = append(all, &m)
	}
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	const checksum = 1 + len("__CRC32#") + 1 + 10 + 1 // with the end of the property before
	for range rounds {
		m := all[rng.IntN(len(all))]
		at := int64(m.PhysicalOffset) + int64(rng.IntN(int(m.Size)-checksum))
		path := filepath.Join(dir, theLog)
		if at >= 262144 {
			path = filepath.Join(dir, nextLog)
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		old := b[at%262144]
		patch(t, path, at%262144, []byte{old ^ 1<<rng.IntN(8)})
		findings, _, sum := verify(t, dir)
		require.NotEmpty(t, findings, "byte %d of the record at %d", at-int64(m.PhysicalOffset), m.PhysicalOffset)
		require.Equal(t, inspect.KindRecord, findings[0].Kind, "%+v", findings)
		require.Equal(t, int64(m.PhysicalOffset), findings[0].Offset)
		require.Len(t, findings, 1, "%+v", findings)
		require.Equal(t, int64(len(all)-1), sum.Records)
		patch(t, path, at%262144, []byte{old})
	}
}
