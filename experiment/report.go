// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Report is what an experiment measured. It is a table of rows, one for each
// case, with distributions beside it; all experiments share it, and so its
// forms: WriteTable, JSON, WriteHTML.
type Report struct {
	Experiment  string    // append, flush, warmup, recover
	Title       string    // for people; "" is storectl bench and the experiment
	Command     string    // how it was asked for, for the reader; may be empty
	Time        time.Time // when it began
	Took        time.Duration
	Rounds      int // that were measured
	Environment Environment
	Columns     []Column
	// Rows are the cases. A value belongs to the column of the same index and
	// is a string, an int64, a float64, or nil where there is none.
	Rows [][]any
	// Labels name the rows in charts.
	Labels []string
	// Distributions are latencies, each of one row.
	Distributions []Distribution
	// Bars names the columns of the bar chart: the figure, and what it is
	// measured against. Either may be empty.
	Bars Bars
	// Notes say how the figures came about.
	Notes []string
	// Warnings say why not to believe them.
	Warnings []string
	// Parts are reports that belong to this one: of each the title, bars, rows and
	// notes are shown. What they ran on, when, and how often is this one's, which
	// then needs no rows of its own.
	Parts []*Report
	// NoiseSpread is how far the floor of one case was apart between rounds:
	// (max-min)/median, the largest of all cases. Above NoisyAbove there is a
	// warning.
	NoiseSpread float64
}

// NoisyAbove is the spread of the floor between rounds from which a report
// warns: the floor does the same work each time, so it tells how even the
// machine was.
const NoisyAbove = 0.25

// Column describes a column of a report.
type Column struct {
	Name     string // in JSON
	Title    string // in a table; empty leaves the column to JSON
	Decimals int    // of a float64 in a table
}

// Bars names columns of a report.
type Bars struct {
	Value, Low, High, Floor string // names of columns
	Title, Unit             string
}

// Distribution is how long one kind of operation took.
type Distribution struct {
	Name   string  // of the case
	Row    int     // index of its row, or -1
	Count  int64   // operations in all rounds together
	Points []Point // by rising percentile
}

// Point is one percentile of a distribution in microseconds: the median of the
// rounds, and the least and greatest of them. For percentile 100 all three are
// of the rounds' maxima, and Value is the greatest.
type Point struct {
	Percentile float64 `json:"percentile"`
	Value      float64 `json:"us"`
	Low        float64 `json:"minUs"`
	High       float64 `json:"maxUs"`
}

// Value returns what row has in the column of that name, or nil.
func (r *Report) Value(row int, column string) any {
	for i, c := range r.Columns {
		if c.Name == column {
			return r.Rows[row][i]
		}
	}
	return nil
}

// number is Value as a float64; ok is false when there is none.
func (r *Report) number(row int, column string) (v float64, ok bool) {
	switch v := r.Value(row, column).(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// MarshalJSON writes the report as one document.
func (r *Report) MarshalJSON() ([]byte, error) {
	rows := make([]json.RawMessage, len(r.Rows))
	for i := range r.Rows {
		rows[i] = r.AppendRow(nil, i)
	}
	type distribution struct {
		Name   string  `json:"name"`
		Row    int     `json:"row"`
		Count  int64   `json:"count"`
		Points []Point `json:"points"`
	}
	dists := make([]distribution, len(r.Distributions))
	for i, d := range r.Distributions {
		dists[i] = distribution(d)
	}
	return json.Marshal(struct {
		Experiment    string            `json:"experiment"`
		Command       string            `json:"command,omitempty"`
		Time          time.Time         `json:"time"`
		TookMs        int64             `json:"tookMs"`
		Rounds        int               `json:"rounds"`
		NoiseSpread   float64           `json:"noiseSpread"`
		Noisy         bool              `json:"noisy"`
		Warnings      []string          `json:"warnings"`
		Notes         []string          `json:"notes"`
		Environment   Environment       `json:"environment"`
		Rows          []json.RawMessage `json:"rows"`
		Distributions []distribution    `json:"distributions"`
		Parts         []json.RawMessage `json:"parts,omitempty"`
	}{
		r.Experiment, r.Command, r.Time.UTC(), r.Took.Milliseconds(), r.Rounds, rounded(r.NoiseSpread, 3), r.Noisy(),
		orEmpty(r.Warnings), orEmpty(r.Notes), r.Environment, rows, dists, r.parts(),
	})
}

// parts are the rows and notes of each part, under its name.
func (r *Report) parts() []json.RawMessage {
	var parts []json.RawMessage
	for _, p := range r.Parts {
		rows := make([]json.RawMessage, len(p.Rows))
		for i := range p.Rows {
			rows[i] = p.AppendRow(nil, i)
		}
		// Rows are valid JSON, and all else is text.
		part, _ := json.Marshal(struct {
			Experiment string            `json:"experiment"`
			Title      string            `json:"title"`
			Rows       []json.RawMessage `json:"rows"`
			Notes      []string          `json:"notes"`
		}{p.Experiment, p.Title, rows, orEmpty(p.Notes)})
		parts = append(parts, part)
	}
	return parts
}

// title is what a page or a table is headed by.
func (r *Report) title() string {
	if r.Title != "" {
		return r.Title
	}
	return "storectl bench " + r.Experiment
}

// Noisy reports whether the floor moved more between rounds than NoisyAbove.
func (r *Report) Noisy() bool { return r.NoiseSpread > NoisyAbove }

// AppendRow appends a row as a JSON object, its members in the order of the
// columns.
func (r *Report) AppendRow(dst []byte, row int) []byte {
	dst = append(dst, '{')
	for i, c := range r.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, _ := json.Marshal(c.Name) // a string
		value, err := json.Marshal(r.Rows[row][i])
		if err != nil { // a float64 that is no number
			value = []byte("null")
		}
		dst = append(append(append(dst, name...), ':'), value...)
	}
	return append(dst, '}')
}

// Cells returns a row as the texts of a table, without the columns that have no
// title.
func (r *Report) Cells(row int) []string {
	var cells []string
	for i, c := range r.Columns {
		if c.Title != "" {
			cells = append(cells, c.text(r.Rows[row][i]))
		}
	}
	return cells
}

// Titles returns the header that belongs to Cells.
func (r *Report) Titles() []string {
	var titles []string
	for _, c := range r.Columns {
		if c.Title != "" {
			titles = append(titles, c.Title)
		}
	}
	return titles
}

func (c Column) text(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case int64:
		return thousands(v)
	case float64:
		if c.Decimals == 0 {
			return thousands(int64(math.Round(v)))
		}
		return fmt.Sprintf("%.*f", c.Decimals, v)
	}
	return fmt.Sprint(v)
}

// thousands writes n with a comma between groups of three digits.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	head := len(s) % 3
	if n < 0 {
		head = 1 + (len(s)-1)%3
	}
	var b bytes.Buffer
	for i := range len(s) {
		if i > 0 && s[i-1] != '-' && (i-head)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// rounded keeps digits decimals, so that JSON does not claim more than was
// measured.
func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
