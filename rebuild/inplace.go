// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
)

// part is a directory that changes places with a new one.
type part struct{ work, place string }

// inPlace makes all in a directory of the store's own, and puts it in the place of
// the old. The store's lock is held.
func (j *job) inPlace(d *inspect.Dir) error {
	work := filepath.Join(j.dir, workName)
	if err := j.putBack(work); err != nil {
		return err
	}
	if err := j.look(); err != nil {
		return err
	}
	// Who left one behind had the lock as well: it is unfinished, or what it holds
	// is old queues whose new ones are in place.
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := j.disk.MkdirAll(work); err != nil {
		return err
	}
	p, parts := j.parts(work)
	at, err := j.make(d, p)
	if err == nil {
		err = syncTree(j, work)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	return j.swap(work, parts, at)
}

// putBack ends what tradeSlowly began in a process that was killed: old queues go
// back to their place, where they say how large the new ones are to be.
func (j *job) putBack(work string) error {
	for _, p := range [][2]string{
		{filepath.Join(work, layout.ConsumeQueue), filepath.Join(j.dir, layout.ConsumeQueue)},
		{filepath.Join(work, layout.Index), filepath.Join(j.dir, layout.Index)},
		{j.timesIn(work), j.timesIn(j.dir)},
	} {
		there, err := exists(p[1])
		if err != nil {
			return err
		}
		if old, err := exists(p[0] + oldSuffix); err != nil || !old || there {
			if err != nil {
				return err
			}
			continue
		}
		if err := os.Rename(p[0]+oldSuffix, p[1]); err != nil {
			return err
		}
		if err := j.disk.SyncDir(filepath.Dir(p[1])); err != nil {
			return err
		}
	}
	return nil
}

// oldSuffix ends the name of an old directory between two steps of tradeSlowly.
const oldSuffix = ".old"

// parts says what is made where, and what it takes the place of.
func (j *job) parts(work string) (paths, []part) {
	p := paths{queues: filepath.Join(work, layout.ConsumeQueue)}
	parts := []part{{p.queues, filepath.Join(j.dir, layout.ConsumeQueue)}}
	if !j.NoIndex {
		p.index = filepath.Join(work, layout.Index)
		parts = append(parts, part{p.index, filepath.Join(j.dir, layout.Index)})
	}
	if j.src.stele {
		p.times = j.timesIn(work)
		parts = append(parts, part{p.times, j.timesIn(j.dir)})
	}
	return p, parts
}

// syncTree makes the names of directories durable that were made on the way.
func syncTree(j *job, dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return j.disk.SyncDir(path)
	})
}

// swap puts what was made in its place, one part after the other. Whatever stops
// it, each part is the old one or the new one, and both fit the log.
func (j *job) swap(work string, parts []part, at reached) error {
	if j.src.noted {
		// Without the note, who opens the store looks for what the index lacks.
		if err := os.Remove(j.noteIn(j.dir)); err != nil {
			return err
		}
		if err := j.disk.SyncDir(filepath.Join(j.dir, layout.Stele)); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := j.trade(p); err != nil {
			return err
		}
	}
	if j.src.noted && !j.NoIndex {
		note := keyindex.Note{Sizes: j.src.sizes, Newest: at.newest}
		if err := j.disk.WriteFile(j.noteIn(j.dir), note.Format()); err != nil {
			return err
		}
	}
	if err := j.repoint(at); err != nil {
		return err
	}
	aside := filepath.Join(j.dir, asidePrefix+j.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.Rename(work, aside); err != nil {
		return err
	}
	j.res.Aside = aside
	return j.disk.SyncDir(j.dir)
}

// trade has a new directory and the old one change places.
func (j *job) trade(p part) error {
	there, err := exists(p.place)
	if err != nil {
		return err
	}
	fresh, err := exists(p.work)
	if err != nil {
		return err
	}
	switch {
	case there && fresh:
		if err = exchange(p.work, p.place); err != nil {
			err = j.tradeSlowly(p)
		}
	case there:
		if err = j.disk.MkdirAll(filepath.Dir(p.work)); err == nil {
			err = os.Rename(p.place, p.work)
		}
	case fresh:
		err = os.Rename(p.work, p.place)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(j.disk.SyncDir(filepath.Dir(p.place)), j.disk.SyncDir(filepath.Dir(p.work)))
}

// tradeSlowly is for file systems that can't exchange names.
func (j *job) tradeSlowly(p part) error {
	old := p.work + oldSuffix
	if err := os.Rename(p.place, old); err != nil {
		return err
	}
	if err := os.Rename(p.work, p.place); err != nil {
		return errors.Join(fmt.Errorf("the old %s is %s: %w", p.place, old, err), os.Rename(old, p.place))
	}
	return os.Rename(old, p.work)
}

// repoint has the checkpoint say what is true of the new queues and index. What it
// says about the log stays, unless the log has nothing that new.
func (j *job) repoint(at reached) error {
	c := j.src.point
	switch {
	case !j.src.pointed && !j.src.abort:
		c.Log, c.Confirmed = at.storeTime, at.end
	case c.Log > at.storeTime:
		c.Log = at.storeTime
	}
	c.Queues = at.storeTime
	if !j.NoIndex {
		c.Index = at.indexTime
	}
	return j.writeCheckpoint(j.dir, c)
}
