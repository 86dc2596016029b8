// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

type tailFlags struct {
	filter      filterFlags
	last        int
	follow      bool
	output      choice
	body, plain bool
	logDir      string
}

func (a *app) tailCommand() *cobra.Command {
	var f tailFlags
	cmd := a.command("tail DIR [flags]", "Print the last messages of a log, and those that come", cobra.ExactArgs(1),
		func(args []string) error { return a.tail(args[0], &f) })
	cmd.Long = `Tail prints the newest messages of a store, in the order of its commit log, and
with -f what is appended from then on, until it is interrupted (exit status 130).
It reads what the process that has the store open writes, a broker or Stele,
takes no lock and changes nothing.

With -f it looks at the end of the log after a millisecond, and after a pause more
seldom, at least five times a second: nothing tells another process that a mapped
page was written. A message that is being written is waited for.

With -o lines it prints the bodies alone, decompressed, each with a line end.

Damage on the way is reported on stderr, and the exit status is 1.

A flag that can be repeated takes a message that any of its values fits; of
different flags, all must fit.`
	cmd.Example = example(`
		storectl tail /data/store
		storectl tail /data/store -f --topic 'order*'
		storectl tail /data/store -n 100 --tag paid -o ndjson --body
		storectl tail /data/store -f -n 0 --topic logs -o lines`)
	fl := cmd.Flags()
	fl.IntVarP(&f.last, "last", "n", 10, "begin with the last `N` messages")
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on with what is appended")
	a.filterFlags(cmd, &f.filter)
	bodyFlags(cmd, &f.body, &f.plain)
	commitLogFlag(cmd, &f.logDir)
	f.output.value = string(formatTable)
	choiceFlag(cmd, &f.output, "output", "o", "output format: table, ndjson, lines", string(formatTable), string(formatNDJSON), formatLines)
	return cmd
}

func (a *app) tail(dir string, f *tailFlags) error {
	filter, err := f.filter.get()
	if err != nil {
		return err
	}
	if f.last < 0 {
		return usagef("-n %d is negative", f.last)
	}
	p, err := a.tailPrinter(f)
	if err != nil {
		return err
	}
	d, err := inspect.Open(dir, inspect.Options{CommitLog: f.logDir})
	if err != nil {
		return err
	}
	damaged := false
	for rec, err := range d.Tail(a.ctx, inspect.TailOptions{Filter: filter, Last: f.last, Follow: f.follow, Idle: p.flush}) {
		var damage *inspect.DamageError
		var file *mappedfile.FileError
		switch {
		case errors.As(err, &damage) || errors.As(err, &file):
			damaged = true
			a.say("%s", oneLine(err))
		case err != nil:
			return errors.Join(err, p.flush())
		default:
			if err := p.print(rec.Message); err != nil {
				return err
			}
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	if damaged {
		return errFindings
	}
	return nil
}

// tailPrinter prints messages that come one by one.
type tailPrinter struct {
	list  *list // nil for lines
	item  messageItem
	lines messageWriter
}

func (a *app) tailPrinter(f *tailFlags) (*tailPrinter, error) {
	p := &tailPrinter{lines: messageWriter{out: a.out, lines: true}}
	if f.output.value == formatLines {
		return p, nil
	}
	o := format(f.output.value)
	var err error
	p.item.Body, err = bodyOf(f.body, f.plain, o)
	p.list = a.newList(o, messageHeader...)
	return p, err
}

func (p *tailPrinter) print(m *message.Message) error {
	if p.list == nil {
		return p.lines.write(m)
	}
	p.item.Message = m
	return p.list.add(&p.item)
}

// flush shows what was printed.
func (p *tailPrinter) flush() error {
	if p.list != nil && p.list.table != nil {
		if err := p.list.table.Flush(); err != nil {
			return err
		}
	}
	return p.lines.out.Flush()
}

// end is flush for the last time: of an empty table there is a header.
func (p *tailPrinter) end() error {
	if p.list != nil {
		return p.list.close()
	}
	return nil
}
