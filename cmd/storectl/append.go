// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

type appendFlags struct {
	topic      string
	queue      int32
	tags       string
	keys       []string
	properties []string
	flush      flushMode
	path       writePath
	lines, ack bool
	stats      bool
	level      int
	deliver    later
	warmup     warmupMode
	fileSize   size
	queueSize  size
}

func (a *app) appendCommand() *cobra.Command {
	var f appendFlags
	cmd := a.command("append DIR --topic TOPIC [flags]", "Append messages from standard input", cobra.ExactArgs(1),
		func(args []string) error { return a.append(args[0], &f) })
	cmd.Long = `Append stores what it reads from standard input: all of it as the body of one
message, or with --lines each line as one. The store is made if DIR is missing
or empty. It must not be open anywhere else.

With --ack one JSON object a line is printed for each message once it is
acknowledged, and not before: with --flush sync once it is on disk, with --flush
async once it is in the log's memory. With --write-path pool and --flush async a
message that is acknowledged can be lost if the process is killed. Lines that arrive together are appended,
and flushed, together.

With --delay-level or --deliver-at the messages wait, and are delivered to their
topic when their time has come, by whoever has the store open then. What --ack
prints is where they wait; 'storectl inspect delay' shows them.

With --stats it says on stderr where appends waited: for the append lock, for the
next file (roll), for cold pages (copy), for a write (commit) or for the disk
(flush).`
	cmd.Example = example(`
		echo hello | storectl append ./data --topic greetings
		seq 1000 | storectl append ./data --topic numbers --lines --flush sync --ack
		storectl append ./data --topic orders --queue 3 --tags new --keys 'o-17 u-5' <order.json
		echo remind | storectl append ./data --topic calls --deliver-at 2h`)
	fl := cmd.Flags()
	fl.StringVar(&f.topic, "topic", "", "topic of the messages (required)")
	fl.Int32Var(&f.queue, "queue", 0, "queue of the topic")
	fl.StringVar(&f.tags, "tags", "", "tag of the messages")
	fl.StringArrayVar(&f.keys, "keys", nil, "keys of the messages, separated by spaces (can be repeated)")
	fl.StringArrayVar(&f.properties, "property", nil, "another property, as NAME=VALUE (can be repeated)")
	fl.Var(&f.flush, "flush", "when a message is acknowledged: sync (on disk) or async (in memory)")
	fl.Var(&f.path, "write-path", "how messages get into the log's files: mmap, pool, file, default (file with --flush sync, else mmap)")
	f.warmup = "window"
	fl.Var(&f.warmup, "warmup", warmupUsage)
	fl.BoolVar(&f.stats, "stats", false, "say at the end where the appends waited, and what was warmed up for them")
	fl.IntVar(&f.level, "delay-level", 0, "deliver after the delay of level `N`: 1 is 1s, 18 is 2h")
	fl.Var(&f.deliver, "deliver-at", "deliver at a time: RFC 3339, or so long after now (90s, 36h, 2d)")
	cmd.MarkFlagsMutuallyExclusive("delay-level", "deliver-at")
	fl.BoolVar(&f.lines, "lines", false, "one message a line")
	fl.BoolVar(&f.ack, "ack", false, "print each message's place, as ndjson, once it is acknowledged")
	fl.Var(&f.fileSize, "file-size", "size of the commit log files of a new store (default 1 GiB)")
	fl.Var(&f.queueSize, "queue-file-size", "size of the queue files of a new store (default 6000000 B)")
	_ = cmd.MarkFlagRequired("topic") // fails only for a flag that does not exist
	return cmd
}

// flushMode is store.FlushMode as a flag.
type flushMode store.FlushMode

func (m *flushMode) String() string { return store.FlushMode(*m).String() }
func (m *flushMode) Type() string   { return "MODE" }

func (m flushMode) mode() store.FlushMode { return store.FlushMode(m) }

func (m *flushMode) Set(s string) error {
	switch s {
	case "sync":
		*m = flushMode(store.FlushSync)
	case "async":
		*m = flushMode(store.FlushAsync)
	default:
		return errors.New("must be sync or async")
	}
	return nil
}

