// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
)

type fileFlags struct {
	format *format
	as     choice
	from   size
	limit  int64
	sizes  keyindex.Sizes
}

func (a *app) inspectFileCommand() *cobra.Command {
	var f fileFlags
	cmd := a.command("file FILE [flags]", "Dump one file, field by field", cobra.ExactArgs(1),
		func(args []string) error { return a.inspectFile(args[0], &f) })
	cmd.ValidArgsFunction = nil // the argument is a file
	cmd.Long = `File dumps a commit log, consume queue or index file, or a checkpoint: each field
with its position in the file, its bytes and what they mean. It needs nothing but
the file, so it works on one of a broken store, or on a copy.

What is wrong stands in its place, after an exclamation mark, and the dump goes on
behind it; the exit status is 1 then. Of long fields only the first bytes are
shown, and runs of entries or slots with nothing in them are one line.

What the file holds is told by the directory that it lies in, by its name, or by
its first bytes; --as says it. In a commit log file that is called otherwise than by
its offset, physical offsets can't be checked. Where no record begins at --from, the
next one is found by its checksums.`
	cmd.Example = example(`
		storectl inspect file /data/store/commitlog/00000000000000000000 --limit 2
		storectl inspect file /data/store/consumequeue/orders/0/00000000000000000000 --from 4000
		storectl inspect file ./copy-of-an-index --as index --index-slots 5000000 --index-entries 20000000`)
	fl := cmd.Flags()
	var kinds []string
	for _, k := range inspect.FileKinds {
		kinds = append(kinds, string(k))
	}
	choiceFlag(cmd, &f.as, "as", "", "what the file holds: "+strings.Join(kinds, ", "), kinds...)
	fl.Var(&f.from, "from", "begin at this position in the file")
	fl.Int64Var(&f.limit, "limit", 0, "stop after `N` records or entries (0: no limit)")
	indexSizeFlags(cmd, &f.sizes)
	f.format = formatFlag(cmd)
	return cmd
}

func (a *app) inspectFile(path string, f *fileFlags) error {
	if f.limit < 0 || f.sizes.Slots < 0 || f.sizes.Entries < 0 {
		return usagef("--limit, --index-slots and --index-entries can't be negative")
	}
	o := inspect.DumpOptions{Kind: inspect.FileKind(f.as.value), From: int64(f.from), Limit: f.limit, Sizes: f.sizes}
	l := a.newList(*f.format)
	emit := func(x *inspect.Field) error { return l.add(&fieldItem{x}) }
	if *f.format == formatTable {
		emit = a.printField
	}
	sum, err := inspect.Dump(a.ctx, path, o, emit)
	if errors.Is(err, inspect.ErrFileKind) {
		return usageError{fmt.Errorf("%w; give --as", err)}
	}
	if err != nil {
		return a.ended(l, askSizes(err))
	}
	if *f.format != formatTable {
		if err := l.close(); err != nil {
			return err
		}
	}
	if sum.Damage > 0 {
		a.say("%s: damaged places: %d", path, sum.Damage)
		return errFindings
	}
	return nil
}

// Of a field the first bytes are shown, so many to a line.
const (
	dumpLine  = 16
	dumpLines = 4
)

// printField prints a field: position, bytes, name, and what they mean.
func (a *app) printField(x *inspect.Field) error {
	if x.Item != "" {
		_, _ = fmt.Fprintf(a.out, "%12s  %s\n", "", x.Item) // the last write reports it
	}
	shown := x.Bytes
	if isZeros(shown) && x.Size > dumpLine {
		shown = shown[:dumpLine]
	}
	shown = shown[:min(len(shown), dumpLine*dumpLines)]
	text := x.Name
	if x.Value != "" {
		text += "  " + cell(x.Value)
	}
	if x.Value == "" && x.Size > 8 {
		text = fmt.Sprintf("%s  %d bytes", x.Name, x.Size)
	}
	if x.Damage != nil {
		text += "  ! " + cell(oneLine(x.Damage))
	}
	for at := 0; at < max(len(shown), 1); at += dumpLine {
		line := shown[at:min(at+dumpLine, len(shown))]
		if at > 0 {
			text = printable(line)
		}
		if _, err := fmt.Fprintf(a.out, "%12d  %-*s  %s\n", x.At+int64(at), 3*dumpLine-1, spaced(line), text); err != nil {
			return err
		}
	}
	if more := x.Size - int64(len(shown)); more > 0 {
		_, err := fmt.Fprintf(a.out, "%12s  and %d bytes more\n", "", more)
		return err
	}
	return nil
}

func isZeros(b []byte) bool { return len(strings.Trim(string(b), "\x00")) == 0 }

// spaced is hex with a space between two bytes.
func spaced(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, digits[c>>4], digits[c&0xF])
	}
	return string(out)
}

// printable shows bytes as ASCII, others as dots.
func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if out[i] = c; c < ' ' || c > '~' {
			out[i] = '.'
		}
	}
	return string(out)
}

// fieldItem is a field in a list.
type fieldItem struct{ *inspect.Field }

// AppendJSON implements item.
func (x *fieldItem) AppendJSON(dst []byte) []byte {
	row := struct {
		At     int64  `json:"at"`
		Size   int64  `json:"size"`
		Item   string `json:"item,omitempty"`
		Name   string `json:"name"`
		Value  string `json:"value"`
		Hex    string `json:"hex"`
		Damage string `json:"damage,omitempty"`
	}{x.At, x.Size, x.Item, x.Name, x.Value, hex.EncodeToString(x.Bytes), ""}
	if x.Damage != nil {
		row.Damage = oneLine(x.Damage)
	}
	b, _ := json.Marshal(row) // strings and numbers
	return append(dst, b...)
}

// Cells implements item; a table of fields has a form of its own.
func (*fieldItem) Cells() []string { return nil }
