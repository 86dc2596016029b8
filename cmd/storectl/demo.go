// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

type demoFlags struct {
	messages int
	keep     bool
}

func (a *app) demoCommand() *cobra.Command {
	f := demoFlags{messages: 100_000}
	cmd := a.command("demo", "Show what Stele does, on a temporary store", cobra.NoArgs, func([]string) error {
		return a.demo(&f)
	})
	cmd.Long = `Demo makes a store in a temporary directory and shows the main job on it: a child
process appends messages with synchronous flush and is killed in mid-append; the
store is recovered; every message that was acknowledged is looked up and compared;
queues are fetched, messages queried by key, and one queue is followed while it is
appended to.

It takes a few seconds and some 100 MB of disk, and needs nothing else.`
	cmd.Example = example("storectl demo\nstorectl demo --messages 1000000 --keep")
	cmd.Flags().IntVar(&f.messages, "messages", f.messages, "messages that are acknowledged before the kill")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the store there to look at")
	return cmd
}

// killWithin is how long the child goes on, at most, once it has acknowledged
// enough.
const killWithin = 100 * time.Millisecond

// demoFileSize makes the demo's log roll over several files.
const demoFileSize = 16 << 20

func (a *app) demo(f *demoFlags) (err error) {
	if f.messages < 1 {
		return usagef("--messages %d: at least 1", f.messages)
	}
	tmp, err := os.MkdirTemp("", "stele-demo-")
	if err != nil {
		return err
	}
	if !f.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	}
	d := &demo{app: a, dir: filepath.Join(tmp, "store"), want: f.messages}
	for _, step := range []func() error{d.killed, d.recovered, d.verified, d.fetched, d.queried, d.followed, d.closed} {
		if err := errors.Join(step(), a.out.Flush()); err != nil {
			return errors.Join(err, d.abandon())
		}
	}
	if f.keep {
		d.tell("The store is in %s", d.dir)
	}
	return nil
}

// demo is a run in progress.
type demo struct {
	*app
	dir   string
	want  int
	acks  []ack
	store *store.Store
}

// ack is where an acknowledged message went. Its place in the list is its
// number, which tells what it must hold.
type ack struct {
	queueOffset message.QueueOffset
	offset      message.Offset
}

func (d *demo) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...) // a failure stays with the buffer, and is met by Flush
}

func (d *demo) abandon() error {
	if d.store == nil {
		return nil
	}
	return d.store.Close()
}

// killed runs a child that appends until it is killed, in the middle of it.
func (d *demo) killed() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	start := time.Now()
	child := exec.CommandContext(d.ctx, exe, demoWriterName, d.dir)
	child.Stderr = d.err
	pipe, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	out := bufio.NewReader(pipe)
	if err := child.Start(); err != nil {
		return err
	}
	acks, readErr := readAcks(out, d.want)
	// It goes on appending while this reads on, and dies at a moment that
	// neither of the two has chosen. What it acknowledged until then counts.
	kill := make(chan error, 1)
	time.AfterFunc(rand.N(killWithin), func() { kill <- child.Process.Kill() })
	more, lastErr := readAcks(out, -1)
	d.acks = slices.Concat(acks, more)
	killErr := <-kill
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case d.ctx.Err() != nil:
		return context.Cause(d.ctx)
	case readErr != nil || lastErr != nil || killErr != nil:
		return fmt.Errorf("the writing process: %w", errors.Join(readErr, lastErr, killErr, err))
	case !errors.As(err, &exit) || exit.Exited():
		return fmt.Errorf("the writing process was to be killed, but: %w", err)
	}
	took := time.Since(start)
	d.tell("1. A child process appended messages to %d topics of %d queues each, every one on disk", len(demoTopics), demoQueues)
	d.tell("   before it was acknowledged, until SIGKILL ended it in mid-append:")
	d.tell("   %d messages acknowledged in %.1f s.", len(d.acks), took.Seconds())
	return nil
}

// readAcks reads want acknowledgements, or with -1 all that come. A line that
// the kill cut short acknowledges nothing.
func readAcks(r *bufio.Reader, want int) ([]ack, error) {
	var acks []ack
	for len(acks) != want {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && want < 0 {
			return acks, nil
		}
		if err != nil {
			return acks, err
		}
		var k ack
		if _, err := fmt.Sscan(line, &k.queueOffset, &k.offset); err != nil {
			return acks, fmt.Errorf("acknowledgement %q: %w", line, err)
		}
		acks = append(acks, k)
	}
	return acks, nil
}