// writePath is store.WritePath as a flag.
type writePath store.WritePath

func (p *writePath) String() string { return store.WritePath(*p).String() }
func (p *writePath) Type() string   { return "PATH" }

func (p *writePath) Set(s string) error {
	path, err := store.ParseWritePath(s)
	if err != nil {
		return errors.New("must be default, mmap, pool or file")
	}
	*p = writePath(path)
	return nil
}

func (a *app) append(dir string, f *appendFlags) (err error) {
	template, err := f.message()
	if err != nil {
		return usageError{err}
	}
	s, err := store.Open(dir, store.Options{
		Flush: store.FlushMode(f.flush), WritePath: store.WritePath(f.path), FileSize: int64(f.fileSize), QueueFileSize: int64(f.queueSize),
		Warmup: f.warmup.options(false, warmup.NoAdvice),
	})
	if err != nil {
		return storeFailure(err)
	}
	defer func() {
		err = errors.Join(err, s.Close())
		if f.stats {
			a.explain(s.Stats())
		}
	}()

	ap := &appender{app: a, store: s, template: template, ack: f.ack}
	if f.lines {
		err = ap.lines(a.in)
	} else {
		err = ap.whole(a.in)
	}
	a.say("appended %d messages, %s", ap.count, formatSize(ap.bytes))
	return storeFailure(err)
}

// message returns the message that each body is put in.
func (f *appendFlags) message() (*message.Message, error) {
	m := &message.Message{Topic: f.topic, QueueID: f.queue}
	m.SetTags(f.tags)
	m.SetKeys(strings.Fields(strings.Join(f.keys, " "))...)
	for _, p := range f.properties {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return nil, fmt.Errorf("--property %q: want NAME=VALUE", p)
		}
		m.Properties.Set(name, value)
	}
	m.SetDelayLevel(f.level)
	if at := f.deliver.time(time.Now()); !at.IsZero() {
		m.SetDeliverAt(at)
	}
	// Said before anything is read or made, not with the first message.
	return m, message.Encoder{PropertyCRC: true}.Validate(m)
}

// storeFailure makes an error of the store one of usage where the caller asked
// for what can't be.
func storeFailure(err error) error {
	for _, wrong := range []error{
		store.ErrEmptyTopic, store.ErrTopicTooLong, store.ErrTopicChars, store.ErrNegativeQueue,
		store.ErrBodyTooLarge, store.ErrPropertiesTooLarge, store.ErrBadProperty, store.ErrRecordTooLarge,
		store.ErrDelayLevel, store.ErrDelayTooLong, store.ErrDelayTopic,
		store.ErrTooManyQueues, store.ErrNoTopic, store.ErrNoQueue, store.ErrPermission, store.ErrOptions,
	} {
		if errors.Is(err, wrong) {
			return usageError{err}
		}
	}
	return err
}

// appender appends bodies in a message's frame and prints the acknowledgements.
type appender struct {
	*app
	store    *store.Store
	template *message.Message
	ack      bool
	count    int64
	bytes    int64
	buf      []byte
}

// whole appends everything that in holds as one message.
func (ap *appender) whole(in io.Reader) error {
	type read struct {
		body []byte
		err  error
	}
	got := make(chan read, 1)
	go func() {
		body, err := io.ReadAll(io.LimitReader(in, store.DefaultMaxBodyLen+1))
		got <- read{body, err}
	}()
	select {
	case <-ap.ctx.Done():
		return context.Cause(ap.ctx) // the goroutine ends with its read, or the process
	case r := <-got:
		if r.err != nil {
			return fmt.Errorf("standard input: %w", r.err)
		}
		return ap.bodies([][]byte{r.body})
	}
}

// The lines that are appended together: whatever has arrived, up to these.
const (
	groupLines = 512
	groupBytes = 256 << 10
)

