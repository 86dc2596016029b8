// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

var (
	// ErrPartial is returned where an unfinished rebuild is in the way.
	ErrPartial = errors.New("an unfinished rebuild is in the way")
	// ErrTarget is returned for a new directory that can't be one: it holds
	// something, or lies inside of the old one, or around it.
	ErrTarget = errors.New("not a place for a new directory")
	// ErrLive is returned for what can't be done while somebody has the store
	// open.
	ErrLive = errors.New("the store is open")
)

// Options says what to make of a store.
type Options struct {
	// CommitLog is the directory of the log files, if it is not commitlog below
	// the store. The new directory has them in its own commitlog.
	CommitLog string
	// To is the new directory, which must be missing or empty. Without it, the
	// rebuild is in place.
	To string
	// DryRun reads the log and makes nothing.
	DryRun bool
	// Log says how log files get into the new directory.
	Log LogMode
	// QueueFileSize is the length of the queue files in bytes; 0 is that of the
	// files that are there.
	QueueFileSize int64
	// Index are the sizes of the index files; 0 takes those of the files that are
	// there.
	Index keyindex.Sizes
	// NoIndex makes no key index.
	NoIndex bool
	// Levels are the delays of the broker that wrote the log; nil are RocketMQ's
	// own.
	Levels message.DelayLevels
	// Report, unless it is nil, is told of damage in the log, of records that are
	// put in no queue, and of what is left behind: on the caller's goroutine.
	Report func(Notice)
	// Progress, unless it is nil, is inspect.Options.Progress for the reading of
	// the log.
	Progress func(done, total int64)
	// Now names what is made; nil is time.Now.
	Now func() time.Time
}

// Notice is something that whoever asked for a rebuild should know.
type Notice struct {
	// Damage says that the log is not as it should be, and that a message may be
	// missing from the queues. Otherwise it is a remark.
	Damage bool
	Err    error
}

// Queue is a queue as it was made.
type Queue struct {
	Topic   string              `json:"topic"`
	QueueID int32               `json:"queueId"`
	Min     message.QueueOffset `json:"minOffset"`
	Max     message.QueueOffset `json:"maxOffset"`
	// Entries are those with a message.
	Entries int64 `json:"entries"`
}

// Result is what a rebuild did, or would do.
type Result struct {
	Queues  []Queue
	Records int64 // intact ones in the log
	Bytes   int64 // that they take
	Damage  int64 // Notices of damage
	// Files are those of the log in the new directory, by how they came there.
	Linked, Cloned, Copied int
	// Aside is where the old queues are, after a rebuild in place.
	Aside string
}

// job is one run.
type job struct {
	Options
	ctx  context.Context
	dir  string
	disk mappedfile.Disk
	src  source
	res  Result
}

// Run makes the queues and indexes of the store in dir anew, as o says.
//
// The error is a *inspect.LayoutError or wraps inspect.ErrNotStore for a directory
// that can't be read, ErrTarget, ErrPartial, ErrLive, mappedfile.ErrLocked for a
// store that somebody has open, keyindex.ErrSizes when Options.Index is needed, a
// *mappedfile.FileError for a store without a log, the cause of ctx, or what the
// file system said. A new directory is gone after an error; in place, nothing has
// changed, but for what Aside holds by then.
func Run(ctx context.Context, dir string, o Options) (Result, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Report == nil {
		o.Report = func(Notice) {}
	}
	j := &job{Options: o, ctx: ctx, dir: filepath.Clean(dir), disk: mappedfile.OS()}
	if j.CommitLog == "" {
		j.CommitLog = filepath.Join(j.dir, layout.CommitLog)
	}
	err := j.run()
	return j.res, err
}

func (j *job) run() error {
	d, err := inspect.Open(j.dir, inspect.Options{CommitLog: j.CommitLog, Progress: j.Progress})
	if err != nil {
		return err
	}
	if err := layout.CheckBatchQueues(j.disk, j.dir); err != nil {
		return err
	}
	if j.To == "" && !j.DryRun {
		lock, err := j.disk.Lock(filepath.Join(j.dir, layout.Lock))
		if err != nil {
			return err
		}
		return errors.Join(j.inPlace(d), lock.Close())
	}
	if j.To != "" {
		if err := j.checkTarget(); err != nil {
			return err
		}
	}
	if err := j.look(); err != nil {
		return err
	}
	if j.DryRun {
		return j.tally(d)
	}
	return j.anew()
}

// note reports what is no damage.
func (j *job) note(format string, args ...any) {
	j.Report(Notice{Err: fmt.Errorf(format, args...)})
}

// damage reports what is.
func (j *job) damage(err error) {
	j.res.Damage++
	j.Report(Notice{Damage: true, Err: err})
}
