// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// choice is a word out of a few, as a flag.
type choice struct {
	value string
	known []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "FORMAT" }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.known, s) {
		return fmt.Errorf("must be one of %s", strings.Join(c.known, ", "))
	}
	c.value = s
	return nil
}

// choiceFlag adds a flag that takes one of known; the first one is the default
// unless value is set.
func choiceFlag(cmd *cobra.Command, c *choice, name, short, usage string, known ...string) {
	c.known = known
	cmd.Flags().VarP(c, name, short, usage)
	// It fails only for a flag that does not exist, or twice for one.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp))
}

const formatLines = "lines"

type exportFlags struct {
	filter filterFlags
	output choice
	quiet  bool
	logDir string
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	cmd := a.command("export DIR [flags]", "Write messages as ndjson, or their bodies as lines of text", cobra.ExactArgs(1),
		func(args []string) error { return a.export(args[0], &f) })
	cmd.Long = `Export writes the messages of a store in the order of its commit log, each as a
JSON object on a line of its own, from which 'storectl import' makes the same
message again: bodies as they are stored, and what the fields can't tell as
propertiesBase64 and preparedTransactionOffset. It neither locks the store nor
changes it, so it works beside whoever has it open.

With -o lines it writes the bodies alone, decompressed, each with a line end. A
body that holds line ends itself can't be told apart in there; how many do is
said on stderr.

Messages that wait to be delivered later are in it, and so are those that were
delivered, in the topic that they waited in and in their own; import leaves out
what need not wait any more.

Damage on the way is reported on stderr with how many bytes it takes, what is
intact behind it follows, and the exit status is 1.

A flag that can be repeated takes a message that any of its values fits; of
different flags, all must fit.`
	cmd.Example = example(`
		storectl export /data/store >messages.ndjson
		storectl export /data/store --topic 'order*' --since 2h | storectl import ./orders
		storectl export /data/store --topic logs --queue 0 -o lines | grep -c ERROR`)
	a.filterFlags(cmd, &f.filter)
	quietFlag(cmd, &f.quiet)
	commitLogFlag(cmd, &f.logDir)
	f.output.value = string(formatNDJSON)
	choiceFlag(cmd, &f.output, "output", "o", "output format: ndjson, lines", string(formatNDJSON), formatLines)
	return cmd
}

func (a *app) export(dir string, f *exportFlags) error {
	filter, err := f.filter.get()
	if err != nil {
		return err
	}
	bar := a.bar(f.quiet, "export", 0)
	defer bar.Stop()
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set})
	if err != nil {
		return err
	}
	if filter.To == 0 {
		// What comes meanwhile may be what is exported here: into the same store.
		end, err := d.End(a.ctx)
		if err != nil {
			return err
		}
		if end > 0 {
			filter.To = max(end, filter.From)
		}
	}
	w := &messageWriter{out: a.out, lines: f.output.value == formatLines}
	damaged, err := a.eachMessage(a.ctx, d, filter, w.write)
	if w.broken > 0 {
		a.say("%d bodies hold line ends: read as lines, they are more messages than they were", w.broken)
	}
	if err == nil && damaged {
		return errFindings
	}
	return err
}

// eachMessage hands on the messages of a log and says on stderr what is damaged.
func (a *app) eachMessage(ctx context.Context, d *inspect.Dir, filter inspect.Filter, do func(*message.Message) error) (damaged bool, err error) {
	for rec, err := range d.Messages(ctx, filter) {
		var damage *inspect.DamageError
		var file *mappedfile.FileError
		switch {
		case errors.As(err, &damage) || errors.As(err, &file):
			damaged = true
			a.say("%s", oneLine(err))
		case err != nil:
			return damaged, err
		default:
			if err := do(rec.Message); err != nil {
				return damaged, err
			}
		}
	}
	return damaged, nil
}

// messageWriter writes messages for a program to read.
type messageWriter struct {
	out    *bufio.Writer
	lines  bool
	broken int64 // bodies with line ends in them
	buf    []byte
}

func (w *messageWriter) write(m *message.Message) error {
	if !w.lines {
		row := inspect.Row{Message: m, Body: inspect.BodyStored, Exact: true}
		w.buf = append(row.AppendJSON(w.buf[:0]), '\n')
		_, err := w.out.Write(w.buf)
		return err
	}
	body := (&fetchItem{inspect.Row{Message: m}}).plain()
	if bytes.IndexByte(body, '\n') >= 0 {
		w.broken++
	}
	if _, err := w.out.Write(body); err != nil {
		return err
	}
	return w.out.WriteByte('\n')
}
