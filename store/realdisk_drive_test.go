// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// driver is a process that does with a store what it is told, so that a fault of
// memory ends it and not the test.
type driver struct {
	dir     string
	s       *store.Store
	ack     ackKind
	resumed chan struct{}
	next    int
}

// childDrive answers each line of standard input with one that begins with "=":
// what came of it.
func childDrive(words []string) error {
	d := &driver{dir: words[1], resumed: make(chan struct{}, 100)}
	do := map[string]func(mode string, n int) error{
		"open": d.open, "append": d.append, "queues": d.queues, "commit": d.commit, "flush": d.flush,
		"read": d.read, "resume": d.resume, "close": d.close,
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var call, mode string
		var n int
		if _, err := fmt.Sscan(in.Text(), &call, &mode, &n); err != nil {
			return fmt.Errorf("%q: %w", in.Text(), err)
		}
		err := do[call](mode, n)
		switch {
		case err == nil:
			fmt.Println("= ok")
		case errors.Is(err, store.ErrDiskFull):
			fmt.Printf("= full: %q\n", err)
		case errors.Is(err, syscall.ENOSPC):
			fmt.Printf("= enospc: %q\n", err)
		default:
			fmt.Printf("= error: %q\n", err)
		}
	}
	return in.Err()
}

// open opens the store; n is the write path.
func (d *driver) open(mode string, n int) (err error) {
	o := osOptions()
	o.WritePath = store.WritePath(n)
	if mode == "sync" {
		o.Flush = store.FlushSync
	}
	o.FlushInterval, o.FlushLeastPages = 5*time.Millisecond, -1
	o.CheckpointInterval, o.OffsetInterval = 5*time.Millisecond, 5*time.Millisecond
	o.Retention.Policy.RefuseAt = -1 // up to the last block
	d.ack = ackFor(o)
	d.s, err = store.Open(d.dir, o)
	return err
}

// append appends n messages of the size that mode names.
func (d *driver) append(mode string, n int) error {
	pad := map[string]int{"small": 50, "large": 5000}[mode]
	for i := range n {
		if err := d.one(int32(i%3), pad); err != nil {
			return err
		}
	}
	return nil
}

// queues appends a message to each of n new queues: the dispatcher makes a
// directory and a file for each.
func (d *driver) queues(_ string, n int) error {
	for range n {
		if err := d.one(int32(100+d.next%5000), 10); err != nil {
			return err
		}
	}
	return d.settle()
}

func (d *driver) one(queue int32, pad int) error {
	d.next++
	m := &message.Message{Topic: "orders", QueueID: queue}
	id := fmt.Sprintf("%d.%d", os.Getpid(), d.next)
	m.Body = selfProving(m.Topic, m.QueueID, id, pad)
	res, err := d.s.Append(context.Background(), m)
	if err == nil {
		fmt.Print(d.ack.line(id, res))
	}
	return err
}

// settle waits until everything is dispatched, or the dispatcher waits for space.
func (d *driver) settle() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		st := d.s.Stats()
		switch {
		case st.Poisoned != nil:
			return st.Poisoned
		case st.Stalled != nil:
			return st.Stalled
		case st.Dispatched == st.Appended:
			return nil
		}
	}
	return nil
}

// commit sets n consumer offsets and makes them durable.
func (d *driver) commit(_ string, n int) error {
	for i := range n {
		d.next++
		group := fmt.Sprintf("group-%s-%d", strings.Repeat("g", 100), i)
		if err := d.s.CommitOffset(group, "orders", int32(i%3), message.QueueOffset(d.next)); err != nil {
			return err
		}
	}
	return d.s.SyncOffsets()
}

func (d *driver) flush(string, int) error { return d.s.Flush(context.Background()) }

// read fetches everything that is in the queues.
func (d *driver) read(string, int) error {
	count := 0
	for _, q := range d.s.Queues() {
		for from := q.Min; from < q.Max; {
			b, err := d.s.Fetch(context.Background(), q.Topic, q.QueueID, from, store.Limit{Messages: 1000})
			if err != nil {
				return err
			}
			for m, err := range b.All() {
				if err == nil {
					_, err = proven(m)
				}
				if err != nil {
					return err
				}
				count++
			}
			from = b.Next
			b.Release()
		}
	}
	fmt.Printf("read %d\n", count)
	return nil
}

// resume tries until an append and a commit succeed, for n seconds.
func (d *driver) resume(_ string, n int) error {
	end := time.NewTimer(time.Duration(n) * time.Second)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := d.append("large", 8)
		if err == nil {
			err = d.queues("", 3)
		}
		if err == nil {
			err = d.commit("", 3)
		}
		if err == nil || !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		select {
		case <-tick.C:
		case <-end.C:
			return fmt.Errorf("not resumed: %w", err)
		}
	}
}

func (d *driver) close(string, int) error { return d.s.Close() }
