// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// What messages can be printed as, beside a list.
const (
	formatCSV = "csv"
	formatRaw = "raw" // the bodies, one after the other
)

type messagesFlags struct {
	output      choice
	filter      filterFlags
	reverse     bool
	body, plain bool
	redact      bool
	quiet       bool
	logDir      string
}

func (a *app) inspectMessagesCommand() *cobra.Command {
	var f messagesFlags
	cmd := a.command("messages DIR [flags]", "List the messages in the commit log", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectMessages(args[0], &f) })
	cmd.Long = `Messages lists the messages of a store in the order of its commit log, or with
--reverse the last one first.

Every record on the way is checked: lengths, position, checksums. Where there is
none, the damage is reported on stderr with how many bytes it takes, the list
goes on with the next intact record, and the exit status is 1.

A flag that can be repeated takes a message that any of its values fits; of
different flags, all must fit. Expressions have Go's syntax (RE2).

Besides a table, json and ndjson there is csv, with the same fields, and raw: the
bodies alone, one behind the other with nothing between them, as they are stored
or with --decompress as they were sent.

With --redact a listing can be given to others: bodies are left out, tags, keys
and the values of properties become marks like ~1f9a3c5e, the same for the same
text within one run, and addresses become 0.0.0.0.`
	cmd.Example = example(`
		storectl inspect messages /data/store --topic 'order*' --since 2h
		storectl inspect messages /data/store --tag 'paid || refunded' --until 2026-11-22T14:00:00Z
		storectl inspect messages /data/store --key order-17 --body -o ndjson
		storectl inspect messages /data/store --reverse --limit 10
		storectl inspect messages /data/store --body-grep '"total": ?0[,}]' -o csv
		storectl inspect messages /data/store --from 1GiB --limit 1 --decompress -o raw`)
	a.filterFlags(cmd, &f.filter)
	cmd.Flags().BoolVar(&f.reverse, "reverse", false, "the last message first; what is between the bounds is read up to twice")
	bodyFlags(cmd, &f.body, &f.plain)
	cmd.Flags().BoolVar(&f.redact, "redact", false, "show nothing of what messages say, so that the list can be shared")
	quietFlag(cmd, &f.quiet)
	commitLogFlag(cmd, &f.logDir)
	f.output.value = string(formatTable)
	choiceFlag(cmd, &f.output, "output", "o", "output format: table, json, ndjson, csv, raw (bodies alone)",
		string(formatTable), string(formatJSON), string(formatNDJSON), formatCSV, formatRaw)
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
	cmd.Flags().BoolVar(stored, "body", false, "add the body as it is stored: body for UTF-8 text, else bodyBase64 (not in a table)")
	cmd.Flags().BoolVar(plain, "decompress", false, "add the body, decompressed if it is compressed (not in a table)")
}

// bodyOf says which body those flags ask for.
func bodyOf(stored, plain bool, f format) (inspect.Body, error) {
	switch {
	case !stored && !plain:
		return inspect.BodyNone, nil
	case f == formatTable:
		return inspect.BodyNone, usagef("a table has no room for bodies: --body and --decompress need another output, such as -o ndjson")
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
	filter.Reverse = f.reverse
	it := &messageItem{}
	if it.Body, err = bodyOf(f.body, f.plain, format(f.output.value)); err != nil {
		return err
	}
	var redactor *inspect.Redactor
	if f.redact {
		if redactor = inspect.NewRedactor(); it.Body != inspect.BodyNone || f.output.value == formatRaw {
			return usagef("--redact shows no bodies: leave out --body, --decompress and -o raw")
		}
	}
	bar := a.bar(f.quiet, "messages", 0)
	defer bar.Stop()
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set})
	if err != nil {
		return err
	}
	w := a.messageList(f.output.value, it)
	damaged, err := a.eachMessage(a.ctx, d, filter, func(m *message.Message) error {
		if it.Message = m; redactor != nil {
			it.Message = redactor.Redact(m)
		}
		return w.add(it)
	})
	if err != nil {
		return a.ended(w, err)
	}
	if err := w.close(); err != nil {
		return err
	}
	if damaged {
		return errFindings
	}
	return nil
}

// messageList returns what prints messages in a format.
func (a *app) messageList(output string, it *messageItem) lister {
	switch output {
	case formatCSV:
		return &csvList{out: csv.NewWriter(a.out), body: it.Body}
	case formatRaw:
		return &rawList{out: a.out, plain: it.Body == inspect.BodyPlain}
	default:
		return a.newList(format(output), messageHeader...)
	}
}

var messageHeader = []string{"OFFSET", "TOPIC", "QUEUE", "QUEUE OFFSET", "SIZE", "STORED", "TAGS", "KEYS", "BODY"}

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

// errNoRow is about an item that is no message.
var errNoRow = errors.New("no message")

// csvList prints messages as comma-separated values (RFC 4180), in memory that
// does not grow with them.
type csvList struct {
	out   *csv.Writer
	body  inspect.Body
	begun bool
}

func (l *csvList) began() bool { return l.begun }

func (l *csvList) add(it item) error {
	m, ok := it.(*messageItem)
	if !ok {
		return errNoRow
	}
	if err := l.begin(); err != nil {
		return err
	}
	if err := l.out.Write(m.CSV()); err != nil {
		return err
	}
	l.out.Flush() // what is behind it has a buffer of its own
	return l.out.Error()
}

// begin writes the header once.
func (l *csvList) begin() error {
	if l.begun {
		return nil
	}
	l.begun = true
	return l.out.Write(inspect.CSVHeader(l.body))
}

func (l *csvList) close() error {
	if err := l.begin(); err != nil {
		return err
	}
	l.out.Flush()
	return l.out.Error()
}

// rawList prints the bodies of messages and nothing else.
type rawList struct {
	out   *bufio.Writer
	plain bool
}

func (l *rawList) began() bool { return false }

func (l *rawList) add(it item) error {
	m, ok := it.(*messageItem)
	if !ok {
		return errNoRow
	}
	body := m.Message.Body
	if l.plain {
		body = (&fetchItem{m.Row}).plain()
	}
	_, err := l.out.Write(body)
	return err
}

func (l *rawList) close() error { return nil }
