// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/rebuild"
	"github.com/stelelog/stele/store"
)

// TestSamples: of what RocketMQ wrote, queues and index come out as its own, byte
// for byte; the source is as it was; and the new directory can be worked with.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		records int64
		log     rebuild.LogMode
		linked  int
		copied  int
	}{
		{closed, 800, rebuild.LogAuto, 1, 1},
		{closed, 800, rebuild.LogLink, 1, 1},
		{closed, 800, rebuild.LogCopy, 0, 2},
		{killed, 400, rebuild.LogAuto, 0, 2}, // the second file is a spare one
	} {
		t.Run(fmt.Sprint(c.name, " ", c.log), func(t *testing.T) {
			t.Parallel()
			dir := sample(t, c.name)
			before := stamps(t, dir)
			to := filepath.Join(filepath.Dir(dir), "new")
			res, notices := run(t, dir, rebuild.Options{To: to, Log: c.log})
			require.Empty(t, notices)
			require.Equal(t, c.records, res.Records)
			require.Len(t, res.Queues, 12)
			require.Equal(t, c.linked, res.Linked)
			require.Equal(t, c.copied, res.Copied+res.Cloned) // a clone where the file system has that
			require.Equal(t, before, stamps(t, dir), "the source is only read")

			sameTree(t, filepath.Join(dir, "consumequeue"), filepath.Join(to, "consumequeue"))
			sameTree(t, filepath.Join(dir, "commitlog"), filepath.Join(to, "commitlog"))
			sameIndex(t, filepath.Join(dir, "index"), filepath.Join(to, "index"))
			requireTimes(t, filepath.Join(dir, "commitlog"), filepath.Join(to, "commitlog"))
			require.NoFileExists(t, filepath.Join(to, "abort"))
			require.NoDirExists(t, to+".partial")
			findings, sum := verify(t, to)
			require.Empty(t, findings)
			require.Equal(t, c.records, sum.Entries)

			log := tree(t, filepath.Join(dir, "commitlog"))
			rec := openStore(t, to, "topic-1", 1, queueMax(res, "topic-1", 1))
			require.Equal(t, store.ForeignClean, rec.Kind)
			require.False(t, rec.Rebuilt)
			require.Empty(t, rec.Damage)
			require.Equal(t, log, tree(t, filepath.Join(dir, "commitlog")), "appends to the new directory do not reach the old one")
		})
	}
}

func queueMax(res rebuild.Result, topic string, id int32) message.QueueOffset {
	for _, q := range res.Queues {
		if q.Topic == topic && q.QueueID == id {
			return q.Max
		}
	}
	return -1
}

// requireTimes: RocketMQ expires log files by their modification time.
func requireTimes(t *testing.T, a, b string) {
	t.Helper()
	files, err := os.ReadDir(a)
	require.NoError(t, err)
	for _, f := range files {
		x, err := os.Stat(filepath.Join(a, f.Name()))
		require.NoError(t, err)
		y, err := os.Stat(filepath.Join(b, f.Name()))
		require.NoError(t, err)
		require.True(t, x.ModTime().Equal(y.ModTime()))
		require.LessOrEqual(t, y.Sys().(*syscall.Stat_t).Blocks, x.Sys().(*syscall.Stat_t).Blocks+64, "holes stay holes")
	}
}

// TestDryRun lists the same queues, and makes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	before := stamps(t, filepath.Dir(dir))
	to := filepath.Join(filepath.Dir(dir), "new")
	dry, _ := run(t, dir, rebuild.Options{To: to, DryRun: true})
	inPlace, _ := run(t, dir, rebuild.Options{DryRun: true})
	require.Equal(t, before, stamps(t, filepath.Dir(dir)))
	require.Equal(t, dry, inPlace)
	res, _ := run(t, dir, rebuild.Options{To: to})
	require.Equal(t, res.Queues, dry.Queues)
}

// damages are ways to harm a store whose log is whole.
var damages = map[string]func(t *testing.T, dir string){
	"nothing": func(*testing.T, string) {},
	"a queue file is gone": func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, queueFile)))
	},
	"a queue is gone": func(t *testing.T, dir string) {
		require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Join(dir, queueFile))))
	},
	"all queues are gone": func(t *testing.T, dir string) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
	},
	"two entries swapped": func(t *testing.T, dir string) {
		b, err := os.ReadFile(filepath.Join(dir, queueFile))
		require.NoError(t, err)
		patch(t, filepath.Join(dir, queueFile), 20, append(append([]byte{}, b[40:60]...), b[20:40]...))
	},
	"a bit of an entry": func(t *testing.T, dir string) { patch(t, filepath.Join(dir, queueFile), 47, []byte{0xAA}) },
	"an entry behind the end": func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, queueFile), 200*20, []byte{0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	},
	"the index is gone": func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "index"))) },
	"an index slot": func(t *testing.T, dir string) {
		files, err := filepath.Glob(filepath.Join(dir, "index", "*"))
		require.NoError(t, err)
		patch(t, files[0], 40+4*17, []byte{0, 0, 1, 1})
	},
	"the checkpoint is gone": func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "checkpoint"))) },
}

