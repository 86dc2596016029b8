// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

// operations does each operation once on a disk that has d/f mapped as r.
var operations = map[crashdisk.Op]func(d *crashdisk.Disk, r mappedfile.Region) error{
	crashdisk.OpCreate: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.Create("d/created", page, mappedfile.Mapping{})
		return err
	},
	crashdisk.OpOpen: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.Open("d/f", mappedfile.Mapping{})
		return err
	},
	crashdisk.OpFlush:   func(_ *crashdisk.Disk, r mappedfile.Region) error { return r.Flush(0, page) },
	crashdisk.OpReserve: func(_ *crashdisk.Disk, r mappedfile.Region) error { return r.Reserve(0, page) },
	crashdisk.OpZero:    func(_ *crashdisk.Disk, r mappedfile.Region) error { return r.Zero(0, page) },
	crashdisk.OpRemove:  func(d *crashdisk.Disk, _ mappedfile.Region) error { return d.Remove("d/f") },
	crashdisk.OpWriteFile: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		return d.WriteFile("d/small", []byte("abcd"))
	},
	crashdisk.OpReadFile: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.ReadFile("d/f")
		return err
	},
	crashdisk.OpSyncDir:  func(d *crashdisk.Disk, _ mappedfile.Region) error { return d.SyncDir("d") },
	crashdisk.OpMkdirAll: func(d *crashdisk.Disk, _ mappedfile.Region) error { return d.MkdirAll("d/e") },
	crashdisk.OpList: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.List("d")
		return err
	},
	crashdisk.OpLock: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.Lock("d/lock")
		return err
	},
	crashdisk.OpSetLength: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.Create("d/created", page, mappedfile.Mapping{})
		return err
	},
	crashdisk.OpWrite:     func(_ *crashdisk.Disk, r mappedfile.Region) error { return r.Write([]byte("abcd"), 0) },
	crashdisk.OpWriteRest: func(_ *crashdisk.Disk, r mappedfile.Region) error { return r.Write([]byte("abcd"), 0) },
	crashdisk.OpMemory: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		_, err := d.Memory(page)
		return err
	},
	crashdisk.OpLockMemory: func(d *crashdisk.Disk, _ mappedfile.Region) error {
		m, err := d.Memory(page)
		if err != nil {
			return err
		}
		return m.Lock(0, page)
	},
}

func TestEachOperationCanFail(t *testing.T) {
	t.Parallel()
	for op := crashdisk.OpCreate; op <= crashdisk.OpLockMemory; op++ {
		t.Run(op.String(), func(t *testing.T) {
			t.Parallel()
			do := operations[op]
			require.NotNil(t, do)
			d := crashdisk.New()
			r := create(t, d, "d/f", page)
			r.Bytes()[0] = 1
			d.Inject(crashdisk.Fault{Op: op})
			require.ErrorIs(t, do(d, r), syscall.EIO)
			require.NoError(t, do(d, r), "once only")

			d = crashdisk.New()
			r = create(t, d, "d/f", page)
			d.Inject(crashdisk.Fault{Op: op, Err: syscall.ENOSPC, Stays: true})
			for range 2 {
				err := do(d, r)
				require.ErrorIs(t, err, mappedfile.ErrDiskFull)
				require.ErrorIs(t, err, syscall.ENOSPC)
			}
			d.ClearFaults()
			require.NoError(t, do(d, r))
		})
	}
}

