// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/transfer"
)

// copyFlags are the flags of the commands that put messages into a store.
type copyFlags struct {
	topics              []string
	delayed             choice
	quiet               bool
	fileSize, queueSize size
}

func copyFlagsOf(cmd *cobra.Command, f *copyFlags, sizes string) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.topics, "map-topic", nil, "store the messages of a topic as another one's, as `OLD=NEW` (can be repeated)")
	f.delayed.value = transfer.DelayedWaiting.String()
	choiceFlag(cmd, &f.delayed, "delayed", "", "`WHICH` messages to take of those that waited for a later delivery: waiting, all, none",
		transfer.DelayedWaiting.String(), transfer.DelayedAll.String(), transfer.DelayedNone.String())
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no summary and no progress on stderr")
	fl.Var(&f.fileSize, "file-size", "size of the commit log files of a new store ("+sizes+")")
	fl.Var(&f.queueSize, "queue-file-size", "size of the queue files of a new store (default 6000000 B)")
}

// topicMap reads --map-topic.
func (f *copyFlags) topicMap() (map[string]string, error) {
	to := make(map[string]string)
	for _, pair := range f.topics {
		from, name, ok := strings.Cut(pair, "=")
		if !ok || from == "" {
			return nil, usagef("--map-topic %q: want OLD=NEW", pair)
		}
		if err := message.CheckTopic(name); err != nil {
			return nil, usagef("--map-topic %q: %w", pair, err)
		}
		if was, twice := to[from]; twice && was != name {
			return nil, usagef("--map-topic: %s is mapped to %s and to %s", from, was, name)
		}
		to[from] = name
	}
	return to, nil
}

// which is --delayed; its value was checked when it was set.
func (f *copyFlags) which() transfer.Delayed {
	d, _ := transfer.ParseDelayed(f.delayed.value)
	return d
}

type importFlags struct {
	copyFlags
	lines    bool
	topic    string
	queue    int32
	tags     string
	fromLine int64
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := a.command("import DIR [FILE] [flags]", "Append messages from ndjson, or from lines of text", cobra.RangeArgs(1, 2),
		func(args []string) error { return a.importFrom(args, &f) })
	cmd.ValidArgsFunction = nil // the second argument is a file
	cmd.Long = `Import appends what 'storectl export' wrote, from a file or from standard input,
to the store in DIR, or to a new one. It must not be open anywhere else. A new
store is called DIR.partial until the import is done.

A message keeps its topic, queue, body (compressed if it was), properties with
tags and keys, flag, system flags, born time and host, and reconsume times. The
store gives anew: its place in the log, its queue offset, its store time and host,
the message id that follows from them, and the checksum over the record.

Queue offsets go on where a queue of DIR ends, and begin at 0 in a new one. So
they are the old ones only if a queue was exported as a whole from offset 0 on;
consumer offsets of the old store fit the new one only then, and so do the
queue offsets in a transaction's op messages.

Messages are stored, not sent: DELAY and TIMER properties are kept and not acted
on. Half messages stay half messages, without a place in a queue. Of messages in
the topics in which messages wait (SCHEDULE_TOPIC_XXXX, rmq_sys_wheel_timer) those
are taken that are not due yet, and wait on; --delayed all takes the others as
well, and they are delivered when DIR is opened next.

A line needs a topic and may leave out all else; what it says of tags, keys,
bodySize and bodyCRC must fit. A line that is no message, or that the store
refuses, ends the import with the exit status 1: all lines before it are in, and
--from-line goes on there.

With --lines each line of text becomes the body of a message of --topic.`
	cmd.Example = example(`
		storectl export /data/store | storectl import ./copy
		storectl import ./copy messages.ndjson --map-topic orders=orders-test
		storectl import ./copy messages.ndjson --from-line 1201
		storectl import ./logs access.log --lines --topic access`)
	fl := cmd.Flags()
	fl.BoolVar(&f.lines, "lines", false, "make each line of text a message")
	fl.StringVar(&f.topic, "topic", "", "`TOPIC` of the messages, with --lines")
	fl.Int32Var(&f.queue, "queue", 0, "`QUEUE` of the messages, with --lines")
	fl.StringVar(&f.tags, "tags", "", "`TAG` of the messages, with --lines")
	fl.Int64Var(&f.fromLine, "from-line", 1, "begin with line `N`: go on with an import that ended before")
	copyFlagsOf(cmd, &f.copyFlags, "default 1 GiB")
	return cmd
}