// lines appends each line of in as a message.
func (ap *appender) lines(in io.Reader) error {
	ctx, cancel := context.WithCancel(ap.ctx)
	defer cancel()
	groups := make(chan [][]byte)
	failed := make(chan error, 1)
	// An interrupt must not wait for input that may never come, so reading has
	// a goroutine; it ends with its read, or with the process.
	go func() {
		defer close(groups)
		failed <- readLines(ctx, in, groups)
	}()
	for {
		select {
		case <-ap.ctx.Done():
			return context.Cause(ap.ctx)
		case bodies, ok := <-groups:
			if !ok {
				return <-failed
			}
			if err := ap.bodies(bodies); err != nil {
				return err
			}
		}
	}
}

// readLines sends the lines of in, in groups of what is there without waiting.
func readLines(ctx context.Context, in io.Reader, groups chan<- [][]byte) error {
	r := bufio.NewReaderSize(in, groupBytes)
	for n := int64(1); ; {
		var group [][]byte
		var failure error
		for total := 0; len(group) < groupLines && total < groupBytes; {
			line, err := readLine(r)
			if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
				failure = err
				break
			}
			if len(line) > store.DefaultMaxBodyLen {
				failure = usagef("line %d of standard input: %w: more than %d bytes", n, store.ErrBodyTooLarge, store.DefaultMaxBodyLen)
				break
			}
			group, total, n = append(group, line), total+len(line), n+1
			if next, _ := r.Peek(r.Buffered()); bytes.IndexByte(next, '\n') < 0 {
				break // the next line has not arrived as a whole
			}
		}
		if len(group) > 0 {
			select {
			case groups <- group:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if errors.Is(failure, io.EOF) {
			return nil
		}
		if failure != nil {
			return fmt.Errorf("standard input: %w", failure)
		}
	}
}

// readLine returns the next line without its end, in memory of its own. It
// stops a little above the longest body.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) <= store.DefaultMaxBodyLen {
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return line, nil
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}

// bodies appends bodies together and acknowledges them.
func (ap *appender) bodies(bodies [][]byte) error {
	msgs := make([]*message.Message, len(bodies))
	for i, b := range bodies {
		m := *ap.template
		m.Body = b
		msgs[i] = &m
	}
	if len(msgs) == 1 {
		return ap.oneByOne(msgs)
	}
	results, err := ap.store.AppendBatch(ap.ctx, msgs)
	if errors.Is(err, store.ErrBatchTooLarge) {
		return ap.oneByOne(msgs)
	}
	if err != nil {
		return err
	}
	return ap.acknowledge(results)
}

// oneByOne is for a single message, and a group that does not fit in one file
// of the log.
func (ap *appender) oneByOne(msgs []*message.Message) error {
	for _, m := range msgs {
		r, err := ap.store.Append(ap.ctx, m)
		if err != nil {
			return err
		}
		if err := ap.acknowledge([]store.AppendResult{r}); err != nil {
			return err
		}
	}
	return nil
}

func (ap *appender) acknowledge(results []store.AppendResult) error {
	for i := range results {
		ap.count++
		ap.bytes += int64(results[i].Size)
		if !ap.ack {
			continue
		}
		ap.buf = appendAck(ap.buf[:0], &results[i])
		if _, err := ap.out.Write(ap.buf); err != nil {
			return err
		}
	}
	if ap.ack {
		return ap.out.Flush() // whoever waits for it must see it now
	}
	return nil
}

// appendAck writes the line of one message.
func appendAck(b []byte, r *store.AppendResult) []byte {
	b = append(b, `{"topic":`...)
	b = strconv.AppendQuote(b, r.Topic) // of characters that need no escape
	b = strconv.AppendInt(append(b, `,"queueId":`...), int64(r.QueueID), 10)
	b = strconv.AppendInt(append(b, `,"queueOffset":`...), int64(r.QueueOffset), 10)
	b = strconv.AppendInt(append(b, `,"physicalOffset":`...), int64(r.Offset), 10)
	b = strconv.AppendInt(append(b, `,"size":`...), int64(r.Size), 10)
	b = append(append(b, `,"msgId":"`...), r.ID()...)
	return append(b, "\"}\n"...)
}
