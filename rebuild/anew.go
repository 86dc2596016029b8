// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/timeindex"
)

const (
	// partial ends the name of a directory that is being made.
	partial = ".partial"
	// asidePrefix begins the name of a directory of old queues.
	asidePrefix = "before-rebuild-"
	// workName is what a rebuild in place makes new parts in.
	workName = "rebuild" + partial
)

// made are names of a store that a rebuild makes anew, or that mean nothing in
// another directory.
var made = []string{
	layout.CommitLog, layout.ConsumeQueue, layout.Index, layout.Checkpoint, layout.Abort, layout.Lock, layout.Stele,
	workName, "lost+found",
}

// madeByStele is the same for Stele's own directory. The marks speak of the old
// queues.
var madeByStele = []string{"marks", layout.IndexNote, timeindex.DirName}

// checkTarget refuses a new directory that holds something, and one that would
// hold itself.
func (j *job) checkTarget() error {
	j.To = filepath.Clean(j.To)
	entries, err := os.ReadDir(j.To)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s holds %q", ErrTarget, j.To, entries[0].Name())
	}
	if there, err := exists(j.To + partial); err != nil || there {
		if err == nil {
			err = fmt.Errorf("%w: %s; remove it", ErrPartial, j.To+partial)
		}
		return err
	}
	from, err := real(j.dir)
	if err != nil {
		return err
	}
	to, err := real(j.To)
	if err != nil {
		return err
	}
	if within(to, from) || within(from, to) {
		return fmt.Errorf("%w: %s and %s lie in each other", ErrTarget, j.To, j.dir)
	}
	return nil
}

// real is an absolute path without links, as far as it is there.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	clean, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		parent, err := real(filepath.Dir(path))
		return filepath.Join(parent, filepath.Base(path)), err
	}
	return clean, err
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// anew makes the new directory.
func (j *job) anew() error {
	meta := filepath.Join(j.dir, layout.Stele, layout.Meta)
	if there, err := exists(meta); err != nil {
		return err
	} else if there && j.src.live {
		return fmt.Errorf("%w: %s is a database, of which no copy can be made now", ErrLive, meta)
	}
	if j.src.live && j.Log == LogLink {
		return fmt.Errorf("%w: its log can be copied, and not be linked", ErrLive)
	}
	tmp := j.To + partial
	if err := j.disk.MkdirAll(tmp); err != nil {
		return err
	}
	err := j.fillIn(tmp)
	if err == nil {
		err = j.name(tmp)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

// name gives the finished directory its name.
func (j *job) name(tmp string) error {
	// An empty directory may stand there; rename(2) would take its place, os.Rename
	// refuses.
	if err := os.Remove(j.To); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, j.To); err != nil {
		return err
	}
	return j.disk.SyncDir(filepath.Dir(j.To))
}

func (j *job) fillIn(tmp string) error {
	log := filepath.Join(tmp, layout.CommitLog)
	if err := j.bringLog(log); err != nil {
		return err
	}
	if err := j.carry(j.dir, tmp, func(name string) bool {
		return slices.Contains(made, name) || strings.HasPrefix(name, asidePrefix) || filepath.Join(j.dir, name) == filepath.Clean(j.CommitLog)
	}); err != nil {
		return err
	}
	p := paths{queues: filepath.Join(tmp, layout.ConsumeQueue)}
	if !j.NoIndex {
		p.index = filepath.Join(tmp, layout.Index)
	}
	if j.src.stele {
		own := filepath.Join(tmp, layout.Stele)
		if err := j.carry(filepath.Join(j.dir, layout.Stele), own, func(name string) bool { return slices.Contains(madeByStele, name) }); err != nil {
			return err
		}
		p.times = j.timesIn(tmp)
	}
	// The copy is read, and not the source: that may go on meanwhile.
	d, err := inspect.Open(tmp, inspect.Options{Progress: j.Progress})
	if err != nil {
		return err
	}
	at, err := j.make(d, p)
	if err != nil {
		return err
	}
	c := checkpoint.Checkpoint{
		Log: at.storeTime, Queues: at.storeTime, Index: at.indexTime,
		MasterFlushed: j.src.point.MasterFlushed, Confirmed: at.end,
	}
	return errors.Join(j.writeCheckpoint(tmp, c), j.disk.SyncDir(tmp))
}

func (j *job) writeCheckpoint(dir string, c checkpoint.Checkpoint) error {
	b := make([]byte, checkpoint.Size)
	c.Encode(b)
	return j.disk.WriteFile(filepath.Join(dir, layout.Checkpoint), b)
}
