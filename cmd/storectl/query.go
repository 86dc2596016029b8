// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
)

type queryFlags struct {
	format      *format
	query       inspect.KeyQuery
	begin, end  moment
	id          string
	body, plain bool
	logDir      string
}

func (a *app) queryCommand() *cobra.Command {
	var f queryFlags
	f.begin.now, f.end.now = a.now, a.now
	cmd := a.command("query DIR {--topic TOPIC --key KEY | --id ID} [flags]", "Find messages by key or by id", cobra.ExactArgs(1),
		func(args []string) error { return a.query(args[0], &f) })
	cmd.Long = `Query prints the messages of a topic that have a key, newest first, by the key
index. A message has one key as its UNIQ_KEY, and others as the words of its KEYS.
With --id it prints the message of an id (msgId, RocketMQ's offsetMsgId).

It neither locks the store nor changes it, so it works on a broker's directory
and beside whoever has it open. Damage on the way is reported on stderr, and the
exit status is 1.

The index files do not say how many slots and entries they have. RocketMQ's
defaults are known, other numbers are taken from a file's content; where that
does not tell, give the broker's maxHashSlotNum and maxIndexNum.`
	cmd.Example = example(`
		storectl query /data/store --topic orders --key order-17
		storectl query /data/store --topic orders --key 7F0000010001 --unique -o ndjson --body
		storectl query /data/store --id C000020100002A9F00000000000002E4`)
	fl := cmd.Flags()
	fl.StringVar(&f.query.Topic, "topic", "", "topic of the messages")
	fl.StringVar(&f.query.Key, "key", "", "`KEY` of the messages")
	fl.BoolVar(&f.query.Unique, "unique", false, "only the message whose UNIQ_KEY is the key")
	fl.StringVar(&f.id, "id", "", "message `ID`, 32 hex digits or 56")
	fl.Var(&f.begin, "begin", "only messages stored at or after this time: RFC 3339, or a duration before now like 90m or 7d")
	fl.Var(&f.end, "end", "only messages stored at or before this time")
	fl.Int64Var(&f.query.Max, "max", 64, "how many messages at most (0: no limit)")
	indexSizeFlags(cmd, &f.query.Sizes)
	bodyFlags(cmd, &f.body, &f.plain)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("id", "key")
	cmd.MarkFlagsMutuallyExclusive("id", "topic")
	cmd.MarkFlagsRequiredTogether("topic", "key")
	cmd.MarkFlagsOneRequired("id", "key")
	return cmd
}

// indexSizeFlags adds the flags for index files that do not tell their sizes.
func indexSizeFlags(cmd *cobra.Command, z *keyindex.Sizes) {
	cmd.Flags().IntVar(&z.Slots, "index-slots", 0, "slots of each index file (maxHashSlotNum), if they can't be told")
	cmd.Flags().IntVar(&z.Entries, "index-entries", 0, "entries of each index file (maxIndexNum), if they can't be told")
}

// askSizes names the flags that a directory needs which does not tell the sizes
// of its index files.
func askSizes(err error) error {
	if errors.Is(err, keyindex.ErrSizes) {
		return fmt.Errorf("%w; give --index-slots and --index-entries", err)
	}
	return err
}

func (a *app) query(dir string, f *queryFlags) error {
	q := f.query
	q.Begin, q.End = f.begin.ms, f.end.ms
	switch {
	case q.Max < 0 || q.Sizes.Slots < 0 || q.Sizes.Entries < 0:
		return usagef("--max, --index-slots and --index-entries can't be negative")
	case f.id == "" && (q.Topic == "" || q.Key == ""):
		return usagef("--topic and --key can't be empty")
	}
	it := messageItem{}
	var err error
	if it.Body, err = bodyOf(f.body, f.plain, *f.format); err != nil {
		return err
	}
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "OFFSET", "TOPIC", "QUEUE", "QUEUE OFFSET", "SIZE", "STORED", "TAGS", "KEYS", "BODY")
	if f.id != "" {
		if it.Message, err = d.ByID(f.id); err != nil {
			return err
		}
		if err := l.add(&it); err != nil {
			return err
		}
		return l.close()
	}
	damaged := false
	for m, err := range d.Query(a.ctx, q) {
		switch {
		case err != nil && isDamage(err):
			damaged = true
			a.say("%s", oneLine(err))
		case err != nil:
			return a.ended(l, askSizes(err))
		default:
			it.Message = m
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
