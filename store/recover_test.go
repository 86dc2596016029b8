// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
)

// filled is a disk with a store of some files and queues, and its model. It was
// closed, or its process was killed, or the power was cut after everything was
// flushed and a checkpoint was written in the middle.
func filled(t testing.TB, end string) (*crashdisk.Disk, *model) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	d, m := crashdisk.New(), &model{}
	s := openStore(t, d)
	for range 150 {
		require.NoError(t, m.step(t, s, rng))
	}
	require.NoError(t, s.Close())
	s = openStore(t, d, func(o *store.Options) { o.CheckpointInterval = time.Millisecond })
	for range 50 {
		require.NoError(t, m.step(t, s, rng))
	}
	// A checkpoint in between.
	require.NoError(t, s.Flush(context.Background()))
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	for range 50 {
		require.NoError(t, m.step(t, s, rng))
	}
	require.NoError(t, s.Flush(context.Background()))
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	m.ack(s.Stats().Appended)
	switch end {
	case "closed":
		require.NoError(t, s.Close())
	case "killed":
		d = d.KillClone()
	case "power cut":
		d = d.DurableClone()
	}
	return d, m
}

var ends = []string{"closed", "killed", "power cut"}

// broker makes it a broker's directory: there is no stele/ in it, and abort is
// another process's.
func broker(t *testing.T, d *crashdisk.Disk) {
	removeTree(t, d, root+"/stele")
	if _, err := d.ReadFile(root + "/abort"); err == nil {
		require.NoError(t, d.WriteFile(root+"/abort", []byte("1")))
	}
}

func queueDir(topic string, queue int) string {
	return path.Join(root, "consumequeue", topic, strconv.Itoa(queue))
}

// wrecks delete what can be rebuilt, and more.
var wrecks = map[string]func(t *testing.T, d *crashdisk.Disk){
	"nothing":    func(*testing.T, *crashdisk.Disk) {},
	"all queues": func(t *testing.T, d *crashdisk.Disk) { removeTree(t, d, root+"/consumequeue") },
	"a topic":    func(t *testing.T, d *crashdisk.Disk) { removeTree(t, d, root+"/consumequeue/orders") },
	"a queue":    func(t *testing.T, d *crashdisk.Disk) { removeTree(t, d, queueDir("payments", 1)) },
	"a queue's files": func(t *testing.T, d *crashdisk.Disk) {
		removeTree(t, d, queueDir("x", 0))
		require.NoError(t, d.MkdirAll(queueDir("x", 0)))
	},
	"a first file": func(t *testing.T, d *crashdisk.Disk) {
		removeTree(t, d, path.Join(queueDir("orders", 0), mappedfile.FileName(0)))
	},
	"a last file": func(t *testing.T, d *crashdisk.Disk) {
		all, err := d.List(queueDir("orders", 2))
		require.NoError(t, err)
		require.Greater(t, len(all), 1)
		removeTree(t, d, path.Join(queueDir("orders", 2), all[len(all)-1].Name))
	},
	"the checkpoint": func(t *testing.T, d *crashdisk.Disk) { removeTree(t, d, root+"/checkpoint") },
	"a short checkpoint": func(t *testing.T, d *crashdisk.Disk) {
		require.NoError(t, d.WriteFile(root+"/checkpoint", []byte("short")))
	},
	"the marks": func(t *testing.T, d *crashdisk.Disk) { removeTree(t, d, root+"/stele") },
	"short marks": func(t *testing.T, d *crashdisk.Disk) {
		require.NoError(t, d.WriteFile(root+"/stele/marks", []byte("short")))
	},
	"empty marks": func(t *testing.T, d *crashdisk.Disk) { require.NoError(t, d.WriteFile(root+"/stele/marks", nil)) },
	"empty abort": func(t *testing.T, d *crashdisk.Disk) { require.NoError(t, d.WriteFile(root+"/abort", nil)) },
	"a spare file and an empty one": func(t *testing.T, d *crashdisk.Disk) {
		addLogFiles(t, d)
	},
}

// TestRebuild: after each of the wrecks, what the queues hold is what was appended,
// and their files are what they were.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		for name, wreck := range wrecks {
			for _, owner := range []string{"stele", "broker"} {
				t.Run(fmt.Sprintf("%s/%s/%s", end, owner, name), func(t *testing.T) {
					t.Parallel()
					d, m := filled(t, end)
					want := contents(t, d, root+"/consumequeue")
					if owner == "broker" {
						broker(t, d)
						if !brokersToo(end, name) {
							return
						}
					}
					wreck(t, d)
					s := openStore(t, d)
					left := m.checkWrecked(t, s)
					require.Equal(t, m.acked, left.acked)
					require.Empty(t, s.Stats().Recovery.Damage)
					require.NoError(t, s.Close())
					if end != "power cut" { // there the queues had lost what the checkpoint did not cover
						require.Equal(t, want, contents(t, d, root+"/consumequeue"))
					}
					require.Empty(t, d.Unreserved())

					s = openStore(t, d)
					require.Equal(t, store.CleanClose, s.Stats().Recovery.Kind)
					require.Zero(t, s.Stats().Recovery.Records)
					left = left.check(t, s)
					appendAndCheck(t, s, left)
				})
			}
		}
	}
}

