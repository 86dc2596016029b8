// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

type delayFlags struct {
	format   *format
	messages bool
	limit    int64
	levels   string
	logDir   string
}

func (a *app) inspectDelayCommand() *cobra.Command {
	f := delayFlags{levels: message.DefaultDelayLevels}
	cmd := a.command("delay DIR [flags]", "Show messages that wait to be delivered", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectDelay(args[0], &f) })
	cmd.Long = `Delay shows how many messages wait to be delivered later, by delay level, and how
many with a time of their own; with --messages each of them.

How far delivery has come is known from Stele's metadata, and from a broker's
config/delayOffset.json and config/timercheck. While the store is open elsewhere,
what was delivered within the last seconds may still show. Without any of these
every message in the queues shows as one that waits.

A message that can't be delivered, because it can't be read or names no topic, is
reported on stderr, and the exit status is 1.`
	cmd.Example = example(`
		storectl inspect delay /data/store
		storectl inspect delay /data/store --messages --limit 20 -o ndjson`)
	fl := cmd.Flags()
	fl.BoolVar(&f.messages, "messages", false, "list the messages")
	fl.Int64Var(&f.limit, "limit", 0, "with --messages: stop after `N` (0: no limit)")
	fl.StringVar(&f.levels, "levels", f.levels, "the delay levels, where an entry does not say when")
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) inspectDelay(dir string, f *delayFlags) error {
	if f.limit < 0 {
		return usagef("--limit can't be negative")
	}
	levels, err := message.ParseDelayLevels(f.levels)
	if err != nil {
		return usageError{err}
	}
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir})
	if err != nil {
		return err
	}
	q := inspect.DelayQuery{Levels: levels}
	if q.Progress, err = delayProgress(dir); err != nil {
		return err
	}
	if f.messages {
		return a.delayedMessages(d, q, f)
	}
	return a.delayedQueues(d, q, f)
}

// delayProgress reads how far delivery has come, in a store that Stele wrote.
func delayProgress(dir string) (p delay.Progress, err error) {
	m, err := openMeta(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	offsets, err1 := m.DelayOffsets()
	t, _, err2 := m.Timers()
	p.Levels = make(map[int32]message.QueueOffset, len(offsets))
	for level, next := range offsets {
		p.Levels[int32(level)-1] = next
	}
	p.Timers = delay.TimerProgress{Low: t.Low, Next: t.Next, Due: t.Due, At: t.At}
	return p, errors.Join(err1, err2, m.Close())
}

func (a *app) delayedMessages(d *inspect.Dir, q inspect.DelayQuery, f *delayFlags) error {
	l := a.newList(*f.format, "DUE", "LEVEL", "QUEUE OFFSET", "OFFSET", "SIZE", "TOPIC", "QUEUE", "KEYS", "ERROR")
	left, damaged := f.limit, false
	for x, err := range d.Delayed(a.ctx, q) {
		if err != nil {
			return a.ended(l, err)
		}
		damaged = a.sayDelayed(&x) || damaged
		if err := l.add(delayedItem{inspect.DelayedRow{Delayed: x}}); err != nil {
			return err
		}
		if left--; left == 0 {
			break
		}
	}
	return a.endDelayed(l, damaged)
}

// sayDelayed reports what will not be delivered.
func (a *app) sayDelayed(x *inspect.Delayed) bool {
	if x.Entry.Err == nil || !x.Entry.IsDamage() {
		return false
	}
	name := message.TimerTopic + "/0"
	if x.Level > 0 {
		name = message.DelayTopic + "/" + strconv.Itoa(x.Level-1)
	}
	a.say("%s, offset %d: %s", name, x.Entry.At, oneLine(x.Entry.Err))
	return true
}

func (a *app) endDelayed(l *list, damaged bool) error {
	if err := l.close(); err != nil {
		return err
	}
	if damaged {
		return errFindings
	}
	return nil
}

// delayedQueues sums up the messages of each queue.
func (a *app) delayedQueues(d *inspect.Dir, q inspect.DelayQuery, f *delayFlags) error {
	l := a.newList(*f.format, "LEVEL", "WAITING", "FIRST DUE", "LAST DUE", "FIRST OFFSET", "LAST OFFSET")
	var sum *delayedSum
	damaged := false
	flush := func() error {
		if sum == nil {
			return nil
		}
		return l.add(sum)
	}
	for x, err := range d.Delayed(a.ctx, q) {
		if err != nil {
			return a.ended(l, err)
		}
		damaged = a.sayDelayed(&x) || damaged
		if sum == nil || sum.level != x.Level {
			if err := flush(); err != nil {
				return err
			}
			sum = &delayedSum{level: x.Level, first: x.Entry.At}
		}
		sum.add(&x)
	}
	if err := flush(); err != nil {
		return err
	}
	return a.endDelayed(l, damaged)
}

// delayedItem is a message that waits in a list.
type delayedItem struct{ inspect.DelayedRow }

// Cells implements item.
func (i delayedItem) Cells() []string {
	e := &i.Entry
	cells := []string{
		formatTime(i.Due), levelCell(i.Level), strconv.FormatInt(int64(e.At), 10), strconv.FormatInt(int64(e.Offset), 10),
		strconv.Itoa(int(e.Size)), cell(i.Topic), strconv.Itoa(int(i.Queue)), "-", "-",
	}
	if e.Message != nil {
		keys, _ := e.Message.Properties.Get(message.PropertyKeys)
		cells[7] = cell(keys)
	}
	if e.Err != nil {
		cells[8] = cell(oneLine(e.Err))
	}
	return cells
}

func levelCell(level int) string {
	if level == 0 {
		return "time"
	}
	return strconv.Itoa(level)
}

// delayedSum is the messages of one queue that wait.
type delayedSum struct {
	level             int
	waiting           int64
	firstDue, lastDue int64
	first, last       message.QueueOffset
}

func (s *delayedSum) add(x *inspect.Delayed) {
	s.last = x.Entry.At
	if x.Entry.Err != nil {
		return
	}
	s.waiting++
	if s.firstDue == 0 || x.Due < s.firstDue {
		s.firstDue = x.Due
	}
	s.lastDue = max(s.lastDue, x.Due)
}

// Cells implements item.
func (s *delayedSum) Cells() []string {
	return []string{
		levelCell(s.level), strconv.FormatInt(s.waiting, 10), formatTime(s.firstDue), formatTime(s.lastDue),
		strconv.FormatInt(int64(s.first), 10), strconv.FormatInt(int64(s.last), 10),
	}
}

// AppendJSON implements item.
func (s *delayedSum) AppendJSON(dst []byte) []byte {
	number := func(name string, v int64, there bool) {
		dst = append(append(append(dst, '"'), name...), `":`...)
		if there {
			dst = strconv.AppendInt(dst, v, 10)
		} else {
			dst = append(dst, "null"...)
		}
		dst = append(dst, ',')
	}
	dst = append(dst, '{')
	number("level", int64(s.level), s.level > 0)
	number("waiting", s.waiting, true)
	number("firstDue", s.firstDue, s.firstDue > 0)
	number("lastDue", s.lastDue, s.lastDue > 0)
	number("firstOffset", int64(s.first), true)
	number("lastOffset", int64(s.last), true)
	dst[len(dst)-1] = '}'
	return dst
}
