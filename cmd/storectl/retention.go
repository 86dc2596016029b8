// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

type retentionFlags struct {
	maxAge   age
	maxSize  size
	whenFull bool
	forceAt  int
	files    int
	keep     bool
	broker   bool
	apply    bool
}

func (a *app) retentionCommand() *cobra.Command {
	var f retentionFlags
	var out *format
	cmd := a.command("retention DIR [flags]", "Show which files of the commit log would go, and why; with --apply remove them", cobra.ExactArgs(1),
		func(args []string) error { return a.retention(args[0], &f, *out) })
	cmd.Long = `Retention lists the files of the commit log, and of each whether it would go by
the rules that the flags give, and the reason. It writes nothing and takes no
lock; it works beside a running broker.

A file goes when its last message is older than --max-age, while the log is
larger than --max-size, or with --when-full while the disk is used above
--force-at. Only a run of the oldest files goes, and never the active one. How
old a file is, its messages say: it counts as old as the first message of the
next file. RocketMQ goes by the file's modification time.

With --apply the files are removed, and the queues corrected. The store must not
be open anywhere else. The hours of a broker's deleteWhen do not matter here.`
	cmd.Example = example(`
		storectl retention /data/store --max-age 72h
		storectl retention /data/store --max-size 100GiB --keep-unconsumed -o ndjson
		storectl retention /data/store --max-age 30d --apply`)
	fl := cmd.Flags()
	fl.Var(&f.maxAge, "max-age", "files go once their last message is older than this (72h, 30d)")
	fl.Var(&f.maxSize, "max-size", "the oldest files go while the log is larger than this")
	fl.BoolVar(&f.whenFull, "when-full", false, "the oldest files go while the disk is used above --force-at")
	fl.IntVar(&f.forceAt, "force-at", retention.DefaultForceAt, "percentage of the disk for --when-full")
	fl.IntVar(&f.files, "files", 0, "at most so many files (default all)")
	fl.BoolVar(&f.keep, "keep-unconsumed", false, "keep what a group of consumers has not consumed")
	fl.BoolVar(&f.broker, "rocketmq", false, "a broker's defaults: --max-age 72h --when-full")
	fl.BoolVar(&f.apply, "apply", false, "remove the files")
	out = formatFlag(cmd)
	return cmd
}

// age is a duration, also in days.
type age time.Duration

func (d *age) String() string {
	if *d == 0 {
		return ""
	}
	return retention.Age(time.Duration(*d))
}

func (d *age) Type() string { return "DURATION" }

func (d *age) Set(text string) error {
	v, err := parseDuration(text)
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is no age: write 90m, 36h or 7d", text)
	}
	*d = age(v)
	return nil
}

func (f *retentionFlags) policy() (retention.Policy, error) {
	p := retention.Policy{EnoughFree: -1, FilesPerPass: -1}
	if f.broker {
		p = retention.RocketMQ()
		p.Hours, p.FilesPerPass = nil, -1
	}
	if f.maxAge > 0 {
		p.MaxAge = time.Duration(f.maxAge)
	}
	p.MaxSize, p.WhenFull = int64(f.maxSize), p.WhenFull || f.whenFull
	p.ForceAt = f.forceAt
	// Other ratios mean nothing here, and may not be in the way of this one.
	p.NormalAt = -1
	if p.RefuseAt = retention.DefaultRefuseAt; p.ForceAt > p.RefuseAt {
		p.RefuseAt = -1
	}
	if f.files > 0 {
		p.FilesPerPass = f.files
	}
	switch {
	case f.files < 0:
		return p, usagef("--files %d is negative", f.files)
	case f.forceAt <= 0:
		return p, usagef("--force-at %d: want a percentage, 1 to 100", f.forceAt)
	case f.apply && !p.Deletes():
		return p, usagef("--apply needs a rule: --max-age, --max-size, --when-full or --rocketmq")
	}
	if err := p.Validate(); err != nil {
		return p, usageError{err}
	}
	return p, nil
}

func (a *app) retention(dir string, f *retentionFlags, out format) error {
	p, err := f.policy()
	if err != nil {
		return err
	}
	d, err := inspect.Open(dir, inspect.Options{})
	if err != nil {
		return err
	}
	var groups []inspect.GroupOffset
	if f.keep {
		if groups, err = groupOffsets(dir, f.apply); err != nil {
			return err
		}
	}
	if f.apply {
		return a.retentionApply(dir, f, p, out)
	}
	in, problems, err := d.RetentionInput(a.ctx, a.now(), groups, retention.Firm)
	if err != nil {
		return err
	}
	plan := p.Plan(in)
	l := a.newRetentionList(out)
	for _, dec := range plan.Files {
		action := "keep"
		if dec.Delete {
			action = "delete"
		}
		if err := l.add(retentionItem{dec, action}); err != nil {
			return err
		}
	}
	if err := l.close(); err != nil {
		return err
	}
	for _, p := range problems {
		a.say("%s", oneLine(p))
	}
	if plan.Refuse != "" {
		a.say("%s", plan.Refuse)
	}
	a.say("%d of %d files would go, %s; nothing was changed", plan.Deletes, len(plan.Files), formatSize(plan.Bytes))
	if len(problems) > 0 {
		return errFindings
	}
	return nil
}