// harmless are those of them that are no damage by themselves.
var harmless = map[string]bool{"nothing": true, "the index is gone": true, "the checkpoint is gone": true}

const queueFile = "consumequeue/topic-1/1/00000000000000000000"

// TestRestores: whatever happened to queues and index, both ways to rebuild bring
// them back.
func TestRestores(t *testing.T) {
	t.Parallel()
	sound := sample(t, closed)
	files, err := filepath.Glob(filepath.Join(sound, "index", "*"))
	require.NoError(t, err)
	sizes := inferred(t, files[0])
	for name, harm := range damages {
		for _, inPlace := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/in place %v", name, inPlace), func(t *testing.T) {
				t.Parallel()
				dir := sample(t, closed)
				harm(t, dir)
				if findings, _ := verify(t, dir); harmless[name] {
					require.Empty(t, findings)
				} else {
					require.NotEmpty(t, findings)
				}
				o := rebuild.Options{To: dir + ".new", QueueFileSize: queueFileSize(t, sound), Index: sizes}
				at := o.To
				if inPlace {
					at, o.To = dir, ""
				}
				res, _ := run(t, dir, o)
				require.Equal(t, int64(800), res.Records)
				require.Zero(t, res.Damage)
				sameTree(t, filepath.Join(sound, "consumequeue"), filepath.Join(at, "consumequeue"))
				sameIndex(t, filepath.Join(sound, "index"), filepath.Join(at, "index"))
				findings, _ := verify(t, at)
				require.Empty(t, findings)
				rec := openStore(t, at, "topic-1", 1, queueMax(res, "topic-1", 1))
				require.Empty(t, rec.Damage)
				require.False(t, rec.Rebuilt)
			})
		}
	}
}

func inferred(t *testing.T, path string) keyindex.Sizes {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	z, ok := keyindex.Infer(b)
	require.True(t, ok)
	return z
}

func queueFileSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, queueFile))
	require.NoError(t, err)
	return info.Size()
}

// TestRandomDamage overwrites random bytes of random queue files.
func TestRandomDamage(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	sound := sample(t, closed)
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		dir := sample(t, closed)
		files, err := filepath.Glob(filepath.Join(dir, "consumequeue", "*", "*", "*"))
		require.NoError(t, err)
		for range 1 + rng.IntN(20) {
			noise := make([]byte, 1+rng.IntN(60))
			for i := range noise {
				noise[i] = byte(rng.Uint32())
			}
			patch(t, files[rng.IntN(len(files))], int64(rng.IntN(90*20)), noise)
		}
		run(t, dir, rebuild.Options{})
		sameTree(t, filepath.Join(sound, "consumequeue"), filepath.Join(dir, "consumequeue"))
		findings, _ := verify(t, dir)
		require.Empty(t, findings)
	}
}

// TestDamagedLog: one bad record is reported and hides none of the others.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	patch(t, filepath.Join(dir, "commitlog", "00000000000000000000"), 900, []byte{0xFF, 0xFF, 0xFF}) // the record at 740
	sound := sample(t, closed)
	res, notices := run(t, dir, rebuild.Options{To: dir + ".new"})
	require.Equal(t, int64(799), res.Records)
	require.Equal(t, int64(1), res.Damage)
	require.Len(t, notices, 1)
	require.True(t, notices[0].Damage)
	var damage *inspect.DamageError
	require.ErrorAs(t, notices[0].Err, &damage)
	require.Equal(t, message.Offset(740), damage.Corrupt.Offset)
	want, got := tree(t, filepath.Join(sound, "consumequeue")), tree(t, filepath.Join(dir+".new", "consumequeue"))
	const file = "topic-1/1/00000000000000000000"
	blank := "\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"
	require.Equal(t, want[file][:20]+blank+want[file][40:], got[file], "a blank entry holds its place")
	delete(want, file)
	delete(got, file)
	require.Equal(t, want, got)
	rec := openStore(t, dir+".new", "topic-1", 1, queueMax(res, "topic-1", 1))
	require.Zero(t, rec.Lost)
}

