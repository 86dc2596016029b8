// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/transfer"
)

type replayFlags struct {
	copyFlags
	filter  filterFlags
	logDir  string
	to      string
	output  choice
	command string
	speed   speedFlag
	state   string
}

// speedFlag is transfer.Speed as a flag.
type speedFlag struct{ transfer.Speed }

func (s *speedFlag) Type() string { return "SPEED" }

func (s *speedFlag) Set(text string) (err error) {
	s.Speed, err = transfer.ParseSpeed(text)
	return err
}

func (a *app) replayCommand() *cobra.Command {
	var f replayFlags
	cmd := a.command("replay DIR (--to DIR | -o ndjson | --exec COMMAND) [flags]", "Send the messages of a log once more: to a store, as ndjson, or to a command", cobra.ExactArgs(1), nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.began = true
		return a.replay(args[0], &f, request(cmd.Flags()))
	}
	cmd.Long = `Replay hands on the messages of a store in the order of its commit log: it appends
them to another store, prints them as ndjson as 'storectl export' does, or writes
that to the standard input of a command that sh runs. It neither locks the store
that it reads nor changes it. It ends where the log ends.

With --speed 1x the messages go with the distances in time with which they were
stored; 10x is ten times as fast, 200/s is 200 messages a second.

A message keeps what 'storectl import' keeps, and the same is given anew; messages
that waited to be delivered later are treated as there. A new store is called
DIR.partial until the replay has come to its end; its log files are as long as
those of the source.

With --state a replay that was interrupted goes on when the same is asked for again,
and one that came to its end goes on with what the source has got since. Into a store
and into a file that is appended to (>>) no message comes twice or is left out, even
after a SIGKILL or a power cut. A command or a pipe gets some messages twice after a
SIGKILL, those of the last second; what a command did that failed is not known,
and what it was given comes again. Without --state a new store is removed when the
replay is interrupted.

Damage on the way is reported on stderr, what is intact behind it is replayed, and
the exit status is 1.`
	cmd.Example = example(`
		storectl replay /data/store --to ./copy --topic 'order*' --map-topic orders=orders-test
		storectl replay /data/store --to ./copy --speed 10x --state ./copy.state
		storectl replay /data/store --since 2h -o ndjson | jq -r .body
		storectl replay /data/store --topic orders --exec './send --topic orders' --speed 200/s`)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "append to the store in this `DIR`, or to a new one")
	choiceFlag(cmd, &f.output, "output", "o", "print the messages: ndjson", string(formatNDJSON))
	fl.StringVar(&f.command, "exec", "", "write the messages as ndjson to the standard input of this `COMMAND`")
	cmd.MarkFlagsOneRequired("to", "output", "exec")
	cmd.MarkFlagsMutuallyExclusive("to", "output", "exec")
	fl.Var(&f.speed, "speed", "max, a multiple of the stored speed (1x, 0.5x), or messages a second (200/s)")
	fl.StringVar(&f.state, "state", "", "`FILE` that keeps how far the replay has come, to go on after an interruption")
	a.filterFlagsTo(cmd, &f.filter, "before")
	copyFlagsOf(cmd, &f.copyFlags, "default as in DIR")
	commitLogFlag(cmd, &f.logDir)
	_ = cmd.MarkFlagDirname("to") // fails only for a flag that does not exist
	return cmd
}

// request is what the flags ask for, without what may change when a replay goes on.
func request(flags *pflag.FlagSet) string {
	var words []string
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "state", "speed", "file-size", "queue-file-size", "quiet":
		case "since", "until": // times before now; they are kept as they were
			words = append(words, "--"+f.Name)
		case "to":
			words = append(words, "--to="+absolute(f.Value.String()))
		default:
			words = append(words, "--"+f.Name+"="+f.Value.String())
		}
	})
	return strings.Join(words, " ")
}

// absolute is a path that means the same in another working directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (a *app) replay(dir string, f *replayFlags, request string) error {
	filter, err := f.filter.get()
	if err != nil {
		return err
	}
	r := &transfer.Replay{
		Filter: filter, Speed: f.speed.Speed, Delayed: f.which(), Now: a.now(),
		StatePath: f.state, Request: strings.TrimSpace(absolute(dir) + " " + request),
	}
	if r.Topics, err = f.topicMap(); err != nil {
		return err
	}
	bar := a.bar(f.quiet, "replay", 0)
	defer bar.Stop()
	if r.Source, err = inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set}); err != nil {
		return err
	}
	damaged := false
	r.Damage = func(err error) {
		damaged = true
		a.say("%s", oneLine(err))
	}
	switch {
	case f.to != "":
		err = a.replayTo(dir, f, r)
	case f.command != "":
		var sink *transfer.CommandSink
		if sink, err = transfer.StartCommand(f.command, flushing{a}, a.err); err != nil {
			return err
		}
		r.Sink = sink
		err = a.replayed(r, "", f.quiet)
	default:
		file, _ := a.raw.(*os.File)
		r.Sink = &transfer.StreamSink{Out: a.out, File: file}
		err = a.replayed(r, "", f.quiet)
	}
	if err == nil && damaged {
		return errFindings
	}
	return err
}