func TestFaultsCountByKind(t *testing.T) {
	t.Parallel()
	custom := errors.New("custom")
	d := crashdisk.New()
	for _, dir := range []string{"/s/commitlog", "/s/consumequeue/T/0"} {
		require.NoError(t, d.MkdirAll(dir))
	}
	d.Inject(crashdisk.Fault{Op: crashdisk.OpCreate, Kind: crashdisk.ConsumeQueue, After: 1, Err: custom})
	add := func(path string) error {
		_, err := d.Create(path, page, mappedfile.Mapping{})
		return err
	}
	require.NoError(t, add("/s/consumequeue/T/0/0"))
	require.NoError(t, add("/s/commitlog/0"))
	require.ErrorIs(t, add("/s/consumequeue/T/0/1"), custom)
	require.NoError(t, add("/s/consumequeue/T/0/1"))
	require.Equal(t, 3, d.Total(crashdisk.OpCreate, crashdisk.ConsumeQueue))
	require.Equal(t, 4, d.Total(crashdisk.OpCreate, crashdisk.AnyKind))
	require.Equal(t, 2, d.Count(crashdisk.OpCreate, "s/consumequeue/T/0/1"))
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]crashdisk.Kind{
		"/s/commitlog":                   crashdisk.CommitLog,
		"s/commitlog/000":                crashdisk.CommitLog,
		"/s/consumequeue/commit/0/00":    crashdisk.ConsumeQueue,
		"/s/checkpoint":                  crashdisk.Checkpoint,
		"/s/index/20260101":              crashdisk.Index,
		"/s/stele/marks":                 crashdisk.Other,
		"/s/abort":                       crashdisk.Other,
		"/s/my-commitlog/consumequeue-x": crashdisk.Other,
	} {
		require.Equal(t, want, crashdisk.KindOf(path), path)
	}
}

func TestFailedFlushDropsThePages(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 3*page)
	fill(r.Bytes(), 1)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
	require.ErrorIs(t, r.Flush(0, 2*page), syscall.EIO)
	r.Bytes()[page] = 2 // page 1 is written again, page 0 is not, page 2 was not in the range
	for range 2 {
		require.NoError(t, r.Flush(0, 3*page), "the trap: a later flush succeeds")
		require.EqualValues(t, 1, r.Bytes()[0], "and the bytes are there to read")
		got, _, err := d.Durable("d/f")
		require.NoError(t, err)
		require.True(t, only(got[:page], 0), "but they are not durable")
		require.True(t, bytes.Equal(got[page:], r.Bytes()[page:]))
	}
	killed := d.KillClone()
	require.NoError(t, open(t, killed, "d/f").Flush(0, page))
	require.True(t, only(read(t, killed.DurableClone(), "d/f")[:page], 0), "nor after a restart of the process")
	fill(r.Bytes()[:page], 3)
	require.NoError(t, r.Flush(0, page))
	require.True(t, only(read(t, d.DurableClone(), "d/f")[:page], 3), "a page that is written again is sound")
}

func TestFailedWriteFile(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	require.NoError(t, d.WriteFile("checkpoint", []byte("old")))
	d.Inject(crashdisk.Fault{Op: crashdisk.OpWriteFile, Kind: crashdisk.Checkpoint})
	require.ErrorIs(t, d.WriteFile("checkpoint", []byte("newer!")), syscall.EIO)
	require.Equal(t, "new", string(read(t, d, "checkpoint")))
	left := map[string]int{}
	for seed := range uint64(seeds) {
		left[string(read(t, d.CrashClone(seed), "checkpoint"))]++
	}
	require.Len(t, left, 3)
	for _, want := range []string{"old", "", "new"} {
		require.NotZero(t, left[want], "%q", want)
	}
	require.Equal(t, "old", string(read(t, d.DurableClone(), "checkpoint")))
	require.NoError(t, d.WriteFile("checkpoint", []byte("newer!")))
	for seed := range uint64(20) {
		require.Equal(t, "newer!", string(read(t, d.CrashClone(seed), "checkpoint")))
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	d.SetCapacity(4 * page)
	a := create(t, d, "d/a", 3*page)
	b := create(t, d, "d/b", 3*page)
	require.NoError(t, a.Reserve(10, page)) // two pages
	require.NoError(t, a.Reserve(0, 2*page))
	require.EqualValues(t, 2*page, d.Used())
	err := b.Reserve(0, 3*page)
	require.ErrorIs(t, err, mappedfile.ErrDiskFull)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.EqualValues(t, 2*page, d.Used(), "all or nothing")
	require.NoError(t, b.Reserve(0, 2*page))
	require.NoError(t, b.Zero(0, 3*page))
	require.EqualValues(t, 4*page, d.Used(), "zeroing takes no blocks and frees none")
	require.ErrorIs(t, d.WriteFile("d/small", []byte("x")), mappedfile.ErrDiskFull)

	clone := d.CrashClone(0)
	require.EqualValues(t, 4*page, clone.Used())
	require.ErrorIs(t, open(t, clone, "d/b").Reserve(2*page, page), mappedfile.ErrDiskFull)

	require.NoError(t, d.Remove("d/a"))
	require.EqualValues(t, 4*page, d.Used(), "a mapped file keeps its blocks")
	require.NoError(t, a.Close())
	require.EqualValues(t, 2*page, d.Used())
	require.NoError(t, b.Reserve(0, 3*page))
	require.NoError(t, d.WriteFile("d/small", []byte("x")))
	require.NoError(t, d.WriteFile("d/small", []byte("yy")), "in its own block")
}

func TestUnreserved(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 3*page)
	require.NoError(t, r.Reserve(0, page))
	r.Bytes()[0], r.Bytes()[page] = 1, 1
	require.Equal(t, []string{"d/f: page 1"}, d.Unreserved())
	require.NoError(t, r.Reserve(0, 2*page))
	require.Empty(t, d.Unreserved())
	require.NoError(t, d.WriteFile("d/small", []byte("x")))
	_, err := d.Lock("d/lock")
	require.NoError(t, err)
	require.Empty(t, d.Unreserved())
}