// TestMissingLogFile: what lies behind a log file that is gone is in the queues.
func TestMissingLogFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	writeStore(t, dir, 400)
	old := tree(t, filepath.Join(dir, "consumequeue"))
	require.NoError(t, os.Remove(filepath.Join(dir, "commitlog", mappedfile.FileName(16<<10))))
	res, _ := run(t, dir, rebuild.Options{To: dir + ".new"})
	require.Positive(t, res.Damage)
	require.Less(t, res.Records, int64(400))
	require.Equal(t, message.QueueOffset(133), queueMax(res, "t", 2))
	for name, b := range tree(t, filepath.Join(dir+".new", "consumequeue")) {
		require.Len(t, b, len(old[name]))
	}
	findings, _ := verify(t, dir+".new")
	for _, f := range findings {
		require.Contains(t, []inspect.Kind{inspect.KindFile, inspect.KindRecord, inspect.KindHole}, f.Kind, "%+v", f)
	}
}

// writeStore makes a store of Stele's with log files of 16 KiB and n messages in
// three queues, after one in a queue of its own.
func writeStore(t *testing.T, dir string, n int) {
	t.Helper()
	s, err := store.Open(dir, store.Options{FileSize: 16 << 10, QueueFileSize: 400, Index: store.IndexOptions{Slots: 97, Entries: 200}})
	require.NoError(t, err)
	ctx := context.Background()
	_, err = s.Append(ctx, &message.Message{Topic: "once", QueueID: 0, Body: []byte("x")})
	require.NoError(t, err)
	for i := range n {
		m := &message.Message{Topic: "t", QueueID: int32(i % 3), Body: make([]byte, 100+i%50)}
		m.SetKeys("k" + fmt.Sprint(i))
		_, err := s.Append(ctx, m)
		require.NoError(t, err)
	}
	require.NoError(t, s.CommitOffset("g", "t", 1, 7))
	require.NoError(t, s.Close())
}

// TestStele: Stele's own parts come along, and its time index is the same.
func TestStele(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	writeStore(t, dir, 300)
	res, notices := run(t, dir, rebuild.Options{To: dir + ".new"})
	require.Empty(t, notices)
	require.Positive(t, res.Linked)
	for _, part := range []string{"consumequeue", "stele/timeindex", "stele/meta"} {
		sameTree(t, filepath.Join(dir, part), filepath.Join(dir+".new", part))
	}
	sameIndex(t, filepath.Join(dir, "index"), filepath.Join(dir+".new", "index"))
	s, err := store.Open(dir+".new", store.Options{MustExist: true})
	require.NoError(t, err)
	off, ok, err := s.Offset("g", "t", 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, message.QueueOffset(7), off)
	require.NoError(t, s.Close())

	// A time index that is damaged is found and made again.
	patch(t, filepath.Join(dir, "stele", "timeindex", mappedfile.FileName(0)), 512+3, []byte{0x77})
	findings, _ := verify(t, dir)
	require.Len(t, findings, 1)
	require.Equal(t, inspect.KindTimeIndex, findings[0].Kind)

	// In place, the marks of the old queues hold for the new ones.
	run(t, dir, rebuild.Options{})
	findings, _ = verify(t, dir)
	require.Empty(t, findings)
	s, err = store.Open(dir, store.Options{MustExist: true})
	require.NoError(t, err)
	rec := s.Stats().Recovery
	require.Equal(t, store.CleanClose, rec.Kind)
	require.False(t, rec.Rebuilt)
	require.Zero(t, rec.Records)
	require.NoError(t, s.Close())
}

// TestExpired: a queue whose messages have expired keeps its number.
func TestExpired(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	writeStore(t, dir, 400)
	require.NoError(t, os.Remove(filepath.Join(dir, "commitlog", mappedfile.FileName(0))))
	res, notices := run(t, dir, rebuild.Options{To: dir + ".new"})
	require.Zero(t, res.Damage)
	require.Len(t, notices, 1)
	require.ErrorContains(t, notices[0].Err, "queue once/0: all its messages have expired; it goes on at offset 1")
	require.Equal(t, message.QueueOffset(1), queueMax(res, "once", 0))
	findings, _ := verify(t, dir+".new")
	require.Empty(t, findings)
	openStore(t, dir+".new", "once", 0, 1)
}

// TestInPlaceKeepsOld: the old queues are kept beside, and a former attempt that
// was killed is cleared away.
func TestInPlaceKeepsOld(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	damages["two entries swapped"](t, dir)
	old := tree(t, filepath.Join(dir, "consumequeue"))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "rebuild.partial", "consumequeue", "topic-9"), 0o755))
	log := stamps(t, filepath.Join(dir, "commitlog"))
	res, _ := run(t, dir, rebuild.Options{})
	require.Equal(t, log, stamps(t, filepath.Join(dir, "commitlog")))
	require.Equal(t, old, tree(t, filepath.Join(res.Aside, "consumequeue")))
	require.NoDirExists(t, filepath.Join(dir, "rebuild.partial"))
}

