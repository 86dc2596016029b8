// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
)

func (a *app) inspectCheckpointCommand() *cobra.Command {
	var out *format
	cmd := a.command("checkpoint DIR [flags]", "Show the checkpoint", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectCheckpoint(args[0], *out) })
	cmd.Long = `Checkpoint shows the file of that name: up to which messages log, queues and
index are known to be on disk, by their store times, and from which time on
RocketMQ reads the log again after a crash.

A store without one is sound: it has never been written, or the file was removed,
and then all of the log is read. A file that is too short is damage, and the exit
status is 1.`
	cmd.Example = example(`
		storectl inspect checkpoint /data/store
		storectl inspect checkpoint /data/store -o json`)
	out = formatFlag(cmd)
	return cmd
}

func (a *app) inspectCheckpoint(dir string, f format) error {
	d, err := inspect.Open(dir, inspect.Options{})
	if err != nil {
		return err
	}
	c, problem, err := d.Checkpoint()
	if err != nil {
		return err
	}
	if problem != nil {
		a.say("%s", oneLine(problem))
		return errFindings
	}
	if f != formatTable {
		return a.document(f, c)
	}
	if c == nil {
		_, err = fmt.Fprintln(a.out, "none")
		return err
	}
	t := newTable(a.out)
	for _, row := range [][2]string{
		{"log flushed up to", formatTime(c.Log)},
		{"queues flushed up to", formatTime(c.Queues)},
		{"index flushed up to", formatTime(c.Index)},
		{"master flushed up to", fmt.Sprintf("offset %d", c.MasterFlushed)},
		{"confirmed up to", fmt.Sprintf("offset %d", c.Confirmed)},
		{"after a crash", "files that begin with a message of " + formatTime(c.RecoverFrom()) + " or older are not read again, but for the last of them"},
	} {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", row[0], row[1]) // Flush reports it
	}
	return t.Flush()
}
