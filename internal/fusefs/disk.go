// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rootID is the inode of the mount point.
const rootID = 1

// Disk is the file system. It is safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	inodes  map[uint64]*inode
	last    uint64       // newest inode id
	pending []nameChange // not synced, in order
	faults  []*Fault
	ops     map[Op]int64
	trap    *trap
}

type inode struct {
	id     uint64
	parent uint64 // where it was named last, for paths
	name   string
	dir    bool
	mtime  time.Time

	file // of a file

	names, safeNames map[string]uint64 // of a directory
}

// nameChange is one change of names that a power cut leaves out as a whole.
type nameChange []struct {
	dir  uint64
	name string
	to   uint64 // inode, 0 for none
}

// trap takes a clone at an operation.
type trap struct {
	left  int
	seed  uint64
	at    int64 // when, see Now
	clone *Disk
}

// NewDisk returns an empty one.
func NewDisk() *Disk {
	d := &Disk{inodes: map[uint64]*inode{}, ops: map[Op]int64{}}
	d.add(0, "", true)
	return d
}

// Now is the time of the system's monotonic clock, which all processes share,
// in nanoseconds.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

// add makes an inode that has no name yet. d.mu is held, or d is new.
func (d *Disk) add(parent uint64, name string, dir bool) *inode {
	d.last++
	n := &inode{id: d.last, parent: parent, name: name, dir: dir, mtime: time.Now()}
	if dir {
		n.names, n.safeNames = map[string]uint64{}, map[string]uint64{}
	} else {
		n.file = file{live: newContent(), safe: newContent(), dirty: map[int64]bool{}}
	}
	d.inodes[n.id] = n
	return n
}

// path is where an inode is, from the root. d.mu is held.
func (d *Disk) path(id uint64) string {
	p := ""
	for n := d.inodes[id]; n != nil && n.id != rootID; n = d.inodes[n.parent] {
		p = path.Join(n.name, p)
	}
	return "/" + p
}

// rename applies a change of names. d.mu is held.
func (d *Disk) rename(c nameChange) {
	for _, x := range c {
		dir := d.inodes[x.dir]
		dir.mtime = time.Now()
		if x.to == 0 {
			delete(dir.names, x.name)
			continue
		}
		dir.names[x.name] = x.to
		n := d.inodes[x.to]
		n.parent, n.name = x.dir, x.name
	}
	d.pending = append(d.pending, c)
}

// syncDir makes the names in dir durable. d.mu is held.
func (d *Disk) syncDir(id uint64) {
	rest := d.pending[:0:0]
	for _, c := range d.pending {
		touches := false
		for _, x := range c {
			touches = touches || x.dir == id
		}
		if !touches {
			rest = append(rest, c)
			continue
		}
		d.settle(c)
	}
	d.pending = rest
}

func (d *Disk) settle(c nameChange) {
	for _, x := range c {
		if x.to == 0 {
			delete(d.inodes[x.dir].safeNames, x.name)
		} else {
			d.inodes[x.dir].safeNames[x.name] = x.to
		}
	}
}

// Luckless is the seed of a power cut that leaves what is durable and nothing
// else.
const Luckless = 0

// crashClone returns the disk that a power cut at this moment would leave. The
// same seed leaves the same. d.mu is held.
func (d *Disk) crashClone(seed uint64) *Disk {
	rng := rand.New(rand.NewPCG(seed, 0))
	luck := []float64{0, 0.5, 1, rng.Float64()}[rng.IntN(4)]
	ordered, first := rng.IntN(2) == 0, rng.IntN(len(d.pending)+1)
	if seed == Luckless {
		luck, ordered = 0, false
	}
	left := &Disk{inodes: map[uint64]*inode{}, last: d.last, ops: map[Op]int64{}}
	for _, id := range slices.Sorted(maps.Keys(d.inodes)) {
		n := d.inodes[id]
		clone := &inode{id: id, parent: n.parent, name: n.name, dir: n.dir, mtime: n.mtime}
		if n.dir {
			clone.safeNames = maps.Clone(n.safeNames)
		} else {
			clone.file = *n.crash(rng, luck)
		}
		left.inodes[id] = clone
	}
	for i, c := range d.pending {
		if ordered && i < first || !ordered && rng.Float64() < luck {
			left.settle(c)
		}
	}
	left.attach(rootID, map[uint64]bool{})
	return left
}

// attach makes the durable names the names, from dir down, and drops an entry
// that leads nowhere or to what another one leads to already.
func (d *Disk) attach(id uint64, seen map[uint64]bool) {
	seen[id] = true
	dir := d.inodes[id]
	for _, name := range slices.Sorted(maps.Keys(dir.safeNames)) {
		to := dir.safeNames[name]
		n := d.inodes[to]
		if n == nil || seen[to] {
			delete(dir.safeNames, name)
			continue
		}
		n.parent, n.name = id, name
		if n.dir {
			d.attach(to, seen)
		}
		seen[to] = true
	}
	dir.names = maps.Clone(dir.safeNames)
}

// enter counts an operation on an inode, springs the trap, and returns the
// fault that is due. d.mu is held.
func (d *Disk) enter(op Op, p string) syscall.Errno {
	d.ops[op]++
	if t := d.trap; t != nil && op.changes() && t.left > 0 {
		if t.left--; t.left == 0 {
			t.at, t.clone = Now(), d.crashClone(t.seed)
		}
	}
	for i, f := range d.faults {
		if f.Op != op || !strings.Contains(p, f.Path) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if !f.Stays {
			d.faults = slices.Delete(d.faults, i, i+1)
		}
		d.ops[OpFault]++
		return f.Err
	}
	return 0
}

func (o Op) changes() bool { return o != OpRead && o != OpOpen && o != OpSeek }
