// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// pageData is what the template shows.
type pageData struct {
	*Report
	Title   string
	When    string
	Elapsed string
	Spread  string
	Facts   [][2]string
	// Curves for wide pages and for telephones: texts must not shrink with the
	// chart.
	Wide, Narrow template.HTML
	Legend       []legend
	Bars         []bar
	BarTitle     string
	BarTicks     []barTick
	Titles       []string
	Table        [][]string
}

type legend struct{ Class, Name string }

// bar is a row of the bar chart. Positions are in percent of its width.
type bar struct {
	Label, Text, FloorText string
	Value, Low, High       float64
	Floor                  float64
	HasFloor, HasSpread    bool
}

type barTick struct {
	At   float64
	Text string
}

// WriteHTML writes the report as one page that needs nothing else: no script,
// and no style, font or picture from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	d := pageData{
		Report: r, Title: "storectl bench " + r.Experiment, When: r.Time.UTC().Format("2006-01-02 15:04 UTC"),
		Elapsed: r.Took.Round(100 * time.Millisecond).String(), Spread: fmt.Sprintf("%.0f %%", r.NoiseSpread*100),
		Facts: r.Environment.Facts(), Titles: r.Titles(),
	}
	for i := range r.Rows {
		d.Table = append(d.Table, r.Cells(i))
	}
	for i, dist := range r.Distributions {
		if len(dist.Points) > 0 {
			d.Legend = append(d.Legend, legend{Class: curveClass(i), Name: dist.Name})
		}
	}
	wide, err := curves(r.Distributions, 960, 440)
	if err != nil {
		return fmt.Errorf("draw the curves: %w", err)
	}
	narrow, err := curves(r.Distributions, 350, 360)
	if err != nil {
		return fmt.Errorf("draw the curves: %w", err)
	}
	// They are the library's, which escapes the texts.
	d.Wide, d.Narrow = template.HTML(wide), template.HTML(narrow) //nolint:gosec // see above
	d.bars(r)
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(w, d)
}

// bars places the rows on a linear scale from 0.
func (d *pageData) bars(r *Report) {
	b := r.Bars
	if b.Value == "" {
		return
	}
	d.BarTitle = b.Title + ", " + b.Unit
	most := 0.0
	for i := range r.Rows {
		for _, column := range []string{b.Value, b.High, b.Floor} {
			v, _ := r.number(i, column)
			most = max(most, v)
		}
	}
	if most == 0 {
		return
	}
	step := niceStep(most)
	top := math.Ceil(most/step) * step
	at := func(v float64) float64 { return rounded(v/top*100, 2) }
	for v := 0.0; v <= top+step/2; v += step {
		d.BarTicks = append(d.BarTicks, barTick{At: at(v), Text: short(v)})
	}
	for i := range r.Rows {
		v, ok := r.number(i, b.Value)
		if !ok {
			continue
		}
		row := bar{Label: r.label(i), Text: short(v), Value: at(v)}
		if f, ok := r.number(i, b.Floor); ok {
			row.Floor, row.HasFloor, row.FloorText = at(f), true, short(f)
		}
		low, okLow := r.number(i, b.Low)
		high, okHigh := r.number(i, b.High)
		if okLow && okHigh {
			row.Low, row.High, row.HasSpread = at(low), rounded(at(high)-at(low), 2), true
		}
		d.Bars = append(d.Bars, row)
	}
}

// label is what the row's distribution is called, or its texts.
func (r *Report) label(row int) string {
	for _, d := range r.Distributions {
		if d.Row == row {
			return d.Name
		}
	}
	var parts []string
	for i, c := range r.Columns {
		if s, ok := r.Rows[row][i].(string); ok && c.Title != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

// niceStep divides a scale up to most into three to five steps of 1, 2 or 5
// times a power of ten.
func niceStep(most float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{0.2, 0.5, 1, 2} {
		if most/(p*f) <= 5 {
			return p * f
		}
	}
	return p * 5
}

// short writes a number with three digits and a unit of a thousand.
func short(v float64) string {
	for _, u := range []struct {
		name string
		of   float64
	}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		if v >= u.of {
			return fmt.Sprintf("%.3g %s", v/u.of, u.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}