// recovered opens what the child left behind.
func (d *demo) recovered() error {
	start := time.Now()
	s, err := store.Open(d.dir, store.Options{MustExist: true, FlushInterval: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	d.store = s
	st := s.Stats()
	d.tell("2. Opened the store again in %.0f ms. It was found as: %v. It read %d records from", time.Since(start).Seconds()*1e3, st.Recovery.Kind, st.Recovery.Records)
	d.tell("   offset %d on, and the log ends at %d: %d files of %s.", st.Recovery.From, st.Recovery.End, st.Files, formatSize(st.FileSize))
	return nil
}

// verified looks up every acknowledged message, and then every message there is.
func (d *demo) verified() error {
	for n, k := range d.acks {
		m, err := d.store.Get(k.offset)
		if err != nil {
			return fmt.Errorf("acknowledged message %d: %w", n, err)
		}
		if err := sameMessage(m, n); err != nil || m.QueueOffset != k.queueOffset {
			return fmt.Errorf("acknowledged message %d at offset %d is another one: queue offset %d, want %d: %w",
				n, k.offset, m.QueueOffset, k.queueOffset, err)
		}
	}
	total := 0
	for _, q := range d.store.Queues() {
		n, err := d.walk(q)
		if err != nil {
			return fmt.Errorf("topic %s, queue %d: %w", q.Topic, q.QueueID, err)
		}
		total += n
	}
	d.tell("3. Looked up and compared: of %d acknowledged messages none is missing or changed.", len(d.acks))
	d.tell("   The queues hold %d messages, without a hole; %d were stored, but their", total, total-len(d.acks))
	d.tell("   acknowledgement was not out when the process died.")
	if total < len(d.acks) {
		return fmt.Errorf("the queues hold %d messages, %d were acknowledged", total, len(d.acks))
	}
	return nil
}

// walk fetches a queue from end to end and checks that it has no hole and
// nothing that was not appended.
func (d *demo) walk(q store.QueueInfo) (int, error) {
	next := q.Min
	for next < q.Max {
		b, err := d.store.Fetch(d.ctx, q.Topic, q.QueueID, next, store.Limit{Messages: 1000, Bytes: 1 << 20})
		if err != nil {
			return 0, err
		}
		for m, err := range b.All() {
			if err == nil {
				err = sameMessage(m, messageNumber(q.Topic, q.QueueID, next))
			}
			if err != nil {
				b.Release()
				return 0, fmt.Errorf("offset %d: %w", next, err)
			}
			next++
		}
		b.Release()
	}
	return int(next - q.Min), nil
}

// fetched shows a few messages of a queue.
func (d *demo) fetched() error {
	topic, queue := demoTopics[0], int32(1)
	lo, hi, err := d.store.Bounds(topic, queue)
	if err != nil {
		return err
	}
	from := max(lo, hi/2)
	b, err := d.store.Fetch(d.ctx, topic, queue, from, store.Limit{Messages: 3})
	if err != nil {
		return err
	}
	defer b.Release()
	d.tell("4. Fetched topic %s, queue %d, which has offsets %d to %d, from offset %d on:", topic, queue, lo, hi-1, from)
	for m, err := range b.All() {
		if err != nil {
			return err
		}
		d.tell("   %6d  %s  tag %s, key %s: %s", m.QueueOffset, formatTime(m.StoreTimestamp), m.Tags(), m.Keys()[0], m.Body)
	}
	return nil
}

// queried asks for messages by their keys, each of which one message has.
func (d *demo) queried() error {
	const ask = 1000
	n, start := 0, time.Now()
	for n < min(ask, len(d.acks)) {
		at := rand.N(len(d.acks))
		want := demoMessage(at)
		all, err := d.store.Query(d.ctx, want.Topic, want.Keys()[0], store.QueryOptions{})
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("topic %s, key %s: %d messages, want 1", want.Topic, want.Keys()[0], len(all))
		}
		if err := sameMessage(all[0], at); err != nil {
			return fmt.Errorf("topic %s, key %s: %w", want.Topic, want.Keys()[0], err)
		}
		n++
	}
	took := time.Since(start) / time.Duration(max(n, 1))
	last := demoMessage(len(d.acks) - 1)
	all, err := d.store.Query(d.ctx, last.Topic, last.Keys()[0], store.QueryOptions{Max: 1})
	if err != nil {
		return err
	}
	d.tell("5. Queried %d messages by key, in %v each, and got those. The last one that was acknowledged:", n, took.Round(time.Microsecond))
	for _, m := range all {
		d.tell("   %s/%d offset %d  %s  key %s: %s", m.Topic, m.QueueID, m.QueueOffset, formatTime(m.StoreTimestamp), m.Keys()[0], m.Body)
	}
	return nil
}

// followed tails a queue while another goroutine appends to it.
func (d *demo) followed() error {
	const count = 3
	topic, queue := "news", int32(0)
	d.tell("6. Followed topic %s while another goroutine appended to it:", topic)
	failed := make(chan error, 1)
	go func() {
		for i := range count {
			m := &message.Message{Topic: topic, QueueID: queue, Body: fmt.Appendf(nil, "headline %d", i+1)}
			if _, err := d.store.Append(d.ctx, m); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for next := message.QueueOffset(0); next < count; {
		start := time.Now()
		b, err := d.store.Follow(d.ctx, topic, queue, next, store.Limit{})
		if err != nil {
			return err
		}
		for m, err := range b.All() {
			if err != nil {
				b.Release()
				return err
			}
			d.tell("   %6d  %s  (waited %v)", m.QueueOffset, m.Body, time.Since(start).Round(time.Microsecond))
			next++
		}
		b.Release()
	}
	return <-failed
}

func (d *demo) closed() error {
	s := d.store
	d.store = nil
	st := s.Stats()
	if err := s.Close(); err != nil {
		return err
	}
	d.tell("7. Closed the store: %d bytes of log, all of them flushed and in their queues.", st.Appended)
	d.tell("   RocketMQ's message store can open it now (mappedFileSizeCommitLog=%d).", demoFileSize)
	return nil
}
