// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/stelelog/stele/mappedfile"
)

// Op is an operation of a Disk or of a Region.
type Op int

// The operations that are counted and can fail.
const (
	OpCreate Op = iota
	OpOpen
	OpFlush
	OpReserve
	OpZero
	OpRemove
	OpWriteFile
	OpReadFile
	OpSyncDir
	OpMkdirAll
	OpList
	OpLock
	// OpSetLength is the second half of Create: the file has its name, and is
	// empty.
	OpSetLength
	// OpWrite is Region.Write. OpWriteRest is its second half: the first pages
	// are there.
	OpWrite
	OpWriteRest
	// OpMemory is Disk.Memory, and OpLockMemory Memory.Lock; their path is "".
	OpMemory
	OpLockMemory
	// OpSetContent is the second half of WriteFile: the old content is gone,
	// and the new one is not durable.
	OpSetContent
)

var opNames = [...]string{
	"create", "open", "flush", "reserve", "zero", "remove",
	"writefile", "readfile", "syncdir", "mkdirall", "list", "lock",
	"setlength", "write", "writerest", "memory", "lockmemory", "setcontent",
}

// String is the operation's name in lower case.
func (o Op) String() string { return opNames[o] }

// Kind is what a path is to the engine.
type Kind int

// The kinds that faults tell apart. AnyKind matches each of them.
const (
	AnyKind Kind = iota
	CommitLog
	ConsumeQueue
	Checkpoint
	Other
	Index
)

// KindOf tells the kind of a file or directory by its path: CommitLog,
// ConsumeQueue and Index for whatever lies in a directory of that name (in lower
// case) and for the directory itself, Checkpoint for a file of that name.
func KindOf(p string) Kind {
	p = clean(p)
	switch all := strings.Split(p, "/"); {
	case slices.Contains(all, "commitlog"):
		return CommitLog
	case slices.Contains(all, "consumequeue"):
		return ConsumeQueue
	case slices.Contains(all, "index"):
		return Index
	case path.Base(p) == "checkpoint":
		return Checkpoint
	default:
		return Other
	}
}

// Fault makes an operation fail.
//
// An operation that fails changes nothing, with these exceptions: a failed flush
// drops the dirty pages of its range (see the package comment), a failed
// WriteFile leaves the first half of the new content, of which a power cut
// keeps that, nothing, or what was there before, and a write that OpWriteRest
// makes fail leaves its first half.
type Fault struct {
	Op   Op
	Kind Kind // AnyKind, the zero value, is every path
	// After is how many operations of this Op and Kind succeed, counted from
	// Inject on, before one fails.
	After int
	// Err is the cause; nil is syscall.EIO. With syscall.ENOSPC the error is
	// a mappedfile.ErrDiskFull as well.
	Err error
	// Stays makes every later one fail too. Otherwise only one does.
	Stays bool
}

func (f *Fault) matches(op Op, path string) bool {
	return f.Op == op && (f.Kind == AnyKind || f.Kind == KindOf(path))
}

// Inject adds a fault. Faults count side by side; the first that strikes gives
// the error.
func (d *Disk) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
}

// ClearFaults removes all faults.
func (d *Disk) ClearFaults() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// enter counts an operation and returns the error of the fault that strikes,
// if one does. d.mu is held.
func (d *Disk) enter(op Op, p string) error {
	d.counts[counter{op, clean(p)}]++
	var struck error
	d.faults = slices.DeleteFunc(d.faults, func(f *Fault) bool {
		if !f.matches(op, p) {
			return false
		}
		if f.After > 0 {
			f.After--
			return false
		}
		if struck == nil {
			struck = faultError(op, p, f.Err)
			d.struck[op]++
			return !f.Stays
		}
		return false
	})
	return struck
}

// Failed is how often a Fault made op fail.
func (d *Disk) Failed(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.struck[op]
}

func faultError(op Op, p string, cause error) error {
	if cause == nil {
		cause = syscall.EIO
	}
	return full(pathError(op.String(), p, cause), cause)
}

// full adds ErrDiskFull to an error whose cause says so.
func full(err, cause error) error {
	if cause == syscall.ENOSPC { //nolint:errorlint // an errno, given as such
		return fmt.Errorf("%w: %w", mappedfile.ErrDiskFull, err)
	}
	return err
}

// Observe has fn called before each operation, by the goroutine that does it
// and without any lock: it may block, and may take a clone of the Disk. A later
// call replaces fn; nil ends it.
func (d *Disk) Observe(fn func(op Op, path string)) {
	if fn == nil {
		fn = func(Op, string) {}
	}
	d.observer.Store(&fn)
}

func (d *Disk) observe(op Op, path string) {
	if fn := d.observer.Load(); fn != nil {
		(*fn)(op, path)
	}
}

type counter struct {
	op   Op
	path string
}

// Count is how often op was called on path, failed calls included.
func (d *Disk) Count(op Op, path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[counter{op, clean(path)}]
}

// Total is how often op was called on all paths of a kind.
func (d *Disk) Total(op Op, kind Kind) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := 0
	for c, n := range d.counts {
		if c.op == op && (kind == AnyKind || kind == KindOf(c.path)) {
			sum += n
		}
	}
	return sum
}

// Flushes is how often the file at path was flushed.
func (d *Disk) Flushes(path string) int { return d.Count(OpFlush, path) }

// DirSyncs is how often SyncDir was called on dir.
func (d *Disk) DirSyncs(dir string) int { return d.Count(OpSyncDir, dir) }
