// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// cuts is how many power cuts of each side and layout are tried.
var cuts = flag.Uint64("interop.cuts", 8, "power cuts of each side and layout")

// TestStelePowerCut lets RocketMQ recover what a power cut left of a store of
// Stele's. All that was flushed is there, and what comes behind it is the next
// messages, or nothing.
func TestStelePowerCut(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for seed := range *cuts {
		for _, l := range []layout{tiny, sealed} {
			t.Run(fmt.Sprintf("%s/%d", l.name, seed), func(t *testing.T) {
				t.Parallel()
				l.slots, l.entries = 500, 4000 // see TestSteleKilled
				dir := filepath.Join(t.TempDir(), "store")
				m := newMaker(t, 100+seed, l)
				specs := m.make(150)
				flushed := cutPower(t, dir, l, specs, seed)

				r := j.rocket(t, dir, l)
				v := r.viewFrom([]int64{}, true)
				require.GreaterOrEqual(t, v.Max, int64(flushed), "RocketMQ gave up what was flushed")
				more := m.make(30)
				r.put(more)
				r.close()

				s := open(t, dir, l)
				for _, d := range s.Stats().Recovery.Damage {
					// RocketMQ looks at bodies and lengths, and so may take the torn end of a
					// record for whole.
					require.GreaterOrEqual(t, d.Offset, flushed)
				}
				got := s.view()
				n := len(got.Log) - count(t, more)
				require.GreaterOrEqual(t, n, 0)
				requireAsked(t, more, got.Log[n:])
				requireKnown(t, expand(t, specs), got.Log[:n], int64(flushed))
				requireQueued(t, got)
				s.close()
				if len(s.Stats().Recovery.Damage) == 0 {
					// RocketMQ goes on with an index as the power cut left it. A slot that
					// came to the disk before the count that it is of counts again once
					// the count has come so far, and has others' entries in its chain.
					verifyBut(t, dir, func(f *inspect.Finding) bool { return strings.HasPrefix(string(f.Kind), "index-") })
				}
			})
		}
	}
}

// cutPower appends to a store on a disk that loses power, and writes what is left
// into dir: some messages before the end, as the seed says, with checkpoints on
// the way. It returns up to where the log was flushed.
func cutPower(t *testing.T, dir string, l layout, specs []spec, seed uint64) message.Offset {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	disk := crashdisk.New()
	c := &clock{}
	o := l.stele(c)
	o.Disk, o.MetaFS = disk, vfs.NewMem()
	o.CheckpointInterval = time.Duration(1+rng.IntN(20)) * time.Millisecond
	s, err := store.Open("/store", o)
	require.NoError(t, err)
	on := &local{Store: s, t: t, clock: c}
	at := rng.IntN(len(specs))
	on.put(specs[:at])
	flushed := s.Stats().Flushed
	for _, sp := range specs[at:] {
		on.appendOne(sp)
	}
	left := disk.CrashClone(seed)
	require.NoError(t, s.Close())
	export(t, left, "/store", dir)
	return flushed
}

// export writes a directory of a disk in memory to the real one.
func export(t *testing.T, disk *crashdisk.Disk, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o755))
	list, err := disk.List(from)
	require.NoError(t, err)
	for _, e := range list {
		name := path.Join(from, e.Name)
		if e.Dir {
			export(t, disk, name, filepath.Join(to, e.Name))
			continue
		}
		content, err := disk.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, e.Name), content, 0o600))
	}
}

// TestRocketPowerCut has Stele open copies of a directory that RocketMQ has open,
// from which pages are missing that RocketMQ need not have flushed.
func TestRocketPowerCut(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for seed := range *cuts {
		for _, l := range []layout{tiny, sealed} {
			t.Run(fmt.Sprintf("%s/%d", l.name, seed), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 10))
				dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
				m := newMaker(t, 200+seed, l)
				m.pace = 500 // all of it within what RocketMQ may not have flushed
				specs := m.make(150)
				r := j.rocket(t, dir, l)
				r.put(specs)
				require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
				r.close()
				losePages(t, rng, filepath.Join(copied, "consumequeue"), 0)
				losePages(t, rng, filepath.Join(copied, "index"), 0)
				cut := int64(0)
				if !l.sync {
					cut = r.max / 2
					losePages(t, rng, filepath.Join(copied, "commitlog"), cut)
				}

				s := open(t, copied, l)
				require.Equal(t, store.ForeignCrash, s.Stats().Recovery.Kind)
				got := s.view()
				if l.sync {
					require.Equal(t, r.max, got.Max)
					require.Empty(t, s.Stats().Recovery.Damage)
					requireAsked(t, specs, got.Log)
				} else {
					requireKnown(t, expand(t, specs), got.Log, cut)
				}
				requireQueued(t, got)
				s.put(m.make(30))
				if len(s.Stats().Recovery.Damage) > 0 {
					s.close() // RocketMQ cuts a log where it has a hole.
					return
				}
				sameInBoth(t, j, s, l)
			})
		}
	}
}

// losePages zeroes pages of the files below dir, each by chance; of files that
// are named by an offset only what lies behind from.
func losePages(t *testing.T, rng *rand.Rand, dir string, from int64) {
	t.Helper()
	const page = 4096
	chance := []float64{0.1, 0.5, 1}[rng.IntN(3)]
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		base := int64(0)
		if from > 0 {
			_, err = fmt.Sscanf(d.Name(), "%d", &base)
			require.NoError(t, err)
		}
		for at := 0; at < len(content); at += page {
			if base+int64(at) >= from && rng.Float64() < chance {
				clear(content[at:min(at+page, len(content))])
			}
		}
		return os.WriteFile(name, content, 0o600)
	})
	require.NoError(t, err)
}

// requireKnown: what is left is messages that were asked for, in their order,
// and all of those that end below cut.
func requireKnown(t *testing.T, asked []spec, got []row, cut int64) {
	t.Helper()
	at, end := 0, int64(0)
	for _, r := range got {
		from := at
		for at < len(asked) && !isSpec(asked[at], r) {
			at++
		}
		require.Less(t, at, len(asked), "nobody asked for %+v", r)
		if r.PhysicalOffset < cut {
			require.Equal(t, from, at, "a message below %d is missing", cut)
		}
		at++
		end = r.PhysicalOffset + int64(r.Size)
	}
	require.GreaterOrEqual(t, end+8192, cut, "the log ends at %d", end)
}

// isSpec tells by what no two messages share.
func isSpec(s spec, r row) bool {
	p := message.PropertiesFromEncoded(s.Properties)
	key, _ := p.Get(message.PropertyUniqKey)
	return key == r.Properties[message.PropertyUniqKey]
}

// requireQueued: each message of the log that belongs in a queue is at its place
// there, and the queues hold nothing else.
func requireQueued(t *testing.T, v *view) {
	t.Helper()
	want := map[queueName][]row{}
	for _, r := range v.Log {
		switch message.SysFlag(r.SysFlag) & message.TransactionMask {
		case message.TransactionPrepared, message.TransactionRollback:
		default:
			name := queueName{r.Topic, r.QueueID}
			want[name] = append(want[name], r)
		}
	}
	for name, q := range v.Queues {
		requireRows(t, want[name], q.Rows)
		for i, e := range q.Entries {
			require.Equal(t, want[name][i].QueueOffset, e.At)
		}
		delete(want, name)
	}
	require.Empty(t, want)
}