// retentionApply removes files through the store, as its owner.
func (a *app) retentionApply(dir string, f *retentionFlags, p retention.Policy, out format) (err error) {
	o := store.Options{MustExist: true, Retention: store.RetentionOptions{Policy: p, Manual: true}}
	if f.keep {
		o.Retention.Groups = store.KeepAlways
	}
	s, err := store.Open(dir, o)
	if err != nil {
		return storeFailure(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	res, err := s.Expire(a.ctx)
	l := a.newRetentionList(out)
	removed := int64(0)
	for _, e := range res.Removed {
		removed += e.Size
		if err := l.add(retentionItem{e.Decision, "deleted"}); err != nil {
			return err
		}
	}
	for _, dec := range res.Plan.Files[len(res.Removed):] {
		if err := l.add(retentionItem{dec, "keep"}); err != nil {
			return err
		}
	}
	if closed := l.close(); closed != nil {
		return closed
	}
	a.say("%d files of the log went, %s, and %d of queues; the log begins at %d", len(res.Removed), formatSize(removed), res.QueueFiles, s.Stats().Min)
	return err
}

// groupOffsets reads what groups have committed: from Stele's metadata or, in a
// directory that has none, from the broker's file.
func groupOffsets(dir string, apply bool) (all []inspect.GroupOffset, err error) {
	if _, err := os.Stat(filepath.Join(dir, layout.Stele, layout.Meta)); err == nil {
		return steleOffsets(dir)
	}
	path := filepath.Join(dir, layout.Config, "consumerOffset.json")
	data, err := os.ReadFile(path) //nolint:gosec // the directory that was asked for
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--keep-unconsumed: no offsets of groups in %s: neither %s nor %s", dir, filepath.Join(layout.Stele, layout.Meta), path)
	}
	if err != nil {
		return nil, err
	}
	if apply {
		return nil, usagef("--keep-unconsumed --apply: the offsets are in %s; take them over first with 'storectl config import'", path)
	}
	offsets, err := brokerconfig.DecodeConsumerOffsets(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for gt, queues := range offsets.Table {
		for q, off := range queues {
			all = append(all, inspect.GroupOffset{Group: gt.Group, Topic: gt.Topic, Queue: q, Offset: message.QueueOffset(off)})
		}
	}
	slices.SortFunc(all, func(x, y inspect.GroupOffset) int {
		if c := strings.Compare(x.Group+"\x00"+x.Topic, y.Group+"\x00"+y.Topic); c != 0 {
			return c
		}
		return int(x.Queue) - int(y.Queue)
	})
	return all, nil
}

func steleOffsets(dir string) (all []inspect.GroupOffset, err error) {
	m, err := openMeta(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	groups, err := m.Groups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		offsets, err := m.Offsets(g)
		if err != nil {
			return nil, err
		}
		for _, o := range offsets {
			all = append(all, inspect.GroupOffset{Group: g, Topic: o.Topic, Queue: o.Queue, Offset: o.Offset})
		}
	}
	return all, nil
}

func (a *app) newRetentionList(out format) *list {
	return a.newList(out, "FILE", "SIZE", "FIRST STORED", "LAST STORED BY", "ACTION", "REASON")
}

// retentionItem is a file of the log and what became of it, or would.
type retentionItem struct {
	retention.Decision
	action string
}

// Cells implements item.
func (r retentionItem) Cells() []string {
	return []string{
		mappedfile.FileName(r.Base), formatSize(r.Size), formatTime(r.First), formatTime(r.Until), r.action, cell(r.Reason),
	}
}

// AppendJSON implements item.
func (r retentionItem) AppendJSON(dst []byte) []byte {
	type lost struct {
		Offset int64  `json:"offset"`
		By     string `json:"neededBy"`
	}
	losses := []lost{}
	for _, b := range r.Lost {
		losses = append(losses, lost{b.Offset, b.Why})
	}
	b, _ := json.Marshal(struct { // of strings and numbers
		File   string `json:"file"`
		Base   int64  `json:"base"`
		Size   int64  `json:"size"`
		First  int64  `json:"firstStoreTime"`
		Until  int64  `json:"lastStoredBy"`
		Action string `json:"action"`
		Rule   string `json:"rule"`
		Reason string `json:"reason"`
		Lost   []lost `json:"lost"`
	}{mappedfile.FileName(r.Base), r.Base, r.Size, r.First, r.Until, r.action, r.Rule.String(), r.Reason, losses})
	return append(dst, b...)
}
