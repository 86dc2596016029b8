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

	"github.com/stelelog/stele/experiment"
	"github.com/stelelog/stele/internal/progress"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a store can do on this machine",
		Long: `Bench measures on stores of its own, in a temporary directory that is removed in
the end. Each experiment measures its floor as well: a loop that does only what
can't be done without, such as copying the bytes or syncing the file. The ratio to
it says how much of the machine the store makes use of, and how even the floor was
between rounds says how much to believe.`,
		Example: example(`
			storectl bench append
			storectl bench flush --producers 1,8,64 --html flush.html`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.benchAppendCommand(), a.benchFlushCommand(), a.benchWarmupCommand(), a.benchDeliverCommand(), a.benchReaderCommand(), a.benchFetchCommand(), a.benchRecoverCommand())
	return cmd
}

// benchFlags are what all experiments have in common.
type benchFlags struct {
	dir             string
	rounds, discard int
	quiet           bool
	html            string
	format          *format
}

func (f *benchFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "dir", "", "directory to measure in (default the system's temporary one)")
	fl.IntVar(&f.rounds, "rounds", experiment.DefaultRounds, "rounds that are measured; a figure is the median of them")
	fl.IntVar(&f.discard, "discard", 1, "rounds before those, which warm the machine up and don't count")
	fl.StringVar(&f.html, "html", "", "also write the report to FILE as a page that needs nothing else")
	quietFlag(cmd, &f.quiet)
	f.format = formatFlag(cmd)
	// They fail only for flags that do not exist.
	_ = cmd.MarkFlagDirname("dir")
	_ = cmd.MarkFlagFilename("html", "html")
}

// schedule is what the flags say.
func schedule(cmd *cobra.Command, f *benchFlags) (experiment.Schedule, error) {
	if f.rounds < 1 {
		return experiment.Schedule{}, usagef("--rounds %d: at least 1", f.rounds)
	}
	if f.discard < 0 {
		return experiment.Schedule{}, usagef("--discard %d: at least 0", f.discard)
	}
	s := experiment.Schedule{Dir: f.dir, Rounds: f.rounds, Discard: f.discard, Command: commandLine(cmd)}
	if f.discard == 0 {
		s.Discard = -1
	}
	return s, nil
}

// commandLine is the command with the flags that were given. What else was on
// the line says where the report goes.
func commandLine(cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "output", "html", "quiet", "dir":
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",") // String has brackets around it
		}
		if f.Value.Type() == new(size).Type() {
			value = strings.ReplaceAll(value, " ", "")
		}
		if f.Value.Type() == "bool" && value == "true" {
			words = append(words, "--"+f.Name)
			return
		}
		if strings.ContainsAny(value, " '\"") {
			value = "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
		}
		words = append(words, "--"+f.Name, value)
	})
	return strings.Join(words, " ")
}

// stepBar is a bar that an experiment moves on.
func (a *app) stepBar(quiet bool) *progress.Bar {
	if quiet {
		return nil
	}
	return a.err.Start(progress.Steps, "preparing", 0)
}

// showStep is experiment.Schedule.Progress.
func showStep(bar *progress.Bar, p experiment.Progress) {
	text := fmt.Sprintf("round %d: %s", p.Round, p.Case)
	if p.Round == 0 {
		text = "warming up: " + p.Case
	}
	bar.Text(text)
	bar.Set(int64(p.Done), int64(p.Total))
}

// bench runs an experiment and prints its report.
func (a *app) bench(cmd *cobra.Command, f *benchFlags, do func(experiment.Schedule) (*experiment.Report, error)) error {
	s, err := schedule(cmd, f)
	if err != nil {
		return err
	}
	if f.dir != "" {
		if info, err := os.Stat(f.dir); err != nil {
			return err
		} else if !info.IsDir() {
			return usagef("--dir %s: is no directory", f.dir)
		}
	}
	page, err := newPage(f.html)
	if err != nil {
		return err
	}
	bar := a.stepBar(f.quiet)
	defer bar.Stop()
	s.Progress = func(p experiment.Progress) { showStep(bar, p) }
	report, err := do(s)
	bar.Stop()
	if err != nil {
		if errors.Is(err, experiment.ErrConfig) {
			err = usageError{err}
		}
		return errors.Join(err, page.drop())
	}
	return errors.Join(a.report(*f.format, report), page.keep(report))
}

