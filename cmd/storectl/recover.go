// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/store"
)

type recoverFlags struct {
	format *format
	apply  bool
	backup string
	quiet  bool
	index  store.IndexOptions
}

func (a *app) recoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := a.command("recover DIR [flags]", "Show what opening a store would do to it after a crash; with --apply do it", cobra.ExactArgs(1),
		func(args []string) error { return a.recover(args[0], &f) })
	cmd.Long = `Recover says what Stele would do to a store when it opens it, and changes nothing:
in which state it finds it, from where on it reads the log, where it finds its
end, and line by line

  message   an intact message behind the end, which would be cut
  torn      bytes behind the end that are no intact message
  missing   a message that only its queue knows: the log has nothing of it
  damage    a stretch of the log that can't be read; it stays as it is
  stale     a message behind the end that was given up before: RocketMQ leaves
            such behind the end when it cuts a log
  cut       what would become zeros in the last file of the log
  remove    a file behind the end, or one whose making was interrupted
  fill      entries that a queue lacks, or that are not believed, and are written
  recovery  the state, and the part of the log that is read

The exit status is 1 if a message would be lost, or is: if there is a line of the
first four kinds, or the log ends before a place that it had reached.

With --apply the store is opened, and closed again in order. What is cut of the
log is written to a file before that, DIR/recover-TIME.cut or what --backup says:
its first byte is the first that is cut, and so on, over all files of the log.
Queues need no backup, since they are made from the log. The directory gets what
Stele keeps for itself (stele/), and a broker can open it afterwards.

Nobody else may have the store open, for a look neither: a log that is being
written has no end. A broker would recover it by its own rules, which believe
less.`
	cmd.Example = example(`
		storectl recover /data/store
		storectl recover /data/store -o ndjson | jq 'select(.kind == "message")'
		storectl recover /data/store --apply --backup /backup/tail.cut`)
	fl := cmd.Flags()
	fl.BoolVar(&f.apply, "apply", false, "recover the store")
	fl.StringVar(&f.backup, "backup", "", "with --apply: the new `FILE` for what is cut of the log (default DIR/recover-TIME.cut)")
	fl.IntVar(&f.index.Slots, "index-slots", 0, "slots of each index file (maxHashSlotNum; default: as those that are there)")
	fl.IntVar(&f.index.Entries, "index-entries", 0, "entries of each index file (maxIndexNum; default: as those that are there)")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no summary and no progress on stderr")
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) recover(dir string, f *recoverFlags) error {
	if f.backup != "" && !f.apply {
		return usagef("--backup needs --apply")
	}
	o := store.Options{MustExist: true, Index: f.index}
	bar := a.bar(f.quiet, "recover", 0)
	defer bar.Stop()
	l := a.newList(*f.format, "KIND", "FILE", "OFFSET", "SIZE", "TOPIC", "QUEUE", "QUEUE OFFSET", "STORED", "DETAIL")
	see := store.Foreseeing{Progress: bar.Set, Loss: func(x store.Loss) error { return l.add(lossStep(&x)) }}
	var fc *store.Forecast
	var err error
	if f.apply {
		fc, err = a.recoverApply(dir, f, o, see, l)
	} else if fc, err = store.Foresee(a.ctx, dir, o, see); err == nil {
		err = addSteps(l, fc)
	}
	if err != nil {
		return a.ended(l, askSizes(storeFailure(err)))
	}
	if err := l.close(); err != nil {
		return err
	}
	if !f.quiet && !f.apply {
		a.say("dry run: nothing was changed; %s", recoverySum(fc))
	}
	if fc.Losses > 0 || fc.Lost > 0 {
		return errFindings
	}
	return nil
}

// recoverApply shows what will be, saves what will be cut, and does it.
func (a *app) recoverApply(dir string, f *recoverFlags, o store.Options, see store.Foreseeing, l *list) (fc *store.Forecast, err error) {
	backup, saved := f.backup, false
	if backup == "" {
		backup = filepath.Join(dir, "recover-"+a.now().UTC().Format("20060102T150405.000Z")+".cut")
	}
	rec, err := store.Recover(a.ctx, dir, o, see, func(x *store.Forecast) (err error) {
		fc = x
		if err = addSteps(l, x); err == nil {
			saved, err = x.SaveCuts(a.ctx, backup)
		}
		if errors.Is(err, fs.ErrExist) {
			return usageError{err}
		}
		return err
	})
	if saved && (err != nil || !f.quiet) {
		a.say("what is cut of the log is in %s, from offset %d on", backup, fc.Cuts[0].At)
	}
	if err != nil || f.quiet {
		return fc, err
	}
	for _, c := range rec.Offsets {
		a.say("group %q, topic %q, queue %d: offset %d set back to %d, the end of the queue", c.Group, c.Topic, c.Queue, c.From, c.To)
	}
	done := *fc
	done.Recovery = rec
	a.say("recovered; %s", recoverySum(&done))
	return fc, nil
}