func TestNextData(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 4*page+10)
	next, ok := r.(interface{ NextData(int64) int64 })
	require.True(t, ok)
	require.EqualValues(t, 4*page+10, next.NextData(0))
	r.Bytes()[page+5] = 1
	require.EqualValues(t, page, next.NextData(0))
	require.EqualValues(t, page+9, next.NextData(page+9), "the page is the unit")
	require.EqualValues(t, 4*page+10, next.NextData(2*page))
	r.Bytes()[4*page+9] = 1
	require.EqualValues(t, 4*page, next.NextData(2*page))
	require.GreaterOrEqual(t, next.NextData(100*page), int64(4*page+10))
}

func TestFlipBit(t *testing.T) {
	t.Parallel()
	for _, mapped := range []bool{true, false} {
		d := crashdisk.New()
		r := create(t, d, "d/f", 2*page)
		fill(r.Bytes(), 1)
		require.NoError(t, r.Flush(0, 2*page))
		before := d.DurableClone()
		if !mapped {
			require.NoError(t, r.Close())
		}
		require.NoError(t, d.FlipBit("d/f", page+7, 3))
		want := bytes.Repeat([]byte{1}, 2*page)
		want[page+7] = 1 | 1<<3
		require.True(t, bytes.Equal(want, read(t, d, "d/f")))
		require.True(t, bytes.Equal(want, read(t, d.DurableClone(), "d/f")))
		require.True(t, only(read(t, before, "d/f"), 1), "an earlier clone is untouched")
		require.ErrorIs(t, d.FlipBit("d/f", 2*page, 0), syscall.EINVAL)
		require.ErrorIs(t, d.FlipBit("d/f", 0, 8), syscall.EINVAL)
		require.ErrorIs(t, d.FlipBit("d/g", 0, 0), fs.ErrNotExist)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	l, err := d.Lock("/lock")
	require.NoError(t, err)
	require.Equal(t, "lock", string(read(t, d, "lock")))
	_, err = d.Lock("lock")
	var locked *mappedfile.LockedError
	require.ErrorAs(t, err, &locked)
	require.ErrorIs(t, err, mappedfile.ErrLocked)
	require.NotZero(t, locked.PID)
	require.NoError(t, l.Close())
	again, err := d.Lock("lock")
	require.NoError(t, err)
	require.NoError(t, l.Close(), "a second Close must not release what another holds")
	_, err = d.Lock("lock")
	require.ErrorIs(t, err, mappedfile.ErrLocked)
	require.NoError(t, again.Close())
}

func TestObserveMayClone(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	var durable []bool
	var calls atomic.Int32
	d.Observe(func(op crashdisk.Op, path string) {
		calls.Add(1)
		if op == crashdisk.OpFlush {
			b, err := d.DurableClone().ReadFile(path)
			durable = append(durable, err == nil && b[0] == 1)
		}
	})
	r := create(t, d, "d/f", page)
	r.Bytes()[0] = 1
	require.NoError(t, r.Flush(0, 1))
	require.NoError(t, r.Flush(0, 1))
	require.Equal(t, []bool{false, true}, durable, "it is called before the operation")
	d.Observe(nil)
	n := calls.Load()
	require.NoError(t, r.Flush(0, 1))
	require.Equal(t, n, calls.Load())
	require.Equal(t, 3, d.Flushes("/d/f"))
	require.Equal(t, 1, d.DirSyncs("d"))
}

func TestMisuseIsAnError(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", 2*page)
	ro, err := d.Open("d/f", mappedfile.Mapping{ReadOnly: true})
	require.NoError(t, err)
	closed := open(t, d, "d/f")
	require.NoError(t, closed.Close())
	require.NoError(t, d.WriteFile("d/empty", nil))
	fail := func(_ any, err error) error { return err }
	for name, tc := range map[string]struct {
		err  error
		want error
	}{
		"create twice":          {fail(d.Create("d/f", page, mappedfile.Mapping{})), fs.ErrExist},
		"create without parent": {fail(d.Create("x/f", page, mappedfile.Mapping{})), fs.ErrNotExist},
		"create of no bytes":    {fail(d.Create("d/g", 0, mappedfile.Mapping{})), syscall.EINVAL},
		"create the root":       {fail(d.Create("/", page, mappedfile.Mapping{})), syscall.EBUSY},
		"open a missing file":   {fail(d.Open("d/g", mappedfile.Mapping{})), fs.ErrNotExist},
		"open an empty file":    {fail(d.Open("d/empty", mappedfile.Mapping{})), mappedfile.ErrFileSize},
		"open a directory":      {fail(d.Open("d", mappedfile.Mapping{})), syscall.EISDIR},
		"list a missing dir":    {fail(d.List("x")), fs.ErrNotExist},
		"list a file":           {fail(d.List("d/f")), syscall.ENOTDIR},
		"make a dir in a file":  {d.MkdirAll("d/f/x"), syscall.ENOTDIR},
		"remove a missing file": {d.Remove("d/g"), fs.ErrNotExist},
		"remove a full dir":     {d.Remove("d"), syscall.ENOTEMPTY},
		"sync a file":           {d.SyncDir("d/f"), syscall.ENOTDIR},
		"replace a mapped file": {d.WriteFile("d/f", nil), syscall.EBUSY},
		"reserve read-only":     {ro.Reserve(0, 1), syscall.EBADF},
		"zero read-only":        {ro.Zero(0, 1), syscall.EBADF},
		"flush beyond the end":  {r.Flush(page, page+1), syscall.EINVAL},
		"flush before 0":        {r.Flush(-1, 1), syscall.EINVAL},
		"flush after close":     {closed.Flush(0, 1), fs.ErrClosed},
		"close twice":           {closed.Close(), fs.ErrClosed},
	} {
		require.ErrorIs(t, tc.err, tc.want, name)
	}
	require.Nil(t, closed.Bytes())
}

func TestListAndRemoveDirectories(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	require.NoError(t, d.MkdirAll("/a/b/c"))
	require.NoError(t, d.WriteFile("/a/f", []byte("xyz")))
	when := time.Unix(1e9, 0)
	require.NoError(t, d.SetModTime("a/f", when))
	require.ErrorIs(t, d.SetModTime("a/g", when), fs.ErrNotExist)
	got, err := d.DurableClone().List("a")
	require.NoError(t, err)
	require.Equal(t, []mappedfile.Entry{{Name: "b", Dir: true}, {Name: "f", Size: 3, ModTime: when}}, got)
	require.NoError(t, d.Remove("a/b/c"))
	_, err = d.DurableClone().List("a/b/c")
	require.NoError(t, err, "its removal was not synced")
	require.NoError(t, d.SyncDir("a/b"))
	_, err = d.DurableClone().List("a/b/c")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFailedCountsWhatFaultsStruck(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	r := create(t, d, "d/f", page)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 1, Stays: true})
	require.NoError(t, r.Flush(0, page))
	require.Zero(t, d.Failed(crashdisk.OpFlush))
	require.Error(t, r.Flush(0, page))
	require.Error(t, r.Flush(0, page))
	require.Equal(t, 2, d.Failed(crashdisk.OpFlush))
	require.Zero(t, d.Failed(crashdisk.OpReserve))
}

