// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/brokerconfig"
)

func (a *app) inspectCommand() *cobra.Command {
	var out *format
	var logDir string
	var memory bool
	cmd := a.command("inspect DIR [flags]", "Show what is in a store", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectOverview(args[0], logDir, memory, *out) })
	cmd.Long = `Inspect gives an overview of a store: its commit log, topics and queues with
their offsets and time spans, the checkpoint, whether it was closed in order, and
what groups of consumers have not consumed, where their offsets are known: from
Stele's metadata, or a broker's config/consumerOffset.json.

It reads little, so it is quick on a store of any size, and finds only damage
that lies on its way; then the exit status is 1.`
	cmd.Example = example(`
		storectl inspect /data/store
		storectl inspect /data/store -o json`)
	cmd.Flags().BoolVar(&memory, "memory", false, "add how much of the files is in memory; no page is touched")
	commitLogFlag(cmd, &logDir)
	out = formatFlag(cmd)
	cmd.AddCommand(a.inspectMessagesCommand(), a.inspectQueueCommand(), a.inspectIndexCommand(), a.inspectDelayCommand(),
		a.inspectCheckpointCommand(), a.inspectFileCommand())
	return cmd
}

func (a *app) inspectOverview(dir, logDir string, memory bool, f format) error {
	d, err := inspect.Open(dir, inspect.Options{CommitLog: logDir})
	if err != nil {
		return err
	}
	o, err := d.Overview(a.ctx)
	if err != nil {
		return err
	}
	switch err := addGroups(o, dir); {
	case errors.Is(err, brokerconfig.ErrMalformed):
		o.Problems = append(o.Problems, inspect.Problem{Err: err})
	case err != nil: // an owner may be writing it; the rest of the overview stands
		a.say("what groups have consumed is not known: %s", oneLine(err))
	}
	if memory {
		if err := d.Residency(a.ctx, o); err != nil {
			return err
		}
	}
	if f == formatTable {
		err = a.printOverview(o, memory)
	} else {
		err = a.document(f, o)
	}
	if err != nil {
		return err
	}
	for _, p := range o.Problems {
		a.say("%s", oneLine(p))
	}
	if len(o.Problems) > 0 {
		return errFindings
	}
	return nil
}

func (a *app) printOverview(o *inspect.Overview, memory bool) error {
	t := newTable(a.out)
	line := func(name, text string, args ...any) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(text, args...)) // Flush reports it
	}
	line("store", "%s", cell(o.Path))
	l := o.CommitLog
	line("commit log", "%d files of %s, offsets %d to %d (%s)", l.Files, formatSize(l.FileSize), l.Min, l.Max, formatSize(int64(l.Max-l.Min)))
	line("stored", "%s to %s", formatTime(l.FirstStoreTime), formatTime(l.LastStoreTime))
	entries := int64(0)
	for _, t := range o.Topics {
		entries += t.Entries
	}
	line("queues", "%d of %d topics, %d entries", len(o.Queues), len(o.Topics), entries)
	line("files", "%s", partsText(o, func(p inspect.PartOverview) string {
		return fmt.Sprintf("%d (%s)", p.Files, formatSize(p.Bytes))
	}))
	if memory {
		line("in memory", "%s", partsText(o, func(p inspect.PartOverview) string { return formatSize(p.Resident) }))
	}
	if o.Reached != nil {
		line("marks", "the log reached offset %d", *o.Reached)
	}
	line("checkpoint", "%s", checkpointText(o.Checkpoint))
	line("abort", "%s", abortText(o.Abort))
	line("config", "%s", cell(strings.Join(o.Config, ", ")))
	line("stele", "%s", map[bool]string{true: "yes", false: "no"}[o.Stele])
	if x := o.TimeIndex; x != nil {
		line("time index", "%s", timeIndexText(x))
	}
	if len(o.NotShown) > 0 {
		line("not shown", "%s", strings.Join(o.NotShown, ", "))
	}
	if err := t.Flush(); err != nil || len(o.Queues) == 0 {
		return err
	}
	if _, err := a.out.WriteString("\n"); err != nil {
		return err
	}
	list := a.newList(formatTable, queueHeader...)
	if err := list.begin(); err != nil {
		return err
	}
	for i := range o.Queues {
		if err := list.row(queueCells(&o.Queues[i])); err != nil {
			return err
		}
	}
	if err := list.table.Flush(); err != nil {
		return err
	}
	return a.printGroups(o)
}

// partsText says something of each part of the store.
func partsText(o *inspect.Overview, text func(inspect.PartOverview) string) string {
	var words []string
	for _, p := range o.Parts {
		words = append(words, p.Part+" "+text(p))
	}
	return strings.Join(words, ", ")
}

func queueCells(q *inspect.QueueOverview) []string {
	return []string{
		cell(q.Topic), strconv.Itoa(int(q.Queue)), strconv.FormatInt(int64(q.Min), 10), strconv.FormatInt(int64(q.Max), 10),
		strconv.FormatInt(q.Entries, 10), formatTime(q.FirstStoreTime), formatTime(q.LastStoreTime),
	}
}

func timeIndexText(x *inspect.TimeIndexOverview) string {
	if x.From < 0 {
		return "empty"
	}
	return fmt.Sprintf("%d entries from offset %d on, one for %s", x.Entries, x.From, formatSize(x.Stretch))
}

func checkpointText(c *inspect.CheckpointValues) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("log %s, queues %s, index %s, master flushed %d, confirmed %d",
		formatTime(c.Log), formatTime(c.Queues), formatTime(c.Index), c.MasterFlushed, c.Confirmed)
}

func abortText(a *inspect.Abort) string {
	switch {
	case a == nil:
		return "none: closed in order"
	case a.PID == 0:
		return "there, without a process id: not closed in order"
	case a.Alive:
		return fmt.Sprintf("there: process %d runs on this machine, so the store may be open", a.PID)
	default:
		return fmt.Sprintf("there: process %d does not run on this machine, so the store was not closed in order", a.PID)
	}
}
