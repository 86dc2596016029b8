// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/rebuild"
)

type rebuildFlags struct {
	format    *format
	logDir    string
	to        string
	inPlace   bool
	dryRun    bool
	noIndex   bool
	quiet     bool
	log       choice
	queueSize size
	sizes     keyindex.Sizes
	levels    string
}

func (a *app) rebuildCommand() *cobra.Command {
	var f rebuildFlags
	cmd := a.command("rebuild DIR --to NEW | --in-place [flags]", "Make consume queues and indexes anew from the log", cobra.ExactArgs(1),
		func(args []string) error { return a.rebuild(args[0], &f) })
	cmd.Long = `Rebuild makes the consume queues, the key index and Stele's time index from the
commit log alone, and lists the queues. Queue files are byte for byte what
RocketMQ makes of the same log. Damage in the log is reported on stderr, and
everything that can be read around it is put into the queues; then the exit
status is 1.

With --to it makes a new directory and only reads the old one. Until all is in it
and on disk it is called NEW.partial. It has its own copy of everything else: the
configuration, Stele's topics and offsets. It has no abort file, and its
checkpoint names the last record: a broker, or Stele, opens it as one that was
closed in order. How the log gets there is what --log says:

  link     the files that the log has gone past are hard links, the file that it
           ends in is cloned or copied
  reflink  all files are clones, on a file system that has them
  copy     all files are copied; holes stay holes
  auto     link where that is possible, else clone, else copy

A hard link is the same file under two names. Who appends to either directory
writes to the last file only, which is never a link. But a program that writes
into an older file of the log, such as a recovery that cuts the log further back,
or a repair by hand, changes it in both directories. Use --log copy when the old
directory is kept as a backup.

A store that somebody has open is never linked. Its log is copied up to where it
ends at that moment, unless it has metadata of Stele's, which can't be copied
then: that is refused.

With --in-place the old queues and indexes make room for the new ones, which are
finished and on disk before. It takes the store's lock, and leaves the log as it
is. The old ones are kept in DIR/before-rebuild-TIME; remove that when all is
well.

A queue of which the log holds no message any more keeps its last entry, and so
the number of its next message.`
	cmd.Example = example(`
		storectl rebuild /data/store --to /data/store.new
		storectl rebuild /data/store --to /backup/store --log copy
		storectl rebuild /data/store --in-place --dry-run
		storectl rebuild /data/store --in-place`)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "make a new directory `NEW`, which must be missing or empty")
	fl.BoolVar(&f.inPlace, "in-place", false, "put the new queues and indexes in the place of the old ones")
	fl.BoolVar(&f.dryRun, "dry-run", false, "read the log, list the queues that it makes, and change nothing")
	f.log.value = rebuild.LogAuto.String()
	choiceFlag(cmd, &f.log, "log", "", "how log files get into NEW: `HOW` is auto, link, reflink or copy", rebuild.LogModes...)
	fl.Var(&f.queueSize, "queue-file-size", "size of the queue files (default: that of the files that are there, else 6000000 B)")
	fl.IntVar(&f.sizes.Slots, "index-slots", 0, "slots of each index file (maxHashSlotNum; default: as those that are there, else 5000000)")
	fl.IntVar(&f.sizes.Entries, "index-entries", 0, "entries of each index file (maxIndexNum; default: as those that are there, else 20000000)")
	fl.BoolVar(&f.noIndex, "no-index", false, "make no key index (messageIndexEnable=false); in place the old one stays")
	fl.StringVar(&f.levels, "delay-levels", "", "`LEVELS` of the broker that wrote the log (messageDelayLevel), if they are not RocketMQ's own")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no remarks and no summary on stderr")
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("to", "in-place")
	cmd.MarkFlagsOneRequired("to", "in-place")
	_ = cmd.MarkFlagDirname("to") // fails only for a flag that does not exist
	return cmd
}

func (f *rebuildFlags) options() (o rebuild.Options, err error) {
	o = rebuild.Options{
		CommitLog: f.logDir, To: f.to, DryRun: f.dryRun, QueueFileSize: int64(f.queueSize), Index: f.sizes, NoIndex: f.noIndex,
	}
	if f.to == "" && !f.inPlace {
		return o, usagef("--to needs the name of a directory")
	}
	if f.sizes.Slots < 0 || f.sizes.Entries < 0 {
		return o, usagef("--index-slots and --index-entries can't be negative")
	}
	for i, name := range rebuild.LogModes {
		if name == f.log.value {
			o.Log = rebuild.LogMode(i)
		}
	}
	if f.levels != "" {
		if o.Levels, err = message.ParseDelayLevels(f.levels); err != nil {
			return o, usagef("--delay-levels: %w", err)
		}
	}
	return o, nil
}

func (a *app) rebuild(dir string, f *rebuildFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	o.Report = func(n rebuild.Notice) {
		switch {
		case n.Damage:
			a.say("%s", oneLine(n.Err))
		case !f.quiet:
			a.say("note: %s", oneLine(n.Err))
		}
	}
	bar := a.bar(f.quiet, "rebuild", 0)
	o.Progress = bar.Set
	res, err := rebuild.Run(a.ctx, dir, o)
	bar.Stop()
	if errors.Is(err, rebuild.ErrTarget) || errors.Is(err, rebuild.ErrPartial) {
		return usageError{err}
	}
	if err != nil {
		return askSizes(err)
	}
	l := a.newList(*f.format, "TOPIC", "QUEUE", "MIN", "MAX", "ENTRIES")
	for i := range res.Queues {
		if err := l.add(queueMade{&res.Queues[i]}); err != nil {
			return err
		}
	}
	if err := l.close(); err != nil {
		return err
	}
	if !f.quiet {
		a.sayRebuilt(dir, f, &res)
	}
	if res.Damage > 0 {
		return errFindings
	}
	return nil
}

// sayRebuilt sums up.
func (a *app) sayRebuilt(dir string, f *rebuildFlags, res *rebuild.Result) {
	what := fmt.Sprintf("%d queues of %d records (%s)", len(res.Queues), res.Records, formatSize(res.Bytes))
	switch {
	case f.dryRun:
		a.say("dry run: %s would be made, nothing was changed", what)
	case f.inPlace:
		a.say("%s made in %s; the old ones are in %s", what, dir, res.Aside)
	default:
		a.say("%s made in %s; log files: %d linked, %d cloned, %d copied", what, f.to, res.Linked, res.Cloned, res.Copied)
	}
}

// queueMade is a queue in a list.
type queueMade struct{ *rebuild.Queue }

// Cells implements item.
func (q queueMade) Cells() []string {
	return []string{
		cell(q.Topic), strconv.Itoa(int(q.QueueID)), strconv.FormatInt(int64(q.Min), 10),
		strconv.FormatInt(int64(q.Max), 10), strconv.FormatInt(q.Entries, 10),
	}
}

// AppendJSON implements item.
func (q queueMade) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(q.Queue) // of strings and numbers
	return append(dst, b...)
}
