// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stelelog/stele/experiment"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

func (a *app) benchWarmupCommand() *cobra.Command {
	var f benchFlags
	var modes listOf[warmupMode]
	var locks listOf[yesNo]
	var advice listOf[warmupAdvice]
	files, body, fileSize := 10, size(1<<10), size(16<<20)
	var cmd *cobra.Command
	cmd = a.command("warmup [flags]", "Measure what warming files up costs, and what it gains", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f, func(s experiment.Schedule) (*experiment.Report, error) {
			return experiment.Warmup(a.ctx, experiment.WarmupConfig{
				Schedule: s, Warmups: warmupCases(modes, locks, advice), Files: files, Size: int(body), FileSize: int64(fileSize),
			})
		})
	})
	cmd.Long = `Warmup measures, for each way to warm the log's files up, what it costs to prepare
one file (time, page faults, what is in memory and locked afterwards), and appends
at full speed through several files: throughput, latencies, the page faults that
are left, and the longest append that went on to a new file. What the system
refuses, such as to lock more than 'ulimit -l', is said and not done.

Its floor is one goroutine that copies records of the same length into a mapping
that is warm.`
	cmd.Example = example(`
		storectl bench warmup
		storectl bench warmup --warmup off,populate --advise none,random --html warmup.html`)
	fl := cmd.Flags()
	list := func(v pflag.Value, name, usage, def string) {
		_ = v.Set(def) // a constant that parses
		fl.Var(v, name, usage)
	}
	list(newListValue[*warmupMode](&modes), "warmup", warmupUsage, "off,touch,populate,window")
	list(newListValue[*yesNo](&locks), "lock", "lock what is warmed up in memory: no, yes", "no,yes")
	list(newListValue[*warmupAdvice](&advice), "advise", "advice to the kernel: none, willneed, sequential, random", "none")
	fl.IntVar(&files, "files", files, "files that the appends go through")
	fl.Var(&body, "size", "size of the messages' bodies")
	fl.Var(&fileSize, "file-size", "size of the commit log files")
	f.add(cmd)
	return cmd
}

// warmupCases are all combinations. Off is one, since there is nothing to lock.
func warmupCases(modes listOf[warmupMode], locks listOf[yesNo], advice listOf[warmupAdvice]) []store.WarmupOptions {
	var all []store.WarmupOptions
	for _, m := range modes {
		if m == "off" {
			all = append(all, m.options(false, warmup.NoAdvice))
			continue
		}
		for _, lock := range locks {
			for _, advise := range advice {
				all = append(all, m.options(bool(lock), warmup.Advice(advise)))
			}
		}
	}
	return all
}

// yesNo is a truth of which a flag may list both.
type yesNo bool

func (y *yesNo) Type() string { return "YES|NO" }

func (y *yesNo) String() string {
	if *y {
		return "yes"
	}
	return "no"
}

func (y *yesNo) Set(s string) error {
	if s != "yes" && s != "no" {
		return errors.New("must be yes or no")
	}
	*y = s == "yes"
	return nil
}

// warmupAdvice is warmup.Advice as a flag: those that make sense for what is
// about to be written.
type warmupAdvice warmup.Advice

func (v *warmupAdvice) String() string { return warmup.Advice(*v).String() }
func (v *warmupAdvice) Type() string   { return "ADVICE" }

func (v *warmupAdvice) Set(s string) error {
	advice, err := warmup.ParseAdvice(s)
	if err != nil || advice > warmup.Sequential {
		return errors.New("must be none, willneed, sequential or random")
	}
	*v = warmupAdvice(advice)
	return nil
}
