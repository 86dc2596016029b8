// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
)

// source is what the directory says beside its log.
type source struct {
	min       message.Offset // where the log begins
	live      bool           // somebody has it open
	abort     bool           // who had it last did not close it
	stele     bool           // it has a directory of Stele's own
	queueSize int64
	sizes     keyindex.Sizes
	noted     bool // Stele says that the key index is whole
	stretch   int64
	point     checkpoint.Checkpoint
	pointed   bool // the checkpoint is sound
	ends      []queueEnd
}

// queueEnd is the last entry of a queue as it was.
type queueEnd struct {
	topic string
	id    int32
	at    message.QueueOffset
	last  consumequeue.Entry
}

// look reads what the new files go by, and refuses a store without a log.
func (j *job) look() error {
	if err := j.requireLog(); err != nil {
		return err
	}
	s := &j.src
	var err error
	if _, s.live, err = mappedfile.LockHolder(filepath.Join(j.dir, layout.Lock)); err != nil {
		return err
	}
	if s.abort, err = exists(filepath.Join(j.dir, layout.Abort)); err != nil {
		return err
	}
	if s.stele, err = exists(filepath.Join(j.dir, layout.Stele)); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(j.dir, layout.Checkpoint))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c, err := checkpoint.Decode(b); err == nil {
		s.point, s.pointed = c, true
	}
	if err := j.lookAtQueues(); err != nil {
		return err
	}
	if err := j.lookAtIndex(); err != nil {
		return err
	}
	x, err := timeindex.OpenReadOnly(j.disk, j.timesIn(j.dir))
	if err != nil {
		return nil //nolint:nilerr // without one that can be read, the usual stretch will do
	}
	s.stretch = x.Stats().Stretch
	return x.Close()
}

// requireLog finds where the log begins, and refuses a store whose log is missing: its queues are all that is
// left, and would be replaced by nothing.
func (j *job) requireLog() error {
	entries, err := j.disk.List(j.CommitLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if base, ok := mappedfile.ParseFileName(e.Name); ok && !e.Dir {
			j.src.min = message.Offset(base)
			return nil
		}
	}
	return &mappedfile.FileError{Path: j.CommitLog, Cause: fmt.Errorf("%w: there is no log file to make queues from", mappedfile.ErrMissingFile)}
}

// lookAtQueues finds the length of the queue files, and where each queue ends.
func (j *job) lookAtQueues() error {
	set, err := consumequeue.OpenSet(consumequeue.Options{
		Dir: filepath.Join(j.dir, layout.ConsumeQueue), ReadOnly: true, Tolerant: true,
	})
	if err != nil {
		return err
	}
	defer func() { _ = set.Close() }() // read-only: nothing can be lost
	if j.src.queueSize = j.QueueFileSize; j.src.queueSize == 0 {
		j.src.queueSize = set.FileSize()
	}
	for _, q := range set.Queues() {
		end := queueEnd{topic: q.Topic(), id: q.ID()}
		ok := false
		err := mappedfile.Guard(func() (err error) {
			if err = q.Recover(everything, consumequeue.TrustNothing); err == nil {
				end.last, end.at, ok, err = q.Last()
			}
			return err
		})
		if err != nil {
			// The queues are what is to be made anew: what can't be read of the
			// old ones is a remark.
			j.note("the old queue %s/%d: %w", q.Topic(), q.ID(), err)
			continue
		}
		if ok {
			j.src.ends = append(j.src.ends, end)
		}
	}
	return nil
}

const everything = message.Offset(1<<63 - 1)

func (j *job) lookAtIndex() error {
	if j.NoIndex {
		return nil
	}
	text, err := os.ReadFile(j.noteIn(j.dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	note, ok := keyindex.ParseNote(text)
	j.src.noted = ok
	if j.Index.Slots != 0 && j.Index.Entries != 0 {
		j.src.sizes = j.Index
		return j.Index.Check()
	}
	set, err := keyindex.OpenSet(keyindex.Options{
		Dir: filepath.Join(j.dir, layout.Index), Disk: j.disk, ReadOnly: true, Sizes: j.Index, Hint: note.Sizes,
	})
	if err != nil {
		return err
	}
	j.src.sizes = set.Sizes()
	return set.Close()
}

func (j *job) noteIn(dir string) string { return filepath.Join(dir, layout.Stele, layout.IndexNote) }

func (j *job) timesIn(dir string) string {
	return filepath.Join(dir, layout.Stele, timeindex.DirName)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
