// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
)

type doctorFlags struct {
	format *format
	logDir string
	quiet  bool
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := a.command("doctor DIR [flags]", "Look at the machine and the files around a store", cobra.ExactArgs(1),
		func(args []string) error { return a.doctor(args[0], &f) })
	cmd.Long = `Doctor says what may go wrong with a store, and what to do about it:

  owner        whether it was closed in order, or is open
  file-system  what it is on
  space        what is left on the disk
  reserved     whether the files of the log have all of their blocks
  maps         the files to be mapped, and vm.max_map_count
  open-files, memlock
               limits of the process that has the store open, else of this shell
  files        missing, stray, wrongly sized ones, and a checkpoint that can't be read
  strangers    what else lies in the directory
  clock        store times that go backwards, or lie ahead

Each is ok, a note (it may matter) or a problem. With a problem the exit status
is 1. Nothing is changed and no lock is taken.

It reads the first record of each file of the log, and the last file. 'storectl
verify' reads everything.`
	cmd.Example = example(`
		storectl doctor /data/store
		storectl doctor /data/store -o ndjson | jq -r 'select(.level == "problem") | .found'`)
	quietFlag(cmd, &f.quiet)
	commitLogFlag(cmd, &f.logDir)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) doctor(dir string, f *doctorFlags) error {
	bar := a.bar(f.quiet, "doctor", 0)
	defer bar.Stop()
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir, Progress: bar.Set})
	if err != nil {
		return err
	}
	l := a.newList(*f.format, "LEVEL", "CHECK", "FOUND", "WHAT TO DO")
	problems := 0
	err = d.Doctor(a.ctx, a.now(), func(x inspect.Diagnosis) error {
		if x.Level == inspect.LevelProblem {
			problems++
		}
		return l.add(&diagnosisItem{x})
	})
	if err != nil {
		return a.ended(l, err)
	}
	if err := l.close(); err != nil {
		return err
	}
	if problems > 0 {
		return errFindings
	}
	return nil
}

// diagnosisItem is a diagnosis in a list.
type diagnosisItem struct{ inspect.Diagnosis }

// Cells implements item.
func (d *diagnosisItem) Cells() []string {
	return []string{string(d.Level), d.Check, cell(strings.ReplaceAll(d.Found, "\n", "; ")), cell(d.Advice)}
}
