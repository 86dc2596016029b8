// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable writes the report for people: where it was measured, the rows, the
// notes, and the warnings last. The error is that of w.
func (r *Report) WriteTable(w io.Writer) error {
	out := bufio.NewWriter(w) // it keeps the first error
	for _, f := range r.Environment.Facts() {
		_, _ = fmt.Fprintf(out, "%-12s %s\n", f[0]+":", f[1])
	}
	_, _ = fmt.Fprintf(out, "%-12s %s, took %v\n\n", "Measured:", r.Time.UTC().Format(time.RFC3339), r.Took.Round(100*time.Millisecond))
	for _, p := range r.Parts {
		_, _ = fmt.Fprintln(out, p.title())
		p.writeRows(out)
		_, _ = fmt.Fprintln(out)
	}
	if len(r.Columns) > 0 {
		r.writeRows(out)
	}
	if r.Bars.Floor != "" {
		_, _ = fmt.Fprintf(out, "The floor varied by %.0f %% between rounds.\n", r.NoiseSpread*100)
	}
	for _, warning := range r.Warnings {
		_, _ = fmt.Fprintln(out, "Warning: "+warning)
	}
	return out.Flush()
}

// writeRows writes the table itself and the notes. out keeps the first error.
func (r *Report) writeRows(out *bufio.Writer) {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, strings.Join(r.Titles(), "\t")+"\t")
	for i := range r.Rows {
		_, _ = fmt.Fprintln(table, strings.Join(r.Cells(i), "\t")+"\t")
	}
	_ = table.Flush() // out has the error
	_, _ = fmt.Fprintln(out)
	for _, n := range r.Notes {
		_, _ = fmt.Fprintln(out, n)
	}
}
