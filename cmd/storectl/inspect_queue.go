// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

type queueFlags struct {
	format      *format
	from, limit int64
	tags        tagFlag
	body, plain bool
	logDir      string
}

func (a *app) inspectQueueCommand() *cobra.Command {
	var f queueFlags
	cmd := a.command("queue DIR TOPIC QUEUE [flags]", "List the entries of a consume queue", cobra.ExactArgs(3),
		func(args []string) error { return a.inspectQueue(args[0], args[1], args[2], &f) })
	cmd.ValidArgsFunction = completeNames(2)
	cmd.Long = `Queue lists the entries of one consume queue, each with the message that it
names. An entry whose message can't be read, or is another one, is reported on
stderr as well, and the exit status is 1.`
	cmd.Example = example(`
		storectl inspect queue /data/store orders 0
		storectl inspect queue /data/store orders 0 --from 1000 --limit 20 -o ndjson
		storectl inspect queue /data/store orders 0 --tag 'paid || refunded'`)
	fl := cmd.Flags()
	fl.Int64Var(&f.from, "from", 0, "begin at this queue `OFFSET`")
	fl.Int64Var(&f.limit, "limit", 0, "stop after `N` entries (0: no limit)")
	tagsFlag(cmd, &f.tags)
	bodyFlags(cmd, &f.body, &f.plain)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) inspectQueue(dir, topic, queue string, f *queueFlags) error {
	id, err := strconv.ParseInt(queue, 10, 32)
	if err != nil || id < 0 {
		return usagef("%q is no queue id", queue)
	}
	if f.from < 0 || f.limit < 0 {
		return usagef("--from and --limit can't be negative")
	}
	it := entryItem{}
	if it.Body, err = bodyOf(f.body, f.plain, *f.format); err != nil {
		return err
	}
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "QUEUE OFFSET", "OFFSET", "SIZE", "TAGS CODE", "STORED", "TAGS", "KEYS", "BODY", "ERROR")
	r := inspect.QueueRange{From: message.QueueOffset(f.from), Limit: f.limit, Tags: f.tags.filter()}
	damaged := false
	for e, err := range d.Queue(a.ctx, topic, int32(id), r) {
		if err != nil {
			return a.ended(l, err)
		}
		if e.IsDamage() {
			damaged = true
			a.say("entry %d: %s", e.At, oneLine(e.Err))
		}
		it.Entry = e
		if err := l.add(&it); err != nil {
			return err
		}
	}
	if err := l.close(); err != nil {
		return err
	}
	if damaged {
		return errFindings
	}
	return nil
}

// entryItem is a queue entry in a list.
type entryItem struct{ inspect.EntryRow }

// Cells implements item.
func (e *entryItem) Cells() []string {
	cells := []string{
		strconv.FormatInt(int64(e.At), 10), strconv.FormatInt(int64(e.Offset), 10), strconv.Itoa(int(e.Size)),
		strconv.FormatInt(e.TagsCode, 10), "-", "-", "-", "-", "-",
	}
	if m := e.Message; m != nil {
		keys, _ := m.Properties.Get(message.PropertyKeys)
		cells[4], cells[5], cells[6] = formatTime(m.StoreTimestamp), cell(m.Tags()), cell(keys)
		cells[7] = strconv.Itoa(len(m.Body))
	}
	switch {
	case e.Err != nil:
		cells[8] = cell(oneLine(e.Err))
	case e.IsBlank():
		cells[8] = "blank"
	}
	return cells
}
