// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Options says how to open a directory. The zero value is usable.
type Options struct {
	// CommitLog is the directory of the commit log files when it is not
	// commitlog below the store (storePathCommitLog).
	CommitLog string
	// Progress, if set, is told by Messages and what is built on it how many
	// bytes of the log are done, and of how many at most: behind the last record
	// may lie a file that was made ahead of need. It is called every mebibyte or
	// so, on the goroutine that iterates, and must be quick.
	Progress func(done, total int64)
	// Index are the sizes of the index files for Verify, as KeyQuery.Sizes.
	Index keyindex.Sizes
}

// Dir is a store directory that is looked at. It is safe for concurrent use.
type Dir struct {
	path     string
	log      string
	index    keyindex.Sizes
	progress func(done, total int64)
}

// Open checks that dir is a store in a layout that can be read, and reads no
// more than that takes. The error wraps ErrNotStore or ErrUnsupportedLayout
// (then it is a *LayoutError), or is what the file system said.
func Open(dir string, o Options) (*Dir, error) {
	if err := layout.Check(mappedfile.OS(), dir, o.CommitLog); err != nil {
		return nil, err
	}
	log := o.CommitLog
	if log == "" {
		log = filepath.Join(dir, layout.CommitLog)
	}
	progress := o.Progress
	if progress == nil {
		progress = func(int64, int64) {}
	}
	return &Dir{path: dir, log: log, index: o.Index, progress: progress}, nil
}

// Path is the directory that was opened.
func (d *Dir) Path() string { return d.path }

func (d *Dir) queues() string { return filepath.Join(d.path, layout.ConsumeQueue) }

// openLog lists the commit log as it is now. What is wrong with its files, a
// stray one, one of a wrong length, a hole, is in Files().Problems().
func (d *Dir) openLog() (*commitlog.Log, error) {
	return commitlog.Open(commitlog.Options{Dir: d.log, ReadOnly: true, Tolerant: true})
}

// LogFiles returns where the files of the commit log begin and end, as they are now,
// and how long one is, in bytes. The log itself may end anywhere in the last of them.
func (d *Dir) LogFiles() (from, to message.Offset, size int64, err error) {
	log, err := d.openLog()
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	return log.Min(), message.Offset(log.Files().End()), log.FileSize(), nil
}
