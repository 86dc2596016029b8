// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

type messagesFlags struct {
	format      *format
	filter      filterFlags
	body, plain bool
	quiet       bool
	logDir      string
}

func (a *app) inspectMessagesCommand() *cobra.Command {
	var f messagesFlags
	cmd := a.command("messages DIR [flags]", "List the messages in the commit log", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectMessages(args[0], &f) })
	cmd.Long = `Messages lists the messages of a store in the order of its commit log.

Every record on the way is checked: lengths, position, checksums. Where there is
none, the damage is reported on stderr with how many bytes it takes, the list
goes on with the next intact record, and the exit status is 1.

A flag that can be repeated takes a message that any of its values fits; of
different flags, all must fit.`
	cmd.Example = example(`
		storectl inspect messages /data/store --topic 'order*' --since 2h
		storectl inspect messages /data/store --tag 'paid || refunded' --until 2026-11-22T14:00:00Z
		storectl inspect messages /data/store --key order-17 --body -o ndjson
		storectl inspect messages /data/store --from 1GiB --limit 10`)
	a.filterFlags(cmd, &f.filter)
	bodyFlags(cmd, &f.body, &f.plain)
	quietFlag(cmd, &f.quiet)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	return cmd
}

// commitLogFlag adds --commitlog, for stores with a log elsewhere.
func commitLogFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "commitlog", "", "`DIR` of the commit log files, if it is not DIR/commitlog (storePathCommitLog)")
	// It fails only for a flag that does not exist.
	_ = cmd.MarkFlagDirname("commitlog")
}

// bodyFlags adds the flags that ask for bodies.
func bodyFlags(cmd *cobra.Command, stored, plain *bool) {
	cmd.Flags().BoolVar(stored, "body", false, "add the body as it is stored: body for UTF-8 text, else bodyBase64 (json and ndjson)")
	cmd.Flags().BoolVar(plain, "decompress", false, "add the body, decompressed if it is compressed (json and ndjson)")
}

// bodyOf says which body those flags ask for.
func bodyOf(stored, plain bool, f format) (inspect.Body, error) {
	switch {
	case !stored && !plain:
		return inspect.BodyNone, nil
	case f == formatTable:
		return inspect.BodyNone, usagef("a table has no room for bodies: --body and --decompress need -o json or -o ndjson")
	case plain:
		return inspect.BodyPlain, nil
	default:
		return inspect.BodyStored, nil
	}
}

func (a *app) inspectMessages(dir string, f *messagesFlags) error {
	filter, err := f.filter.get()
	if err != nil {
		return err
	}
	it := messageItem{}
	if it.Body, err = bodyOf(f.body, f.plain, *f.format); err != nil {
		return err
	}
	bar := a.bar(f.quiet, "messages", 0)
	defer bar.Stop()
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "OFFSET", "TOPIC", "QUEUE", "QUEUE OFFSET", "SIZE", "STORED", "TAGS", "KEYS", "BODY")
	damaged := false
	for rec, err := range d.Messages(a.ctx, filter) {
		var damage *inspect.DamageError
		var file *mappedfile.FileError
		switch {
		case errors.As(err, &damage) || errors.As(err, &file):
			damaged = true
			a.say("%s", oneLine(err))
		case err != nil:
			return a.ended(l, err)
		default:
			it.Message = rec.Message
			if err := l.add(&it); err != nil {
				return err
			}
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

// messageItem is a message in a list.
type messageItem struct{ inspect.Row }

// Cells implements item.
func (m *messageItem) Cells() []string {
	keys, _ := m.Properties.Get(message.PropertyKeys)
	return []string{
		strconv.FormatInt(int64(m.PhysicalOffset), 10), cell(m.Topic), strconv.Itoa(int(m.QueueID)),
		strconv.FormatInt(int64(m.QueueOffset), 10), strconv.Itoa(int(m.Size)), formatTime(m.StoreTimestamp),
		cell(m.Tags()), cell(keys), strconv.Itoa(len(m.Message.Body)),
	}
}
