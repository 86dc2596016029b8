// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
)

// DelayQuery says what is known about delayed messages beside their queues.
type DelayQuery struct {
	// Levels are the delays of the levels; nil means RocketMQ's.
	Levels message.DelayLevels
	// Progress is what Stele's metadata says. A broker's files in config/ count
	// as well, where they are further.
	Progress delay.Progress
}

// Delayed is a message that waits to be delivered.
type Delayed struct {
	// Level is the delay level, from 1; 0 for a message with a time of its own.
	Level int
	// Due is when it is to be delivered, in milliseconds since the Unix epoch.
	Due int64
	// Topic and Queue are where it is delivered to.
	Topic string
	Queue int32
	// Entry is its place in the queue that it waits in, and its message, which is
	// valid until the next step of the iteration. Entry.Err says why it will not be
	// delivered; then the other fields may be missing.
	Entry Entry
}

// Delayed yields the messages that wait, level by level and then those with a
// time of their own, each queue in its order.
//
// What is delivered is known from Stele's metadata and a broker's files only:
// beside a live owner they may lack the last moments, and after a crash a message
// is listed that the owner will find delivered in the log. Errors that are yielded
// are those of Queue, but for ErrNoQueue.
func (d *Dir) Delayed(ctx context.Context, q DelayQuery) iter.Seq2[Delayed, error] {
	return func(yield func(Delayed, error) bool) {
		if err := d.delayed(ctx, q, yield); err != nil && !errors.Is(err, errStop) {
			yield(Delayed{}, err)
		}
	}
}

func (d *Dir) delayed(ctx context.Context, q DelayQuery, yield func(Delayed, error) bool) error {
	if q.Levels == nil {
		q.Levels, _ = message.ParseDelayLevels(message.DefaultDelayLevels)
	}
	ids, err := d.levelQueues()
	if err != nil {
		return err
	}
	broker := d.brokerLevels()
	for _, id := range ids {
		from := max(q.Progress.Levels[id], message.QueueOffset(broker[id+1]))
		if err := d.level(ctx, q.Levels, id, from, yield); err != nil {
			return err
		}
	}
	return d.timers(ctx, q.Progress.Timers, yield)
}

