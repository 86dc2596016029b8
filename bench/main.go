// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// flags are those of the command line that are no part of config.
type flags struct {
	peers, workloads string
	form, page       string
	merge            []string
	cache            string
	quiet, list      bool
}

func run(ctx context.Context, args []string, out, told io.Writer) error {
	if len(args) == 2 && args[0] == childArg {
		return child(args[1], out)
	}
	var c config
	var f flags
	set := flagsOf(&c, &f, told)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("no arguments are taken: %q", set.Args())
	}
	if f.form != "table" && f.form != "json" {
		return fmt.Errorf("-o %s: want table or json", f.form)
	}
	if c.rounds < 1 {
		return fmt.Errorf("--rounds %d: want 1 or more", c.rounds)
	}
	c.short = set.Changed("time")
	c.progress = told
	if f.quiet {
		c.progress = io.Discard
	}
	var err error
	if c.peers, err = choose(peers(), func(p peer) string { return p.name }, f.peers); err != nil {
		return err
	}
	if c.workloads, err = choose(workloads(), func(w workload) string { return w.name }, f.workloads); err != nil {
		return err
	}
	if f.list {
		return list(out)
	}
	began := time.Now()
	var records []record
	var absent []string
	var took time.Duration
	if len(f.merge) > 0 {
		records, took, err = c.read(f.merge, &began)
	} else if absent, err = c.prepare(f.cache, f.peers != ""); err == nil {
		records, err = c.measureAll(ctx)
		took = time.Since(began)
	}
	stopped := ctx.Err() != nil && len(records) > 0
	if err != nil && !stopped {
		return err
	}
	d := reportOf(c, records, strings.Join(append([]string{"go run ."}, args...), " "), began, took)
	d.Report.Warnings = append(d.Report.Warnings, absent...)
	if stopped {
		d.Report.Warnings = append(d.Report.Warnings, "stopped before all was measured")
	}
	if f.page != "" {
		if err := writePage(d, f.page); err != nil {
			return err
		}
	}
	return errors.Join(err, d.write(out, f.form))
}

func flagsOf(c *config, f *flags, told io.Writer) *pflag.FlagSet {
	set := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	set.SetOutput(told)
	set.StringVar(&c.dir, "dir", os.TempDir(), "directory of the measurements, on the file system that counts; they need some gigabytes")
	set.IntVar(&c.rounds, "rounds", 3, "how often each is measured; a figure is the median")
	set.DurationVar(&c.time, "time", 3*time.Second, "how long a measurement takes at most; given here, it holds for the workloads too that have a time of their own")
	set.Int64Var(&c.bytes, "bytes", 2*gib, "bytes of messages appended in a measurement, at most")
	set.Int64Var(&c.readBytes, "read-bytes", gib, "bytes of messages that are there to be read")
	set.Int64Var(&c.reopenBytes, "reopen-bytes", 2*gib, "bytes of messages that are there to be opened")
	set.StringVar(&f.peers, "peers", "", "peers, separated by commas; a name may end in *")
	set.StringVar(&f.workloads, "workloads", "", "workloads, likewise")
	set.StringVarP(&f.form, "output", "o", "table", "table or json")
	set.StringVar(&f.page, "html", "", "write a page that needs nothing else to this file, too")
	set.StringSliceVar(&f.merge, "merge", nil, "measure nothing: report what these files have, which earlier runs wrote with -o json")
	set.StringVar(&c.profiles, "profiles", "", "write a CPU profile of each measurement to this directory; it costs some percent")
	set.StringVar(&f.cache, "cache", filepath.Join("..", ".cache"), "where the program for RocketMQ is built once, with Maven")
	set.BoolVar(&f.quiet, "quiet", false, "do not tell each measurement")
	set.BoolVar(&f.list, "list", false, "list workloads and peers")
	return set
}

// prepare readies the peers that need it, and leaves out those that this machine
// can't run, unless they were named; it returns a line for each of those.
func (c *config) prepare(cache string, named bool) (absent []string, err error) {
	c.peers = slices.DeleteFunc(slices.Clone(c.peers), func(p peer) bool {
		if p.prepare == nil || err != nil {
			return false
		}
		e := p.prepare(cache)
		if errors.Is(e, errMissing) && !named {
			absent = append(absent, fmt.Sprintf("%s is left out: %v", p.name, e))
			return true
		}
		if e != nil {
			err = fmt.Errorf("%s: %w", p.name, e)
		}
		return false
	})
	return absent, err
}

// read returns what earlier runs measured. Rounds of later files follow those of
// the files before.
func (c *config) read(files []string, began *time.Time) (all []record, took time.Duration, err error) {
	c.rounds = 0
	last := map[string]int{} // round of a workload and peer
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		var d struct {
			Report struct {
				Time        time.Time
				TookMs      int64
				Environment struct{ Dir string }
			}
			Records []record
		}
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		took += time.Duration(d.Report.TookMs) * time.Millisecond
		if i == 0 || d.Report.Time.Before(*began) {
			*began, c.dir = d.Report.Time, d.Report.Environment.Dir
		}
		for _, r := range d.Records {
			key := r.Workload + " " + r.Peer
			last[key]++
			r.Round = last[key]
			c.rounds = max(c.rounds, r.Round)
			all = append(all, r)
		}
	}
	return all, took, nil
}

func list(out io.Writer) error {
	var err error
	say := func(format string, args ...any) {
		_, e := fmt.Fprintf(out, format, args...)
		err = errors.Join(err, e)
	}
	say("Workloads:\n")
	for _, w := range workloads() {
		say("  %-14s %s\n", w.name, w.title)
	}
	say("Peers:\n")
	for _, p := range peers() {
		say("  %-16s %s %s\n", p.name, p.module, versionOf(p))
		for _, m := range []mode{async, durable} {
			if g, ok := p.modes[m]; ok {
				say("    %-5s survives: %-9s %s\n", m, g.survives(), g.Text)
			}
		}
	}
	return err
}

func writePage(d document, name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Report.WriteHTML(file), file.Close())
}