// report prints a report on stdout.
func (a *app) report(f format, r *experiment.Report) error {
	switch f {
	case formatTable:
		return r.WriteTable(a.out)
	case formatJSON:
		return a.document(f, r)
	}
	for _, w := range r.Warnings {
		a.say("warning: %s", w)
	}
	for i := range r.Rows {
		if _, err := a.out.Write(append(r.AppendRow(nil, i), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// page is the HTML file of a report. It is begun before the experiment, so that
// one that can't be written costs nobody a minute, and takes its name when it is
// whole.
type page struct {
	path string
	file *os.File
}

func newPage(path string) (*page, error) {
	if path == "" {
		return &page{}, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, usagef("--html %s: is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".storectl-*.html")
	return &page{path: path, file: f}, err
}

func (p *page) keep(r *experiment.Report) error {
	if p.file == nil {
		return nil
	}
	err := errors.Join(r.WriteHTML(p.file), p.file.Chmod(0o644), p.file.Close())
	if err == nil {
		err = os.Rename(p.file.Name(), p.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(p.file.Name()))
	}
	return nil
}

func (p *page) drop() error {
	if p.file == nil {
		return nil
	}
	return errors.Join(p.file.Close(), os.Remove(p.file.Name()))
}

// loadFlags are those of the experiments that append.
type loadFlags struct {
	benchFlags
	sizes     listOf[size]
	producers listOf[count]
	batches   listOf[count]
	flush     listOf[flushMode]
	paths     listOf[writePath]
	warmup    listOf[warmupMode]
	lock      bool
	messages  int
	duration  time.Duration
	fileSize  size
}

func (f *loadFlags) add(cmd *cobra.Command, sizes, producers, flush string) {
	fl := cmd.Flags()
	list := func(v pflag.Value, name, usage, def string) {
		_ = v.Set(def) // a constant that parses
		fl.Var(v, name, usage)
	}
	list(newListValue[*size](&f.sizes), "size", "sizes of the messages' bodies, separated by commas", sizes)
	list(newListValue[*count](&f.producers), "producers", "numbers of goroutines that append", producers)
	list(newListValue[*count](&f.batches), "batch", "numbers of messages that are appended together", "1")
	list(newListValue[*flushMode](&f.flush), "flush", "when an append returns: async (in memory), sync (on disk)", flush)
	list(newListValue[*writePath](&f.paths), "write-path", "how bytes get into the log's files: mmap, pool, file, default (file with --flush sync, else mmap)", "default")
	list(newListValue[*warmupMode](&f.warmup), "warmup", warmupUsage, "window")
	fl.BoolVar(&f.lock, "lock", false, "lock what is warmed up in memory")
	fl.IntVar(&f.messages, "messages", 0, "messages in each pass, at most (default 128 MiB of bodies, a million at most)")
	fl.Var(&f.fileSize, "file-size", "size of the commit log files (default what a pass needs, 1 GiB at most)")
	f.benchFlags.add(cmd)
}

func (f *loadFlags) matrix() experiment.Matrix {
	var m experiment.Matrix
	for _, s := range f.sizes {
		m.Sizes = append(m.Sizes, int(s))
	}
	for _, n := range f.producers {
		m.Producers = append(m.Producers, int(n))
	}
	for _, n := range f.batches {
		m.Batches = append(m.Batches, int(n))
	}
	for _, p := range f.paths {
		m.WritePaths = append(m.WritePaths, store.WritePath(p))
	}
	for _, w := range f.warmup {
		m.Warmups = append(m.Warmups, w.options(f.lock, warmup.NoAdvice))
	}
	for _, mode := range f.flush {
		m.Flush = append(m.Flush, mode.mode())
	}
	return m
}