// TestKilledBetweenRenames: where names can't be exchanged in one step, a kill may
// leave the old queues beside their place. They go back, and tell their sizes.
func TestKilledBetweenRenames(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	writeStore(t, dir, 50)
	sound := tree(t, filepath.Join(dir, "consumequeue"))
	for _, part := range []string{"consumequeue", "index", "stele/timeindex"} {
		old := filepath.Join(dir, "rebuild.partial", part+".old")
		require.NoError(t, os.MkdirAll(filepath.Dir(old), 0o755))
		require.NoError(t, os.Rename(filepath.Join(dir, part), old))
	}
	res, _ := run(t, dir, rebuild.Options{})
	require.Equal(t, sound, tree(t, filepath.Join(dir, "consumequeue")))
	require.Equal(t, sound, tree(t, filepath.Join(res.Aside, "consumequeue")))
	require.DirExists(t, filepath.Join(res.Aside, "index"))
	findings, _ := verify(t, dir)
	require.Empty(t, findings)
}

// TestInterrupted: nothing is left, and nothing is missing.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := sample(t, closed)
	copied := filepath.Dir(sample(t, closed))
	_, err := rebuild.Run(ctx, dir, rebuild.Options{To: dir + ".new"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = rebuild.Run(ctx, dir, rebuild.Options{})
	require.ErrorIs(t, err, context.Canceled)
	sameTree(t, copied, filepath.Dir(dir))
}

// TestLive: a store that is open is copied, and never linked or changed.
func TestLive(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	lock, err := mappedfile.OS().Lock(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	_, err = rebuild.Run(context.Background(), dir, rebuild.Options{To: dir + ".link", Log: rebuild.LogLink})
	require.ErrorIs(t, err, rebuild.ErrLive)
	require.NoDirExists(t, dir+".link")
	_, err = rebuild.Run(context.Background(), dir, rebuild.Options{})
	require.ErrorIs(t, err, mappedfile.ErrLocked)
	res, _ := run(t, dir, rebuild.Options{To: dir + ".new"})
	require.Zero(t, res.Linked)
	sameTree(t, filepath.Join(dir, "consumequeue"), filepath.Join(dir+".new", "consumequeue"))
	require.NoFileExists(t, filepath.Join(dir+".new", "lock"))
}

// TestLiveStele: what a live Stele keeps in its database can't be copied.
func TestLiveStele(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, store.Options{FileSize: 16 << 10})
	require.NoError(t, err)
	_, err = s.Append(context.Background(), &message.Message{Topic: "t", Body: []byte("x")})
	require.NoError(t, err)
	_, err = rebuild.Run(context.Background(), dir, rebuild.Options{To: dir + ".new"})
	require.ErrorIs(t, err, rebuild.ErrLive)
	require.NoError(t, s.Close())
}

// TestRefused: what is no place for a new directory, and no store.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	full, empty := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	begun := filepath.Join(t.TempDir(), "begun")
	require.NoError(t, os.Mkdir(begun+".partial", 0o755))
	before := tree(t, dir)
	for to, want := range map[string]error{
		full:                      rebuild.ErrTarget,
		filepath.Join(dir, "new"): rebuild.ErrTarget,
		filepath.Dir(dir):         rebuild.ErrTarget,
		begun:                     rebuild.ErrPartial,
		filepath.Join(dir, "commitlog/00000000000000000000/x"): syscall.ENOTDIR,
	} {
		_, err := rebuild.Run(context.Background(), dir, rebuild.Options{To: to})
		require.ErrorIs(t, err, want, to)
	}
	require.Equal(t, before, tree(t, dir))
	run(t, dir, rebuild.Options{To: empty})

	_, err := rebuild.Run(context.Background(), filepath.Join(dir, "none"), rebuild.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "commitlog")))
	_, err = rebuild.Run(context.Background(), dir, rebuild.Options{})
	require.ErrorIs(t, err, mappedfile.ErrMissingFile)
	require.DirExists(t, filepath.Join(dir, "consumequeue"), "queues without a log are all that is left")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "batchconsumequeue"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "batchconsumequeue", "t"), 0o755))
	_, err = rebuild.Run(context.Background(), dir, rebuild.Options{})
	require.ErrorIs(t, err, inspect.ErrUnsupportedLayout)
}