// brokersToo leaves out what a broker's directory has not, and what can't be
// told there: after a clean close only the end of the log is read, by RocketMQ's
// rule, and that one queue lacks what stands before it shows only if it has a
// message behind it.
func brokersToo(end, wreck string) bool {
	switch wreck {
	case "the marks", "short marks", "empty marks":
		return false
	case "a queue", "a queue's files", "a last file":
		return end != "closed"
	}
	return true
}

// appendAndCheck goes on appending.
func appendAndCheck(t *testing.T, s *store.Store, m *model) {
	t.Helper()
	rng := rand.New(rand.NewPCG(8, 8))
	for range 20 {
		require.NoError(t, m.step(t, s, rng))
	}
	require.NoError(t, s.WaitDispatched(context.Background(), s.Stats().Appended))
	m.checkWrecked(t, s)
}

func addLogFiles(t *testing.T, d *crashdisk.Disk) {
	t.Helper()
	dir := root + "/commitlog"
	all, err := d.List(dir)
	require.NoError(t, err)
	last, _ := mappedfile.ParseFileName(all[len(all)-1].Name)
	r, err := d.Create(path.Join(dir, mappedfile.FileName(last+fileSize)), fileSize, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, d.WriteFile(path.Join(dir, mappedfile.FileName(last+2*fileSize)), nil))
}

// TestForgedMarks gives the store marks of another time, and a log that was cut
// below them.
func TestForgedMarks(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		t.Run(end+"/older marks", func(t *testing.T) {
			t.Parallel()
			d, m := filled(t, end)
			rng := rand.New(rand.NewPCG(3, 3))
			old, err := d.ReadFile(root + "/stele/marks")
			require.NoError(t, err)
			s := openStore(t, d)
			m = m.check(t, s)
			for range 30 {
				require.NoError(t, m.step(t, s, rng))
			}
			require.NoError(t, s.Close())
			m.ack(s.Stats().Appended)
			require.NoError(t, d.WriteFile(root+"/stele/marks", old))
			s = openStore(t, d)
			m.check(t, s)
		})
		t.Run(end+"/a log that was cut", func(t *testing.T) {
			t.Parallel()
			d, m := filled(t, end)
			n := len(m.entries) / 2
			cut := m.entries[n].Offset
			cutLog(t, d, int64(cut))
			m.entries, m.acked = m.entries[:n], cut
			s := openStore(t, d)
			require.Equal(t, cut, s.Stats().Appended)
			left := m.checkWrecked(t, s)
			appendAndCheck(t, s, left)
		})
		t.Run(end+"/another store's", func(t *testing.T) {
			t.Parallel()
			d, m := filled(t, end)
			other := crashdisk.New()
			s := openStore(t, other, func(o *store.Options) { o.Clock = newClock().Now })
			appendMany(t, s, 100, 0, 1, 2, 3)
			require.NoError(t, s.Close())
			forged, err := other.ReadFile(root + "/stele/marks")
			require.NoError(t, err)
			require.NoError(t, d.WriteFile(root+"/stele/marks", forged))
			s = openStore(t, d)
			require.Contains(t, []store.RecoveryKind{store.ForeignClean, store.ForeignCrash}, s.Stats().Recovery.Kind)
			m.checkWrecked(t, s)
		})
	}
}

// cutLog makes the log end at off. The files behind it stay, as if they had
// been made ahead: a log that lacks files is refused.
func cutLog(t *testing.T, d *crashdisk.Disk, off int64) {
	t.Helper()
	dir := root + "/commitlog"
	all, err := d.List(dir)
	require.NoError(t, err)
	for _, e := range all {
		p := path.Join(dir, e.Name)
		base, _ := mappedfile.ParseFileName(e.Name)
		if base > off {
			require.NoError(t, d.WriteFile(p, make([]byte, fileSize)))
			continue
		}
		if off < base+fileSize {
			data, err := d.ReadFile(p)
			require.NoError(t, err)
			clear(data[off-base:])
			require.NoError(t, d.WriteFile(p, data))
		}
	}
}

