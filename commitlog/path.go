// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// WritePath is how appended bytes get into the files. The bytes on disk are the
// same for each, and a log may be opened with another one each time.
type WritePath uint8

const (
	// WriteDefault is WriteMmap.
	WriteDefault WritePath = iota
	// WriteMmap copies into the mapping of the file: committed at once.
	WriteMmap
	// WritePool copies into a locked buffer, from which a committer writes into
	// the file: RocketMQ's transient store pool. An append never meets a page
	// that is cold, or is being written back; but until it is committed it can't
	// be read, and the death of the process takes it.
	WritePool
	// WriteFile writes through the file's descriptor. What is appended at the
	// same time, and what waits for the same flush, shares one write.
	WriteFile
)

var pathNames = [...]string{"default", "mmap", "pool", "file"}

// ErrWritePath is returned for the name of no write path.
var ErrWritePath = errors.New("unknown write path")

// String returns "default", "mmap", "pool" or "file".
func (p WritePath) String() string {
	if int(p) < len(pathNames) {
		return pathNames[p]
	}
	return fmt.Sprintf("WritePath(%d)", uint8(p))
}

// ParseWritePath is the inverse of String. The error wraps ErrWritePath.
func ParseWritePath(name string) (WritePath, error) {
	for i, n := range pathNames {
		if n == name {
			return WritePath(i), nil
		}
	}
	return 0, fmt.Errorf("%w %q: it is default, mmap, pool or file", ErrWritePath, name)
}

// Known reports whether p is one of the paths.
func (p WritePath) Known() bool { return int(p) < len(pathNames) }

// PoolInfo says that the pool was empty when a file was begun.
type PoolInfo struct {
	Path  string // of the file, which is written through its mapping
	Stats mappedfile.PoolStats
}

// The number of buffers unless it is given: two are what a pool needs, one to
// append to while the other is committed. Small files are full sooner than the
// committer comes, and cost little.
const (
	leastBuffers = 2
	mostBuffers  = 8
	cheapBuffers = 64 << 20 // bytes of all together
)

func defaultBuffers(fileSize int64) int {
	return int(min(max(cheapBuffers/fileSize, leastBuffers), mostBuffers))
}

// ringSize is how many bytes WriteFile gathers at most, for smaller files the
// file's size. Beyond half a megabyte a flush is bound by the disk's bandwidth,
// so that more would gain nothing.
const ringSize = 1 << 20

// zerosAhead is how many bytes of zeros are written in front of the end of the
// log where each append waits for its flush. Whoever comes to their end waits for
// the next ones, some 0.2 ms, so fewer than one append of a hundred should, and a
// kilobyte each takes 230 of them.
const zerosAhead = 256 << 10

// openPath makes what the write path needs. l.mu is held, nothing is appended
// yet.
func (l *Log) openPath() error {
	switch l.o.WritePath {
	case WritePool:
		n := l.o.PoolBuffers
		if n <= 0 {
			n = defaultBuffers(l.FileSize())
		}
		pool, err := mappedfile.NewPool(l.o.Disk, l.FileSize(), n, l.o.OnLockRefused)
		if err != nil {
			return fmt.Errorf("transient pool: %w", err)
		}
		l.pool = pool
	case WriteFile:
		l.ring = make([]byte, min(l.FileSize(), ringSize))
	case WriteMmap:
	}
	if l.tail == nil {
		return nil
	}
	return l.begin(l.tail, l.appended.Load())
}

// begin makes file the one that is appended to, from the offset end on, which is
// the end of the log. l.mu is held. It can fail only where bytes that were
// appended before can't be committed, or a mapping is gone.
func (l *Log) begin(file *mappedfile.File, end int64) error {
	from := end - file.Base()
	switch {
	case l.pool != nil:
		if w := l.pool.Writer(file, from); w != nil {
			l.use(file, w, false)
			return nil
		}
		w, err := mappedfile.NewMapWriter(file)
		if err != nil {
			return err
		}
		// Not direct: what lies before it may not be committed yet.
		l.use(file, w, false)
		if l.o.OnPoolEmpty != nil {
			l.o.OnPoolEmpty(PoolInfo{Path: file.Path(), Stats: l.pool.Stats()})
		}
	case l.ring != nil:
		// The ring is of use to one file at a time.
		if err := l.commit(end); err != nil {
			return err
		}
		ahead := int64(0)
		if l.o.CommitOnFlush {
			ahead = zerosAhead
		}
		l.use(file, mappedfile.NewFileWriter(file, l.ring, from, ahead), false)
	default:
		w, err := mappedfile.NewMapWriter(file)
		if err != nil {
			return err
		}
		l.use(file, w, true)
	}
	return nil
}

// use begins a file with a writer. Unless it is direct, its bytes wait to be
// committed, in the order of files.
func (l *Log) use(file *mappedfile.File, w mappedfile.Writer, direct bool) {
	if !direct {
		l.uncommitted.add(&segment{file: file, writer: w, end: file.Size()})
	}
	l.tail, l.writer, l.direct = file, w, direct
}

// PoolStats says how the transient pool is doing; zeros without one.
func (l *Log) PoolStats() mappedfile.PoolStats {
	if p := l.poolFor.Load(); p != nil {
		return p.Stats()
	}
	return mappedfile.PoolStats{}
}

// Committed is the offset below which everything is in the page cache: it can
// be read, and survives the death of the process. Flushed ≤ Committed ≤ Appended.
func (l *Log) Committed() message.Offset { return message.Offset(l.committed.Load()) }
