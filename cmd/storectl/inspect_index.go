// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
)

type indexFlags struct {
	format *format
	file   string
	slot   int
	chains bool
	sizes  keyindex.Sizes
}

func (a *app) inspectIndexCommand() *cobra.Command {
	var f indexFlags
	cmd := a.command("index DIR [flags]", "List the files of the key index, or the entries of one", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectIndex(args[0], &f) })
	cmd.Long = `Index lists the files of the key index with what their headers say, and checks
every slot and entry on the way. Damage is reported on stderr, and the exit
status is 1. With --file it lists the entries of one file, with --slot as well
the chain of one slot, newest entry first.

The files do not say how many slots and entries they have: see storectl query.`
	cmd.Example = example(`
		storectl inspect index /data/store --chains
		storectl inspect index /data/store --file 20261122135434261 -o ndjson
		storectl inspect index /data/store --file 20261122135434261 --slot 367`)
	fl := cmd.Flags()
	fl.StringVar(&f.file, "file", "", "list the entries of the file of this `NAME`")
	fl.IntVar(&f.slot, "slot", -1, "only the chain of this slot (with --file)")
	fl.Lookup("slot").DefValue = "" // pflag would show -1
	fl.BoolVar(&f.chains, "chains", false, "add figures about the chains: how many slots have one of 0, 1, 2, ... entries")
	indexSizeFlags(cmd, &f.sizes)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) inspectIndex(dir string, f *indexFlags) error {
	switch {
	case f.sizes.Slots < 0 || f.sizes.Entries < 0 || f.slot < -1:
		return usagef("--slot, --index-slots and --index-entries can't be negative")
	case f.slot >= 0 && f.file == "":
		return usagef("--slot needs --file")
	case f.chains && f.file != "":
		return usagef("--chains is for the list of files, --file for the entries of one")
	}
	d, err := inspect.Open(dir, inspect.Options{})
	if err != nil {
		return err
	}
	if f.file != "" {
		return a.indexEntries(d, f)
	}
	header := []string{"FILE", "ENTRIES", "FULL", "SLOTS USED", "FIRST OFFSET", "LAST OFFSET", "FIRST STORED", "LAST STORED"}
	if f.chains {
		header = append(header, "LONGEST", "SLOTS BY LENGTH")
	}
	l := a.newList(*f.format, header...)
	damaged := false
	for file, err := range d.IndexFiles(a.ctx, f.sizes, f.chains) {
		if err != nil && isDamage(err) {
			damaged = true
			a.say("%s", oneLine(err))
			continue
		}
		if err != nil {
			return a.ended(l, askSizes(err))
		}
		for _, p := range file.Problems {
			damaged = true
			a.say("%s", oneLine(p))
		}
		if err := l.add(&indexFileItem{file}); err != nil {
			return err
		}
	}
	if err := l.close(); err != nil {
		return err
	}
	if damaged {
		return errFindings
	}
	return nil
}

func (a *app) indexEntries(d *inspect.Dir, f *indexFlags) error {
	l := a.newList(*f.format, "ENTRY", "SLOT", "HASH", "OFFSET", "SECONDS", "PREVIOUS")
	for e, err := range d.IndexEntries(a.ctx, f.sizes, f.file, f.slot) {
		if err != nil {
			return a.ended(l, askSizes(err))
		}
		if err := l.add(&indexEntryItem{e}); err != nil {
			return err
		}
	}
	return l.close()
}

// indexFileItem is an index file in a list.
type indexFileItem struct{ inspect.IndexFile }

// AppendJSON implements item.
func (f *indexFileItem) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(f.IndexFile) // numbers and text
	return append(dst, b...)
}

// Cells implements item.
func (f *indexFileItem) Cells() []string {
	cells := []string{
		f.Name, strconv.Itoa(f.Count), strconv.FormatBool(f.Full), fmt.Sprintf("%d of %d", f.SlotsUsed, f.Slots),
		strconv.FormatInt(int64(f.BeginOffset), 10), strconv.FormatInt(int64(f.EndOffset), 10),
		formatTime(f.BeginTime), formatTime(f.EndTime),
	}
	if f.Chains != nil {
		lengths := make([]string, len(f.Chains.Lengths))
		for i, n := range f.Chains.Lengths {
			lengths[i] = strconv.Itoa(n)
		}
		cells = append(cells, strconv.Itoa(f.Chains.Longest), strings.Join(lengths, " "))
	}
	return cells
}

// indexEntryItem is an entry of an index file in a list.
type indexEntryItem struct{ inspect.IndexEntry }

// Cells implements item.
func (e *indexEntryItem) Cells() []string {
	return []string{
		strconv.Itoa(e.Number), strconv.Itoa(e.Slot), strconv.Itoa(int(e.Hash)),
		strconv.FormatInt(int64(e.Offset), 10), strconv.Itoa(int(e.Seconds)), strconv.Itoa(int(e.Prev)),
	}
}
