// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
)

// GroupOffset is how far a group of consumers has come in one queue.
type GroupOffset struct {
	Group, Topic string
	Queue        int32
	Offset       message.QueueOffset // of the next message that it wants
}

// RetentionInput describes the store as a retention.Policy wants it, with a Bound
// for each group that has not consumed everything, held as hold says. Files that
// were made ahead of need are left out: the active one is the last. Problems are
// what is wrong with the files on the way.
func (d *Dir) RetentionInput(ctx context.Context, now time.Time, groups []GroupOffset, hold retention.Hold) (in retention.Input, problems []error, err error) {
	log, err := d.openLog()
	if err != nil {
		return in, nil, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	for _, p := range log.Files().Problems() {
		problems = append(problems, p)
	}
	in.Now, in.AnyHour = now, true
	if in.Files, err = d.retentionFiles(ctx, log); err != nil {
		return in, problems, err
	}
	u, err := mappedfile.DiskUsage(mappedfile.OS(), d.log)
	if errors.Is(err, fs.ErrNotExist) && len(in.Files) == 0 {
		u, err = mappedfile.DiskUsage(mappedfile.OS(), d.path) // the log comes with the first message
	}
	if err != nil {
		return in, problems, err
	}
	in.Disk = retention.Disk(u)
	if len(groups) > 0 {
		in.Bounds, err = d.groupBounds(groups, hold)
	}
	return in, problems, err
}

func (d *Dir) retentionFiles(ctx context.Context, log *commitlog.Log) ([]retention.File, error) {
	if log.Files().Len() == 0 {
		return nil, nil // there need not be a directory
	}
	entries, err := mappedfile.OS().List(d.log)
	if err != nil {
		return nil, err
	}
	changed := map[int64]time.Time{}
	for _, e := range entries {
		if base, ok := mappedfile.ParseFileName(e.Name); ok {
			changed[base] = e.ModTime
		}
	}
	var files []retention.File
	used := 0
	for _, f := range log.Files().Files() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		file := retention.File{Base: f.Base(), Size: f.Size(), ModTime: changed[f.Base()]}
		err := guard(func() error {
			file.First, _ = firstStoreTime(f)
			return f.Drop()
		})
		if err != nil {
			return nil, err
		}
		if n := len(files); n > 0 {
			files[n-1].Until = file.First
		}
		files = append(files, file)
		if file.First > 0 {
			used = len(files)
		}
	}
	return files[:max(used, min(1, len(files)))], nil
}

// groupBounds returns for each group where the first message lies that it has not
// consumed.
func (d *Dir) groupBounds(groups []GroupOffset, hold retention.Hold) ([]retention.Bound, error) {
	set, err := d.openQueues()
	if err != nil {
		return nil, err
	}
	defer func() { _ = set.Close() }()
	var all []retention.Bound
	at := map[string]int{}
	for _, g := range groups {
		q := set.Get(g.Topic, g.Queue)
		if q == nil {
			continue
		}
		off, ok, err := q.FirstFrom(g.Offset)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		b := retention.Bound{
			Offset: int64(off), Hold: hold,
			Why: fmt.Sprintf("group %s, which is at %d of %s/%d", g.Group, g.Offset, g.Topic, g.Queue),
		}
		i, known := at[g.Group]
		switch {
		case !known:
			at[g.Group] = len(all)
			all = append(all, b)
		case b.Offset < all[i].Offset:
			all[i] = b
		}
	}
	return all, nil
}
