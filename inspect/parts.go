// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/warmup"
)

// PartOverview sums up the files of a part of the store.
type PartOverview struct {
	Part  string `json:"part"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // their lengths; a sparse file takes less of the disk
	// Resident is how many of them are in memory, with Dir.Residency.
	Resident int64 `json:"resident,omitempty"`
}

// GroupOverview is what a group of consumers has not consumed of a topic.
type GroupOverview struct {
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Queues int    `json:"queues"` // in which it has committed an offset
	// Unconsumed is how many entries of those queues lie at or behind the group's
	// offset. Queues in which it never committed do not count.
	Unconsumed int64 `json:"unconsumed"`
}

// AddGroupOffset counts an offset that a group has committed: that of the entry
// that it wants next. Those of a topic of a group must follow each other.
func (o *Overview) AddGroupOffset(group, topic string, queue int32, next message.QueueOffset) {
	n := len(o.Groups)
	if n == 0 || o.Groups[n-1].Group != group || o.Groups[n-1].Topic != topic {
		o.Groups = append(o.Groups, GroupOverview{Group: group, Topic: topic})
		n++
	}
	g := &o.Groups[n-1]
	g.Queues++
	for _, q := range o.Queues {
		if q.Topic == topic && q.Queue == queue {
			g.Unconsumed += int64(max(q.Max-max(next, q.Min), 0))
		}
	}
}

// addParts counts the files of the store.
func (o *Overview) addParts(ctx context.Context, d *Dir) error {
	o.Parts = []PartOverview{}
	for _, part := range d.parts() {
		v := PartOverview{Part: part.name}
		err := part.each(ctx, func(_ string, info fs.FileInfo) error {
			v.Files++
			v.Bytes += info.Size()
			return nil
		})
		if err != nil {
			return err
		}
		o.Parts = append(o.Parts, v)
	}
	if at, ok := marks.Reached(mappedfile.OS(), filepath.Join(d.path, layout.Stele)); ok {
		o.Reached = &at
	}
	return nil
}

// Residency fills in how many bytes of the files are in memory, in all parts of an
// Overview. It asks the kernel (mincore) and touches no page. The error is one that
// wraps errors.ErrUnsupported where the system can't tell, or what it said.
func (d *Dir) Residency(ctx context.Context, o *Overview) error {
	for i, part := range d.parts() {
		o.Parts[i].Resident = 0
		err := part.each(ctx, func(path string, info fs.FileInfo) error {
			n, err := resident(path, info.Size())
			o.Parts[i].Resident += n
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// part is a directory of files.
type part struct{ name, dir string }

func (d *Dir) parts() []part {
	return []part{{layout.CommitLog, d.log}, {layout.ConsumeQueue, d.queues()}, {layout.Index, filepath.Join(d.path, layout.Index)}}
}

// each visits the files of a part. What goes meanwhile is passed over.
func (p part) each(ctx context.Context, visit func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var info fs.FileInfo
		if err == nil && e.Type().IsRegular() {
			if info, err = e.Info(); err == nil {
				err = visit(path, info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// resident is how many bytes of a file are in memory.
func resident(path string, size int64) (n int64, err error) {
	if size == 0 {
		return 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, &fs.PathError{Op: "mmap", Path: path, Err: err}
	}
	n, err = warmup.Resident(b)
	return n, errors.Join(err, unix.Munmap(b))
}
