// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

type fetchFlags struct {
	format      *format
	topic       string
	queue       int32
	from, max   int64
	since       moment
	tags        tagFlag
	body, plain bool
	raw         bool
	logDir      string
}

func (a *app) fetchCommand() *cobra.Command {
	var f fetchFlags
	f.since.now = a.now
	cmd := a.command("fetch DIR --topic TOPIC [flags]", "Fetch messages of a queue", cobra.ExactArgs(1),
		func(args []string) error { return a.fetch(args[0], &f) })
	cmd.Long = `Fetch prints messages of one queue in the order of their queue offsets, as a
consumer would get them. It neither locks the store nor changes it, so it works
beside whoever has it open.

With --since it begins at the first message that was stored then or later, which
it finds by bisection. With --tag it passes over the others: the hash in the
queue's entry is compared first, then the tag itself.

A message that can't be read is reported on stderr, the next ones follow, and the
exit status is 1.`
	cmd.Example = example(`
		storectl fetch ./data --topic orders
		storectl fetch ./data --topic orders --queue 3 --from 1200 --max 100 -o ndjson --body
		storectl fetch ./data --topic orders --tag 'paid || refunded' --since 2h
		storectl fetch ./data --topic numbers --max 1000 --raw`)
	fl := cmd.Flags()
	fl.StringVar(&f.topic, "topic", "", "topic (required)")
	fl.Int32Var(&f.queue, "queue", 0, "queue of the topic")
	fl.Int64Var(&f.from, "from", 0, "first queue offset; below the queue's minimum it means the minimum")
	fl.Int64Var(&f.max, "max", 32, "how many messages at most (0: no limit)")
	fl.Var(&f.since, "since", "begin with the first message stored at or after this time: RFC 3339, or a duration before now like 90m or 7d")
	tagsFlag(cmd, &f.tags)
	fl.BoolVar(&f.raw, "raw", false, "print the bodies alone, decompressed, each with a line end")
	bodyFlags(cmd, &f.body, &f.plain)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	_ = cmd.MarkFlagRequired("topic") // fails only for a flag that does not exist
	return cmd
}

func (a *app) fetch(dir string, f *fetchFlags) error {
	if f.queue < 0 || f.from < 0 || f.max < 0 {
		return usagef("--queue, --from and --max can't be negative")
	}
	body, err := bodyOf(f.body, f.plain, *f.format)
	if err != nil {
		return err
	}
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "QUEUE OFFSET", "STORED", "TAGS", "KEYS", "SIZE", "BODY")
	r := inspect.QueueRange{From: message.QueueOffset(f.from), Limit: f.max, Since: f.since.ms, Tags: f.tags.filter()}
	damaged := false
	for e, err := range d.Queue(a.ctx, f.topic, f.queue, r) {
		switch {
		case err != nil && f.raw:
			return err
		case err != nil:
			return a.ended(l, err)
		case e.IsDamage():
			damaged = true
			a.say("queue offset %d: %s", e.At, oneLine(e.Err))
			continue
		case e.Message == nil: // blank, or expired
			continue
		}
		if err := a.fetched(l, f.raw, &fetchItem{inspect.Row{Message: e.Message, Body: body}}); err != nil {
			return err
		}
	}
	if !f.raw {
		if err := l.close(); err != nil {
			return err
		}
	}
	if damaged {
		return errFindings
	}
	return nil
}

func (a *app) fetched(l *list, raw bool, it *fetchItem) error {
	if !raw {
		return l.add(it)
	}
	if _, err := a.out.Write(it.plain()); err != nil {
		return err
	}
	return a.out.WriteByte('\n')
}

// fetchItem is a message in a list, with what a consumer looks at first.
type fetchItem struct{ inspect.Row }

// plain is the body as the producer wrote it; one that can't be decompressed is
// given as it is stored.
func (m *fetchItem) plain() []byte {
	if b, err := m.PlainBody(0); err == nil {
		return b
	}
	return m.Message.Body
}

// bodyCell bounds the text of a body in a table, in bytes.
const bodyCell = 60

// Cells implements item.
func (m *fetchItem) Cells() []string {
	keys, _ := m.Properties.Get(message.PropertyKeys)
	text := bytes.TrimRight(m.plain(), "\r\n") // a line of text looks like one
	more := ""
	if len(text) > bodyCell {
		text, more = text[:bodyCell], "…"
	}
	return []string{
		strconv.FormatInt(int64(m.QueueOffset), 10), formatTime(m.StoreTimestamp),
		cell(m.Tags()), cell(keys), strconv.Itoa(len(m.Message.Body)), cell(string(text)) + more,
	}
}