// template is the message that each line is put in, or nil for ndjson.
func (f *importFlags) template() (*message.Message, error) {
	if !f.lines {
		if f.topic != "" || f.queue != 0 || f.tags != "" {
			return nil, usagef("--topic, --queue and --tags are for --lines: a line of ndjson has its own")
		}
		return nil, nil
	}
	m := &message.Message{Topic: f.topic, QueueID: f.queue}
	m.SetTags(f.tags)
	if err := (message.Encoder{PropertyCRC: true}).Validate(m); err != nil {
		return nil, usageError{err}
	}
	return m, nil
}

func (a *app) importFrom(args []string, f *importFlags) (err error) {
	im := &transfer.Import{Input: a.in, From: f.fromLine, Now: a.now(), Delayed: f.which()}
	if f.fromLine < 1 {
		return usagef("--from-line %d: lines count from 1", f.fromLine)
	}
	if im.Lines, err = f.template(); err != nil {
		return err
	}
	if im.Topics, err = f.topicMap(); err != nil {
		return err
	}
	if len(args) > 1 && args[1] != "-" {
		file, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // only read
		im.Input = file
	}
	t, err := transfer.OpenTarget(args[0], f.fromLine > 1, store.Options{FileSize: int64(f.fileSize), QueueFileSize: int64(f.queueSize)})
	if errors.Is(err, transfer.ErrPartial) {
		return fmt.Errorf("%w with --from-line", err)
	}
	if err != nil {
		return storeFailure(err)
	}
	im.Store = t.Store
	size := inputSize(im.Input)
	bar := a.bar(f.quiet, "importing", size)
	im.Progress = func(n int64) { bar.Set(n, size) }
	done, err := im.Run(a.ctx)
	bar.Stop()
	if done.Delayed > 0 {
		a.say("%d messages that waited for a later delivery were left out (--delayed %s)", done.Delayed, f.delayed.value)
	}
	if err != nil {
		return a.importEnded(t, im, done, err)
	}
	if err := t.Finish(); err != nil {
		return err
	}
	if !f.quiet {
		a.say("imported %d messages, %s, from %d lines", done.Messages, formatSize(done.Bytes), done.Lines)
	}
	return nil
}

// importEnded closes the target of an import that did not come to its end and
// says how to go on.
func (a *app) importEnded(t *transfer.Target, im *transfer.Import, done transfer.Imported, err error) error {
	if done.Messages == 0 && im.From <= 1 {
		err = errors.Join(err, t.Discard())
		a.say("nothing was imported")
	} else {
		err = errors.Join(err, t.Leave())
		a.say("the lines up to %d are imported into %s, in this run %d messages; go on with --from-line %d",
			done.Lines, t.Path(), done.Messages, done.Lines+1)
	}
	var line *transfer.LineError
	if errors.As(err, &line) && isBadLine(line.Cause) {
		a.say("%s: %s", inputName(im.Input), oneLine(err))
		return errFindings
	}
	return err
}

// inputSize is how many bytes an input has, or 0 if that is not known.
func inputSize(in io.Reader) int64 {
	f, ok := in.(*os.File)
	if !ok {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// isBadLine reports whether an import ended because of what a line says, and not of
// what befell the input or the store.
func isBadLine(cause error) bool {
	for _, bad := range []error{transfer.ErrBadRow, transfer.ErrLineTooLong, store.ErrInnerBatch} {
		if errors.Is(cause, bad) {
			return true
		}
	}
	return errors.As(storeFailure(cause), new(usageError))
}

// inputName is what an input is called in words.
func inputName(in io.Reader) string {
	if f, ok := in.(*os.File); ok && f != os.Stdin {
		return f.Name()
	}
	return "standard input"
}