// levelQueues lists the queues of the topic of delay levels.
func (d *Dir) levelQueues() (ids []int32, err error) {
	entries, err := os.ReadDir(filepath.Join(d.queues(), message.DelayTopic))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if id, err := strconv.ParseInt(e.Name(), 10, 32); err == nil && id >= 0 && e.IsDir() {
			ids = append(ids, int32(id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// brokerLevels is what config/delayOffset.json says, by level. A file that can't be
// read is as good as none, as it is for the store.
func (d *Dir) brokerLevels() map[int32]int64 {
	o, _, err := brokerconfig.ReadDelayOffsets(filepath.Join(d.path, layout.Config))
	if err != nil {
		return nil
	}
	return o.Table
}

func (d *Dir) brokerTimers() delay.BrokerProgress {
	b, err := os.ReadFile(filepath.Join(d.path, layout.Config, brokerconfig.TimerCheckFile))
	if err != nil {
		return delay.BrokerProgress{}
	}
	return delay.ReadTimerCheck(b)
}

// walk is Queue for a queue that may be missing, or end before from.
func (d *Dir) walk(ctx context.Context, topic string, id int32, from message.QueueOffset, visit func(Entry) error) error {
	for e, err := range d.Queue(ctx, topic, id, QueueRange{From: from}) {
		if errors.Is(err, ErrNoQueue) || errors.Is(err, consumequeue.ErrOffsetOutOfRange) {
			return nil
		}
		if err == nil && !e.IsBlank() {
			err = visit(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) level(ctx context.Context, levels message.DelayLevels, id int32, from message.QueueOffset, yield func(Delayed, error) bool) error {
	return d.walk(ctx, message.DelayTopic, id, from, func(e Entry) error {
		x := Delayed{Level: int(id) + 1, Entry: e}
		if m := e.Message; m != nil {
			x.Due = delay.LevelDue(levels, id, e.TagsCode, m.StoreTimestamp)
			x.aim()
		}
		return x.yield(yield)
	})
}

// aim fills in where the message goes.
func (x *Delayed) aim() {
	topic, queue, err := delay.Target(x.Entry.Message)
	if err != nil && x.Entry.Err == nil {
		x.Entry.Err = fmt.Errorf("%w: %w", ErrUndeliverable, err)
	}
	x.Topic, x.Queue = topic, queue
}

func (x *Delayed) yield(yield func(Delayed, error) bool) error {
	if !yield(*x, nil) {
		return errStop
	}
	return nil
}

// timers goes through the queue twice: what cancels a message lies behind it.
func (d *Dir) timers(ctx context.Context, was delay.TimerProgress, yield func(Delayed, error) bool) error {
	index := delay.NewTimers(was, d.brokerTimers())
	malformed := map[message.QueueOffset]error{}
	err := d.walk(ctx, message.TimerTopic, 0, index.Next(), func(e Entry) error {
		if e.Message == nil {
			index.Pass(e.At + 1)
			malformed[e.At] = e.Err
		} else if err := index.Add(e.At, e.Message); err != nil {
			malformed[e.At] = fmt.Errorf("%w: %w", ErrUndeliverable, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.walk(ctx, message.TimerTopic, 0, was.Low, func(e Entry) error {
		err, bad := malformed[e.At]
		if e.At >= index.Next() || index.Settled(e.At) && !bad {
			return nil
		}
		x := Delayed{Entry: e}
		if bad {
			x.Entry.Err = err
			return x.yield(yield)
		}
		due, err := delay.TimerDue(e.Message)
		if err != nil || index.Struck(delay.Timer{Due: due, At: e.At}, e.Message) {
			return nil //nolint:nilerr // the file has changed between the passes
		}
		x.Due = due
		x.aim()
		return x.yield(yield)
	})
}

// DelayedRow is a message that waits as one JSON object, with these fields in this
// order:
//
//	level           number or null   the delay level; null for a time of its own
//	due             number or null   when it is delivered, milliseconds since 1970
//	topic           string or null   where it is delivered to
//	queueId         number or null
//	queueOffset     number           in the queue that it waits in
//	physicalOffset  number           of its record in the commit log
//	size            number           bytes; of the record
//	msgId           string or null   what it is cancelled by
//	keys            string or null
//	error           string or null   why it will not be delivered
type DelayedRow struct{ Delayed }

// MarshalJSON implements json.Marshaler.
func (r DelayedRow) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// AppendJSON appends the object to dst, without a line end.
func (r DelayedRow) AppendJSON(dst []byte) []byte {
	null := func(there bool, dst []byte, value func([]byte) []byte) []byte {
		if !there {
			return append(dst, "null"...)
		}
		return value(dst)
	}
	e := &r.Entry
	dst = null(r.Level > 0, append(dst, `{"level":`...), func(b []byte) []byte { return appendInt(b, r.Level) })
	dst = null(r.Due > 0, append(dst, `,"due":`...), func(b []byte) []byte { return appendInt(b, r.Due) })
	dst = null(r.Topic != "", append(dst, `,"topic":`...), func(b []byte) []byte { return appendText(b, r.Topic) })
	dst = null(r.Topic != "", append(dst, `,"queueId":`...), func(b []byte) []byte { return appendInt(b, r.Queue) })
	dst = appendInt(append(dst, `,"queueOffset":`...), e.At)
	dst = appendInt(append(dst, `,"physicalOffset":`...), e.Offset)
	dst = appendInt(append(dst, `,"size":`...), e.Size)
	dst = null(e.Message != nil, append(dst, `,"msgId":`...), func(b []byte) []byte { return appendText(b, e.Message.ID()) })
	keys := ""
	if e.Message != nil {
		keys, _ = e.Message.Properties.Get(message.PropertyKeys)
	}
	dst = null(keys != "", append(dst, `,"keys":`...), func(b []byte) []byte { return appendText(b, keys) })
	dst = null(e.Err != nil, append(dst, `,"error":`...), func(b []byte) []byte { return appendText(b, e.Err.Error()) })
	return append(dst, '}')
}