// flushing writes to stdout at once: whoever waits for it must see it now.
type flushing struct{ *app }

func (w flushing) Write(b []byte) (int, error) {
	n, err := w.out.Write(b)
	return n, errors.Join(err, w.out.Flush())
}

// replayTo replays into a store.
func (a *app) replayTo(dir string, f *replayFlags, r *transfer.Replay) error {
	if same, err := sameDir(dir, f.to); err != nil || same {
		return errors.Join(err, usagef("a store can't be replayed into itself: %s", f.to))
	}
	o := store.Options{FileSize: int64(f.fileSize), QueueFileSize: int64(f.queueSize)}
	var was *transfer.State
	var err error
	if f.state != "" {
		if was, err = transfer.ReadState(f.state); err != nil {
			return err
		}
	}
	t, err := a.openReplayTarget(f, r, o)
	if errors.Is(err, transfer.ErrPartial) {
		return fmt.Errorf("%w with the --state that it was begun with", err)
	}
	if err != nil {
		return storeFailure(err)
	}
	if was == nil && t.IsNew() && t.Store.Stats().Appended > 0 {
		return errors.Join(fmt.Errorf("%w: %s; remove it, or go on with the --state that it was begun with", transfer.ErrPartial, t.Path()), t.Leave())
	}
	r.Sink = transfer.StoreSink{Store: t.Store}
	err = a.replayed(r, t.Path(), f.quiet)
	switch {
	case err == nil:
		return t.Finish()
	case f.state == "" || t.IsNew() && t.Store.Stats().Appended == 0:
		return errors.Join(storeFailure(err), t.Discard())
	default:
		return errors.Join(storeFailure(err), t.Leave())
	}
}

// openReplayTarget opens the target; a new one gets log files as long as the
// source's.
func (a *app) openReplayTarget(f *replayFlags, r *transfer.Replay, o store.Options) (*transfer.Target, error) {
	isNew, err := transfer.IsEmpty(f.to)
	if err != nil {
		return nil, err
	}
	begun, err := transfer.IsEmpty(filepath.Clean(f.to) + transfer.Partial)
	if err != nil {
		return nil, err
	}
	if isNew && begun && o.FileSize == 0 {
		if _, _, o.FileSize, err = r.Source.LogFiles(); err != nil {
			return nil, err
		}
	}
	return transfer.OpenTarget(f.to, f.state != "", o)
}

// sameDir reports whether two paths are one directory. One that is missing is no
// other's.
func sameDir(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(x, y), err
}

// replayed runs a replay and sums up what it did.
func (a *app) replayed(r *transfer.Replay, to string, quiet bool) error {
	begin := time.Now()
	done, err := r.Run(a.ctx)
	if done.Delayed > 0 {
		a.say("%d messages that waited for a later delivery were left out (--delayed %s)", done.Delayed, r.Delayed)
	}
	if err == nil && quiet {
		return nil
	}
	if err != nil && (done.Messages == 0 || errors.Is(err, transfer.ErrCommand) || isClosedPipe(err)) {
		return err // of what a command did nothing is known, and who read a pipe has gone
	}
	what := fmt.Sprintf("replayed %d messages, %s, in %s", done.Messages, formatSize(done.Bytes), time.Since(begin).Round(time.Millisecond))
	if done.First > 0 {
		what += fmt.Sprintf("; stored %s to %s", formatTime(done.First), formatTime(done.Last))
	}
	if done.Before > 0 {
		what += fmt.Sprintf("; %d before", done.Before)
	}
	if done.Found > 0 {
		what += fmt.Sprintf("; %d of them were there already", done.Found)
	}
	a.say("%s", what)
	if err == nil {
		return nil
	}
	switch {
	case r.StatePath != "":
		a.say("the same command goes on where this one ended")
	case !strings.HasSuffix(to, transfer.Partial):
		a.say("what is left begins at --from %d", done.Next)
	}
	return err
}
