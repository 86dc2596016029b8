// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"time"
)

//go:embed page.html
var pageText string

// pageData is what the template shows.
type pageData struct {
	*Report
	Head    string
	When    string
	Elapsed string
	Spread  string // of the floor; empty where there is none
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
	Inner        []pageData // of the parts
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
	d := pageOf(r)
	d.When, d.Elapsed = r.Time.UTC().Format("2006-01-02 15:04 UTC"), r.Took.Round(100*time.Millisecond).String()
	d.Facts = r.Environment.Facts()
	if r.Bars.Floor != "" {
		d.Spread = fmt.Sprintf("%.0f %%", r.NoiseSpread*100)
	}
	for _, p := range r.Parts {
		d.Inner = append(d.Inner, pageOf(p))
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
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(w, d)
}

// pageOf is what a report and a part of one have alike.
func pageOf(r *Report) pageData {
	d := pageData{Report: r, Head: r.title(), Titles: r.Titles()}
	for i := range r.Rows {
		d.Table = append(d.Table, r.Cells(i))
	}
	d.bars(r)
	return d
}

// bars places the rows on a scale, and says which.
func (d *pageData) bars(r *Report) {
	b := r.Bars
	least, most := math.Inf(1), 0.0
	for i := range r.Rows {
		for _, column := range []string{b.Value, b.Low, b.High, b.Floor} {
			if v, ok := r.number(i, column); ok && v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
	}
	if most == 0 {
		return
	}
	s := scaleFor(least, most)
	d.BarTitle = b.Title + ", " + b.Unit
	if s.log {
		d.BarTitle += ", on a logarithmic scale"
	}
	for _, v := range s.ticks {
		d.BarTicks = append(d.BarTicks, barTick{At: s.at(v), Text: short(v)})
	}
	for i := range r.Rows {
		v, ok := r.number(i, b.Value)
		if !ok {
			continue
		}
		row := bar{Label: r.Labels[i], Text: short(v), Value: s.at(v)}
		if f, ok := r.number(i, b.Floor); ok {
			row.Floor, row.HasFloor, row.FloorText = s.at(f), true, short(f)
		}
		low, okLow := r.number(i, b.Low)
		high, okHigh := r.number(i, b.High)
		if okLow && okHigh {
			row.Low, row.High, row.HasSpread = s.at(low), rounded(s.at(high)-s.at(low), 2), true
		}
		d.Bars = append(d.Bars, row)
	}
}

// scale is the scale of the bar chart.
type scale struct {
	log       bool
	low, high float64
	ticks     []float64
}

// linearUpTo is how many times longer than the shortest the longest bar may be
// on a linear scale. Beyond that the short ones could not be seen.
const linearUpTo = 50

// scaleFor returns a scale for bars from least to most, which are above 0.
func scaleFor(least, most float64) scale {
	if most/least <= linearUpTo {
		step := niceStep(most)
		s := scale{high: math.Ceil(most/step) * step}
		for v := 0.0; v <= s.high+step/2; v += step {
			s.ticks = append(s.ticks, v)
		}
		return s
	}
	// Half a decade below the least, so that its bar has a length.
	from, to := math.Floor(math.Log10(least)-0.5), math.Ceil(math.Log10(most))
	s := scale{log: true, low: math.Pow(10, from), high: math.Pow(10, to)}
	every := math.Ceil((to - from) / 6)
	for e := from; e <= to; e += every {
		s.ticks = append(s.ticks, math.Pow(10, e))
	}
	return s
}

// at is where v stands, in percent.
func (s scale) at(v float64) float64 {
	if s.log {
		v, low, high := math.Log10(max(v, s.low)), math.Log10(s.low), math.Log10(s.high)
		return rounded((v-low)/(high-low)*100, 2)
	}
	return rounded(v/s.high*100, 2)
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
