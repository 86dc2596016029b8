// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
)

type verifyFlags struct {
	format *format
	logDir string
	quiet  bool
	sizes  keyindex.Sizes
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := a.command("verify DIR [flags]", "Check every record and every queue entry", cobra.ExactArgs(1),
		func(args []string) error { return a.verify(args[0], &f) })
	cmd.Long = `Verify reads a store once, from end to end, and compares everything with
everything: each record with its checksums and its place, each record with its
entry in its queue and each entry with its record, each key with its entry in the
key index and the chains, slots and headers of that, Stele's time index with the
records, the checkpoint with the log.

What is wrong is listed: the kind, the file, the offset (the physical offset for
a finding in the log, the position in the file for any other), and what was
expected. One damaged record hides none behind it. Nothing is changed, no lock
is taken, and the store may be open meanwhile.

What a kill leaves behind by design, and a clock that was set back, is a note on
stderr and no finding. The exit status is 1 if there are findings.`
	cmd.Example = example(`
		storectl verify /data/store
		storectl verify /data/store -o ndjson | jq -r .kind | sort | uniq -c`)
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "no notes, no summary and no progress on stderr")
	indexSizeFlags(cmd, &f.sizes)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) verify(dir string, f *verifyFlags) error {
	if f.sizes.Slots < 0 || f.sizes.Entries < 0 {
		return usagef("--index-slots and --index-entries can't be negative")
	}
	bar := a.bar(f.quiet, "verify", 0)
	defer bar.Stop()
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set, Index: f.sizes})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "KIND", "FILE", "OFFSET", "TOPIC", "QUEUE", "QUEUE OFFSET", "DETAIL")
	sum, err := d.Verify(a.ctx, func(x *inspect.Finding) error {
		if !x.Note {
			return l.add(&findingItem{x})
		}
		if !f.quiet {
			a.say("note: %s", noteLine(x))
		}
		return nil
	})
	if err != nil {
		return a.ended(l, err)
	}
	if err := l.close(); err != nil {
		return err
	}
	if !f.quiet {
		a.say("%d records (%d bytes) and %d entries of %d queues read, %d findings", sum.Records, sum.Bytes, sum.Entries, sum.Queues, sum.Findings)
	}
	if sum.Findings > 0 {
		return errFindings
	}
	return nil
}

func noteLine(f *inspect.Finding) string {
	place := ""
	switch {
	case f.File != "" && f.Offset >= 0:
		place = f.File + ", offset " + strconv.FormatInt(f.Offset, 10) + ": "
	case f.File != "":
		place = f.File + ": "
	}
	return place + f.Detail
}

// findingItem is a finding in a list.
type findingItem struct{ *inspect.Finding }

// Cells implements item.
func (f *findingItem) Cells() []string {
	offset, topic, queue, at := "-", "-", "-", "-"
	if f.Offset >= 0 {
		offset = strconv.FormatInt(f.Offset, 10)
	}
	if f.Queued {
		topic, queue, at = cell(f.Topic), strconv.Itoa(int(f.QueueID)), strconv.FormatInt(int64(f.QueueOffset), 10)
	}
	return []string{string(f.Kind), cell(f.File), offset, topic, queue, at, cell(f.Detail)}
}
