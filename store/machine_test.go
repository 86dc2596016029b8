// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stelelog/stele/internal/crashdisk"
)

// machine is what a store runs on: a disk and a file system for its metadata
// that lose power together.
type machine struct {
	disk *crashdisk.Disk
	mem  *vfs.MemFS

	watcher atomic.Pointer[func(alone bool)]
	opening atomic.Bool // a store is being opened

	mu    sync.Mutex
	after int // operations of the metadata that succeed before one fails; < 0: none fails
	stays bool
	err   error
}

func newMachine(disk *crashdisk.Disk, mem *vfs.MemFS) *machine {
	m := &machine{disk: disk, mem: mem, after: -1}
	disk.Observe(func(op crashdisk.Op, path string) { m.observe(m.alone(op, path)) })
	return m
}

// newMeta is an empty file system for metadata. The directory that the metadata's
// own is made in is there: on a real disk it is the one of the marks.
func newMeta() *vfs.MemFS {
	mem := vfs.NewCrashableMem()
	for _, dir := range []string{root, root + "/stele"} {
		f, err := mem.OpenDir(path.Dir(dir))
		if err == nil {
			err = errors.Join(mem.MkdirAll(dir, 0o755), f.Sync(), f.Close())
		}
		if err != nil {
			panic(err)
		}
	}
	return mem
}

// watch has fn called before each operation on either, by the goroutine that
// does it; alone says that it may stand still there. nil ends it.
func (m *machine) watch(fn func(alone bool)) {
	if fn == nil {
		fn = func(bool) {}
	}
	m.watcher.Store(&fn)
}

func (m *machine) observe(alone bool) {
	if fn := m.watcher.Load(); fn != nil {
		(*fn)(alone)
	}
}

// alone reports whether whoever does an operation holds no lock meanwhile that
// somebody else may want: synctest does not count a wait for a lock as one.
func (m *machine) alone(op crashdisk.Op, path string) bool {
	switch {
	case op == crashdisk.OpWrite, op == crashdisk.OpWriteRest:
		return false
	case strings.HasPrefix(path, root+"/index") || strings.HasPrefix(path, root+"/stele/") && !strings.HasSuffix(path, "/marks"):
		// The checkpointer and the dispatcher share what is derived from the log.
		return m.opening.Load()
	}
	switch op {
	case crashdisk.OpFlush, crashdisk.OpZero, crashdisk.OpWriteFile, crashdisk.OpSetContent:
		return true
	case crashdisk.OpRemove: // a queue that lost all its messages is begun again under its lock
		return m.opening.Load() || crashdisk.KindOf(path) != crashdisk.ConsumeQueue
	case crashdisk.OpOpen:
		return m.opening.Load()
	default:
		return m.opening.Load() || crashdisk.KindOf(path) == crashdisk.CommitLog
	}
}

// fs is the metadata's file system.
func (m *machine) fs() vfs.FS {
	in := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
			return nil
		}
		m.observe(false)
		return m.strike()
	})
	return metaFS{errorfs.Wrap(m.mem, in), in}
}

// metaFS is errorfs, which forgets a log file that is used again.
type metaFS struct {
	*errorfs.FS
	injector errorfs.Injector
}

func (f metaFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(file, f.injector), nil
}

// failMeta makes an operation of the metadata fail.
func (m *machine) failMeta(after int, stays bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after, m.stays, m.err = after, stays, err
}

func (m *machine) strike() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.after < 0 {
		return nil
	}
	if m.after > 0 {
		m.after--
		return nil
	}
	if !m.stays {
		m.after = -1
	}
	return m.err
}

func (m *machine) heal() {
	m.disk.ClearFaults()
	m.disk.SetCapacity(0)
	m.failMeta(-1, false, nil)
}

// killed is the machine after the process died.
func (m *machine) killed() *machine {
	return newMachine(m.disk.KillClone(), m.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0)),
	}))
}

// powerCut is the machine after a power cut.
func (m *machine) powerCut(seed uint64) *machine {
	rng := rand.New(rand.NewPCG(seed, 2))
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng}
	return newMachine(m.disk.CrashClone(seed), m.mem.CrashClone(cfg))
}

// injectable are the operations that are made to fail, the more likely ones more
// than once.
var injectable = []crashdisk.Op{
	crashdisk.OpFlush, crashdisk.OpFlush, crashdisk.OpFlush, crashdisk.OpFlush, crashdisk.OpReserve, crashdisk.OpReserve,
	crashdisk.OpCreate, crashdisk.OpCreate, crashdisk.OpSyncDir, crashdisk.OpRemove, crashdisk.OpOpen, crashdisk.OpZero,
	crashdisk.OpWriteFile, crashdisk.OpReadFile, crashdisk.OpMkdirAll, crashdisk.OpList, crashdisk.OpLock,
	crashdisk.OpSetLength, crashdisk.OpSetContent,
}

// crashErr is the cause of a fault.
func crashErr(f crashdisk.Fault) error {
	if f.Err == nil {
		return syscall.EIO
	}
	return f.Err
}

// randomFault draws a fault.
func randomFault(rng *rand.Rand) crashdisk.Fault {
	f := crashdisk.Fault{
		Op: injectable[rng.IntN(len(injectable))], Kind: crashdisk.Kind(rng.IntN(5)),
		After: rng.IntN(1 + rng.IntN(8)), Stays: rng.IntN(2) == 0,
	}
	if rng.IntN(2) == 0 {
		f.Err = syscall.ENOSPC
	}
	if rng.IntN(6) == 0 {
		f.Kind = crashdisk.Index
	}
	return f
}
