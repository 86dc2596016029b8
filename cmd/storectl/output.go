// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"strings"
	"text/tabwriter"
	"unicode"
)

// item is one thing of a list, as a JSON object and as a row of a table.
type item interface {
	AppendJSON(dst []byte) []byte
	Cells() []string
}

// lister prints items as they come.
type lister interface {
	add(it item) error
	began() bool // something was added
	close() error
}

// list prints items as they come, in memory that does not grow with them.
type list struct {
	out    *bufio.Writer
	format format
	header []string
	table  *tabwriter.Writer
	buf    []byte
	n      int
}

// tableBlock is how many rows of a table are aligned with each other. The next
// ones get columns of their own, since alignment needs all rows in memory.
const tableBlock = 1000

func (a *app) newList(f format, header ...string) *list {
	return &list{out: a.out, format: f, header: header}
}

func (l *list) began() bool { return l.n > 0 }

// add prints one item. What it returns is a failure to write.
func (l *list) add(it item) error {
	l.n++
	switch l.format {
	case formatTable:
		if l.n%tableBlock == 1 {
			if err := l.begin(); err != nil {
				return err
			}
		}
		return l.row(it.Cells())
	case formatJSON:
		l.buf = append(l.buf[:0], ",\n"...)
		if l.n == 1 {
			l.buf[0] = '['
		}
		l.buf = it.AppendJSON(l.buf)
	default:
		l.buf = append(it.AppendJSON(l.buf[:0]), '\n')
	}
	_, err := l.out.Write(l.buf)
	return err
}

// close ends the list: an empty one is an empty array, or a header alone.
func (l *list) close() error {
	switch {
	case l.format == formatTable && l.n == 0:
		if err := l.begin(); err != nil {
			return err
		}
		return l.table.Flush()
	case l.format == formatTable:
		return l.table.Flush()
	case l.format == formatJSON && l.n == 0:
		_, err := l.out.WriteString("[]\n")
		return err
	case l.format == formatJSON:
		_, err := l.out.WriteString("\n]\n")
		return err
	}
	return nil
}

// ended closes a list that an error has cut short, so that what was listed is
// whole, and returns the error. What never began stays empty.
func (a *app) ended(l lister, err error) error {
	if !l.began() {
		return err
	}
	return errors.Join(err, l.close())
}

// begin starts a block of rows; the first one has the header.
func (l *list) begin() error {
	if l.table != nil {
		return l.table.Flush()
	}
	l.table = newTable(l.out)
	return l.row(l.header)
}

func (l *list) row(cells []string) error {
	l.buf = append(append(l.buf[:0], strings.Join(cells, "\t")...), '\n')
	_, err := l.table.Write(l.buf)
	return err
}

func newTable(out *bufio.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
}

// document prints v as one JSON document: on one line for ndjson.
func (a *app) document(f format, v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	if f == formatJSON {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// cell makes text from a store fit for a cell of a table: what would move the
// cursor, or is no character, is shown as U+FFFD. Empty text is a dash.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