// TestCrashInCreate: a file that is being made is there or not, with any length
// up to its own.
func TestCrashInCreate(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	require.NoError(t, d.MkdirAll("d"))
	sizes := map[int64]int{}
	d.Observe(func(op crashdisk.Op, _ string) {
		if op != crashdisk.OpSetLength {
			return
		}
		killed, err := d.KillClone().List("d")
		require.NoError(t, err)
		require.Len(t, killed, 1)
		require.Zero(t, killed[0].Size)
		for seed := range uint64(seeds) {
			left, err := d.CrashClone(seed).List("d")
			require.NoError(t, err)
			size := int64(-1)
			if len(left) > 0 {
				size = left[0].Size
			}
			sizes[size]++
		}
	})
	r, err := d.Create("d/f", 3*page, mappedfile.Mapping{})
	require.NoError(t, err)
	require.Len(t, r.Bytes(), 3*page)
	for _, size := range []int64{-1, 0, page, 2 * page, 3 * page} {
		require.NotZero(t, sizes[size], size)
	}
	require.Greater(t, len(sizes), 10, "and lengths in between")
	for size := range sizes {
		require.LessOrEqual(t, size, int64(3*page))
	}

	d.Observe(nil)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpSetLength})
	_, err = d.Create("d/g", page, mappedfile.Mapping{})
	require.ErrorIs(t, err, syscall.EIO)
	entries, err := d.List("d")
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// TestCrashInWriteFile: what is there is the old content, or a first part of the
// new one, or zeros of some length.
func TestCrashInWriteFile(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	require.NoError(t, d.MkdirAll("d"))
	require.NoError(t, d.WriteFile("d/f", []byte("old")))
	const text = "12345678"
	left := map[string]int{}
	d.Observe(func(op crashdisk.Op, _ string) {
		if op != crashdisk.OpSetContent {
			return
		}
		killed := d.KillClone()
		require.Equal(t, text[:4], string(read(t, killed, "d/f")))
		for seed := range uint64(seeds) { // nobody has synced that
			require.Contains(t, []string{"old", text[:4]}, string(read(t, killed.CrashClone(seed), "d/f")))
		}
		require.Equal(t, "old", string(read(t, d.DurableClone(), "d/f")))
		for seed := range uint64(seeds) {
			left[string(read(t, d.CrashClone(seed), "d/f"))]++
		}
	})
	require.NoError(t, d.WriteFile("d/f", []byte(text)))
	require.Equal(t, text, string(read(t, d.DurableClone(), "d/f")))
	for _, want := range []string{"old", "", "1", text[:5], text, "\x00\x00\x00"} {
		require.NotZero(t, left[want], "%q", want)
	}
	for got := range left {
		zeros := strings.Trim(got, "\x00") == ""
		require.True(t, got == "old" || strings.HasPrefix(text, got) || zeros && len(got) <= len(text), "%q", got)
	}

	d.Observe(nil)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpSetContent})
	require.ErrorIs(t, d.WriteFile("d/f", []byte("never")), syscall.EIO)
	require.Equal(t, "ne", string(read(t, d, "d/f")))
	require.NoError(t, d.WriteFile("d/f", []byte("again")))
	require.Equal(t, "again", string(read(t, d.CrashClone(1), "d/f")))
}