// TestCrashInOpen ends the opening of a damaged or crashed store at each of its
// disk operations, by a kill and by power cuts, and opens what that leaves; and
// once more after a crash of that.
func TestCrashInOpen(t *testing.T) {
	t.Parallel()
	every := 3
	if testing.Short() {
		every = 17
	}
	cases := map[string]func(t *testing.T) (*crashdisk.Disk, *model){
		"killed":    func(t *testing.T) (*crashdisk.Disk, *model) { return filled(t, "killed") },
		"power cut": func(t *testing.T) (*crashdisk.Disk, *model) { return filled(t, "power cut") },
		"rebuild": func(t *testing.T) (*crashdisk.Disk, *model) {
			d, m := filled(t, "closed")
			removeTree(t, d, queueDir("orders", 1))
			return d, m
		},
		"broker's": func(t *testing.T) (*crashdisk.Disk, *model) {
			d, m := filled(t, "closed")
			broker(t, d)
			return d, m
		},
		"broker's, no queues": func(t *testing.T) (*crashdisk.Disk, *model) {
			d, m := filled(t, "killed")
			broker(t, d)
			removeTree(t, d, root+"/consumequeue")
			return d, m
		},
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, m := prepare(t)
			var counted atomic.Int32 // queues are recovered side by side
			count := d.KillClone()
			count.Observe(func(crashdisk.Op, string) { counted.Add(1) })
			s, err := store.Open(root, quiet(count))
			require.NoError(t, err)
			count.Observe(nil)
			ops := int(counted.Load())
			require.NoError(t, s.Close())
			require.Greater(t, ops, 10)
			rng := rand.New(rand.NewPCG(11, 11))
			for at := 1 + rng.IntN(every); at <= ops; at += 1 + rng.IntN(2*every-1) {
				first := crashAt(t, d, at, rng)
				if rng.IntN(2) == 0 {
					first = crashAt(t, first, 1+rng.IntN(ops), rng)
				}
				s := openStore(t, first)
				left := m.checkWrecked(t, s)
				if rng.IntN(4) == 0 {
					appendAndCheck(t, s, left)
				}
				require.NoError(t, s.Close())
			}
		})
	}
}

// crashAt opens a copy of d and returns what a crash before its at-th operation
// leaves.
func crashAt(t *testing.T, d *crashdisk.Disk, at int, rng *rand.Rand) *crashdisk.Disk {
	t.Helper()
	d = d.KillClone()
	take, seed := d.KillClone, rng.Uint64()
	if rng.IntN(3) > 0 {
		take = func() *crashdisk.Disk { return d.CrashClone(seed) }
	}
	tr := setTrap(d, at, &model{}, take)
	s, err := store.Open(root, quiet(d))
	require.NoError(t, err)
	d.Observe(nil)
	left := tr.clone
	if !tr.sprung() { // it has fewer operations
		left = d.KillClone()
	}
	require.NoError(t, s.Close())
	return left
}

// TestAbortOfAnotherLife: the store was killed when its marks named it and abort
// still named the one before, which a power cut had ended. The torn log of that
// one is no broker's: what lies behind the hole stays lost.
func TestAbortOfAnotherLife(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "1", "4242"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			s := openStore(t, d)
			r := appendMany(t, s, 30, 0)
			require.NoError(t, s.Flush(context.Background()))
			r = append(r, appendMany(t, s, 30, 0)...)
			torn := r[40]
			d = d.KillClone()
			p := root + "/commitlog/" + mappedfile.FileName(0)
			data, err := d.ReadFile(p)
			require.NoError(t, err)
			clear(data[torn.Offset:][:torn.Size])
			require.NoError(t, d.WriteFile(p, data))
			setPIDs(t, d, 17, 4242)
			require.NoError(t, d.WriteFile(root+"/abort", []byte(text)))
			d = d.DurableClone()

			s = openStore(t, d)
			require.Equal(t, torn.Offset, s.Stats().Appended)
			if text == "1" { // of 17: half written
				require.Equal(t, store.PowerCut, s.Stats().Recovery.Kind)
			}
			require.Len(t, fetchAll(t, s, "orders", 0), 40)
		})
	}
}

// setPIDs changes the processes that the newer slot of the marks names. Its
// checksum is that of docs/format/stele.md.
func setPIDs(t *testing.T, d *crashdisk.Disk, pid, before uint64) {
	t.Helper()
	data, err := d.ReadFile(root + "/stele/marks")
	require.NoError(t, err)
	for _, at := range []int{512, 1024} {
		slot := data[at : at+512]
		binary.BigEndian.PutUint64(slot[53:], pid)
		binary.BigEndian.PutUint64(slot[61:], before)
		sealSlot(slot)
	}
	require.NoError(t, d.WriteFile(root+"/stele/marks", data))
}
