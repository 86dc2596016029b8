// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// topic has a queue for each producer, or all of them for one.
const topic = "bench"

const steleSync = "FlushSync: written and fdatasync'ed, together with what others append meanwhile; both checksums; in its queue right after"

// steleDefault is Stele as the zero value of its options has it.
var steleDefault = peer{
	name: "stele", module: "github.com/stelelog/stele",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "zero options: in the mapping of the log, both checksums, a window of it populated ahead; the clock stops when all is in its queue; flushed every 0.5 s"},
		durable: {Kill: true, Power: true, Text: steleSync},
	},
	open: func(dir string, m mode) (engine, error) { return openStele(dir, m, store.WarmupOptions{}) },
}

// stelePopulated is Stele as somebody sets it who has the memory.
var stelePopulated = peer{
	name: "stele-populate", module: "github.com/stelelog/stele",
	modes: map[mode]guarantee{
		async: {Kill: true, Text: "the same with Warmup.Mode Populate: the log's file is in memory before the clock starts, the next ones are populated whole while it runs"},
	},
	only: []kind{appends, dispatch},
	open: func(dir string, m mode) (engine, error) {
		return openStele(dir, m, store.WarmupOptions{Mode: warmup.Populate})
	},
}

type stele struct {
	s     *store.Store
	batch *store.Batch // of the last pick
}

func openStele(dir string, m mode, w store.WarmupOptions) (engine, error) {
	o := store.Options{Warmup: w}
	if m == durable {
		o.Flush = store.FlushSync
	}
	warm := make(chan struct{}, 1)
	o.Events.Warmed = func(i commitlog.WarmInfo) {
		if i.Done {
			select {
			case warm <- struct{}{}:
			default:
			}
		}
	}
	s, err := store.Open(dir, o)
	if err != nil {
		return nil, err
	}
	if st := s.Stats(); st.Warmup.Mode != warmup.Off && st.Warmup.Window == 0 {
		// The file is made, and warmed up, for the first message.
		if _, err := s.Append(context.Background(), &message.Message{Topic: "first"}); err != nil {
			return nil, fmt.Errorf("first append: %w", err)
		}
		<-warm
	}
	return &stele{s: s}, nil
}

func (e *stele) options() string {
	w := e.s.Stats().Warmup
	return fmt.Sprintf("file size %d MiB, warm-up %v, window %d MiB", e.s.Stats().FileSize>>20, w.Mode, w.Window>>20)
}

func (e *stele) appender(producer int) (appender, error) {
	return &steleAppender{s: e.s, m: message.Message{Topic: topic, QueueID: int32(producer)}}, nil
}

func (e *stele) count() (int64, error) {
	_, hi, err := e.s.Bounds(topic, 0)
	return int64(hi), err
}

func (e *stele) close() error {
	if e.batch != nil {
		e.batch.Release()
	}
	return e.s.Close()
}

// readLimit is what a consumer fetches that wants throughput.
var readLimit = store.Limit{Messages: 1024, Bytes: 2 << 20}

func (e *stele) scan(visit func([]byte) bool) error {
	return e.scanQueue(0, visit)
}

func (e *stele) scanQueue(queue int32, visit func([]byte) bool) error {
	for from := message.QueueOffset(0); ; {
		b, err := e.s.Fetch(context.Background(), topic, queue, from, readLimit)
		if err != nil {
			return err
		}
		on, err := visitBatch(b, visit)
		from = b.Next
		if err != nil || !on || b.Next >= b.Max {
			return err
		}
	}
}

func visitBatch(b *store.Batch, visit func([]byte) bool) (on bool, err error) {
	defer b.Release()
	for m, err := range b.All() {
		if err != nil {
			return false, err
		}
		if !visit(m.Body) {
			return false, nil
		}
	}
	return true, nil
}

func (e *stele) pick(i int64) (body []byte, err error) {
	if e.batch != nil {
		e.batch.Release()
	}
	e.batch, err = e.s.Fetch(context.Background(), topic, 0, message.QueueOffset(i), store.Limit{Messages: 1})
	if err != nil {
		return nil, err
	}
	for m, err := range e.batch.All() {
		return m.Body, err
	}
	return nil, fmt.Errorf("queue offset %d: nothing there", i)
}

type steleAppender struct {
	s      *store.Store
	m      message.Message
	batch  []*message.Message
	queues int32 // to append to in turn; 0 is its own alone
	keyed  bool  // each message has a key
	key    []byte
}

func (a *steleAppender) append(body []byte) error {
	a.m.Body = body
	if a.queues > 0 {
		a.m.QueueID = (a.m.QueueID + 1) % a.queues
	}
	if a.keyed {
		_, number := producerOf(body)
		a.key = strconv.AppendInt(append(a.key[:0], 'k'), number, 10)
		a.m.SetKeys(string(a.key))
	}
	_, err := a.s.Append(context.Background(), &a.m)
	return err
}

func (a *steleAppender) appendBatch(bodies [][]byte) error {
	for len(a.batch) < len(bodies) {
		a.batch = append(a.batch, &message.Message{Topic: a.m.Topic, QueueID: a.m.QueueID})
	}
	for i, body := range bodies {
		a.batch[i].Body = body
	}
	_, err := a.s.AppendBatch(context.Background(), a.batch[:len(bodies)])
	return err
}

// settle waits for the dispatcher: what is not in its queue can't be read.
func (a *steleAppender) settle() error {
	return a.s.WaitDispatched(context.Background(), a.s.Stats().Appended)
}

// vary has the appender go round that many queues, if any, and give each message
// a key: k and its number.
func (a *steleAppender) vary(queues int, keys bool) { a.queues, a.keyed = int32(queues), keys }