func recoverySum(fc *store.Forecast) string {
	text := fmt.Sprintf("%s: %d records read from offset %d on, the log ends at %d", fc.Kind, fc.Records, fc.From, fc.End)
	if fc.Rebuilt {
		text += "; queues did not fit it, and all of it is read"
	}
	if fc.Lost > 0 {
		text += fmt.Sprintf("; it had reached %d bytes further", fc.Lost)
	}
	return text + fmt.Sprintf("; %d findings", fc.Losses)
}

// recoverStep is one thing that is lost or done, as a row and as JSON.
type recoverStep struct {
	Kind        string  `json:"kind"`
	File        *string `json:"file"`
	Offset      *int64  `json:"offset"`
	Size        *int64  `json:"size"`
	Topic       *string `json:"topic"`
	QueueID     *int32  `json:"queueId"`
	QueueOffset *int64  `json:"queueOffset"`
	Stored      *int64  `json:"storeTimestamp"`
	Detail      string  `json:"detail"`
}

func lossStep(x *store.Loss) *recoverStep {
	s := &recoverStep{Kind: string(x.Kind), Offset: ptr(int64(x.Offset))}
	if x.Path != "" {
		s.File = &x.Path
	}
	if x.Size > 0 {
		s.Size = &x.Size
	}
	if x.Queued {
		s.Topic, s.QueueID, s.QueueOffset = &x.Topic, &x.Queue, ptr(int64(x.QueueOffset))
	}
	if x.StoreTime > 0 {
		s.Stored = &x.StoreTime
	}
	if x.Err != nil {
		s.Detail = oneLine(x.Err)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// addSteps lists what is done.
func addSteps(l *list, fc *store.Forecast) error {
	var steps []*recoverStep
	for _, c := range fc.Cuts {
		s := &recoverStep{Kind: "cut", File: &c.Path, Offset: ptr(int64(c.At)), Size: &c.Bytes, Detail: "becomes zeros"}
		if c.Removed {
			s.Kind, s.Detail = "remove", "lies behind the end of the log"
		}
		steps = append(steps, s)
	}
	for _, path := range fc.Unfinished {
		steps = append(steps, &recoverStep{Kind: "remove", File: &path, Detail: "empty: its making was interrupted"})
	}
	for _, q := range fc.Filled {
		steps = append(steps, &recoverStep{
			Kind: "fill", Topic: &q.Topic, QueueID: &q.Queue, QueueOffset: ptr(int64(q.From)), Detail: "up to queue offset " + strconv.FormatInt(int64(q.To), 10),
		})
	}
	last := &recoverStep{Kind: "recovery", Offset: ptr(int64(fc.From)), Size: ptr(int64(fc.End - fc.From)), Detail: recoverySum(fc)}
	for _, s := range append(steps, last) {
		if err := l.add(s); err != nil {
			return err
		}
	}
	return nil
}

// Cells implements item.
func (s *recoverStep) Cells() []string {
	number := func(v *int64) string {
		if v == nil {
			return "-"
		}
		return strconv.FormatInt(*v, 10)
	}
	text := func(v *string) string {
		if v == nil {
			return "-"
		}
		return cell(*v)
	}
	queue, stored := "-", "-"
	if s.QueueID != nil {
		queue = strconv.Itoa(int(*s.QueueID))
	}
	if s.Stored != nil {
		stored = formatTime(*s.Stored)
	}
	return []string{s.Kind, text(s.File), number(s.Offset), number(s.Size), text(s.Topic), queue, number(s.QueueOffset), stored, cell(s.Detail)}
}

// AppendJSON implements item.
func (s *recoverStep) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(s) // of strings and numbers
	return append(dst, b...)
}
