// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/go-analyze/charts/chartdraw"
)

// The colours and fonts of a chart are those of the page: the library is told
// class names instead, and page.html says what they look like in the light and
// in the dark. The library measures texts, so it must know their size.
const (
	chartFont = 12 // px
	chartDPI  = 72 // makes a point a pixel
)

// curves draws the distributions: percentiles on a scale on which every further
// nine is as wide as the one before, latencies on a logarithmic one. It returns
// an svg element of that size without a fixed colour, or nothing when there is
// nothing to draw.
func curves(dists []Distribution, width, height int) ([]byte, error) {
	maxAt, low, high := 0.0, math.Inf(1), 0.0
	for _, d := range dists {
		for _, p := range d.Points {
			if p.Percentile < 100 {
				maxAt = max(maxAt, nines(p.Percentile))
			}
			low, high = min(low, p.Value), max(high, p.Value)
		}
	}
	if high <= 0 {
		return nil, nil
	}
	maxAt += maxGap
	across, up := nineTicks(maxAt, width), latencyTicks(low, high)
	c := chartdraw.Chart{
		Width: width, Height: height, DPI: chartDPI,
		Background: chartdraw.Style{ClassName: "ground", Padding: chartdraw.Box{Top: 12, Left: 8, Right: 24, Bottom: 4, IsSet: true}},
		Canvas:     chartdraw.Style{ClassName: "ground"},
		XAxis: chartdraw.XAxis{
			Name: "percentile, %", NameStyle: textStyle(), Style: textStyle(), Ticks: across,
			GridMajorStyle: chartdraw.Hidden(), GridMinorStyle: chartdraw.Hidden(),
		},
		YAxis: chartdraw.YAxis{
			AxisType: chartdraw.YAxisSecondary, // the library draws that one on the left
			Style:    textStyle(), Ticks: up,
			GridMajorStyle: chartdraw.Hidden(), GridMinorStyle: chartdraw.Hidden(),
		},
		YAxisSecondary: chartdraw.YAxis{Style: chartdraw.Hidden()},
	}
	// The library's own lines of the grid take no class.
	for _, t := range across[1:] {
		c.Series = append(c.Series, line("grid", []float64{t.Value, t.Value}, []float64{up[0].Value, up[len(up)-1].Value}))
	}
	for _, t := range up[1:] {
		c.Series = append(c.Series, line("grid", []float64{0, maxAt}, []float64{t.Value, t.Value}))
	}
	for i, d := range dists {
		var xs, ys []float64
		for _, p := range d.Points {
			x := maxAt
			if p.Percentile < 100 {
				x = nines(p.Percentile)
			}
			xs, ys = append(xs, x), append(ys, math.Log10(max(p.Value, low)))
		}
		if len(xs) > 0 {
			c.Series = append(c.Series, line(curveClass(i), xs, ys))
		}
	}
	var out bytes.Buffer
	err := c.Render(chartdraw.SVG, &out)
	return out.Bytes(), err
}

// line is a series that looks as the page says of its class. The library draws
// only what has a width and a colour, which it does not write then.
func line(class string, xs, ys []float64) chartdraw.Series {
	return chartdraw.ContinuousSeries{
		Style:   chartdraw.Style{ClassName: class, StrokeWidth: 2, StrokeColor: chartdraw.ColorBlack},
		XValues: xs, YValues: ys,
	}
}

// maxGap is how far the maximum stands behind the last percentile, in nines.
const maxGap = 0.5

// nines turns a percentile below 100 into a position: 90 is 1, 99 is 2, 99.9 is
// 3.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

// nineTicks are the marks of the percentiles up to maxAt. Where two labels would
// meet in a chart of that width, the one further to the right is kept.
func nineTicks(maxAt float64, width int) []chartdraw.Tick {
	const beside, character, gap = 90, 7.5, 6 // px: what the chart is narrower than its picture; of a label
	perNine := float64(width-beside) / maxAt
	ticks := []chartdraw.Tick{{Value: maxAt, Label: "max"}}
	free := (maxAt*perNine - 3*character/2) - gap
	for _, p := range []float64{99.999, 99.99, 99.9, 99, 90, 50} {
		x := nines(p)
		if x > maxAt-maxGap+1e-9 {
			continue
		}
		t := chartdraw.Tick{Value: x}
		label := fmt.Sprint(p)
		if half := float64(len(label)) * character / 2; x*perNine+half <= free {
			t.Label, free = label, x*perNine-half-gap
		}
		ticks = append(ticks, t)
	}
	ticks = append(ticks, chartdraw.Tick{Value: 0})
	slices.Reverse(ticks)
	return ticks
}

// latencyTicks are the decades around low and high, which are in microseconds.
func latencyTicks(low, high float64) []chartdraw.Tick {
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if from == to {
		to++
	}
	var ticks []chartdraw.Tick
	for e := from; e <= to; e++ {
		ticks = append(ticks, chartdraw.Tick{Value: e, Label: formatMicros(math.Pow(10, e))})
	}
	return ticks
}

// formatMicros writes a latency in its largest unit.
func formatMicros(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.4g s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.4g ms", us/1e3)
	case us >= 1:
		return fmt.Sprintf("%.4g µs", us)
	}
	return fmt.Sprintf("%.4g ns", us*1e3)
}

func textStyle() chartdraw.Style {
	return chartdraw.Style{ClassName: "axis", FontStyle: chartdraw.FontStyle{FontSize: chartFont}, StrokeWidth: 1}
}

// The page has that many colours, and as many ways to dash a line.
const (
	chartColors = 8
	chartDashes = 3
)

// curveClass names the look of the i-th curve.
func curveClass(i int) string {
	return fmt.Sprintf("curve c%d d%d", i%chartColors, i/chartColors%chartDashes)
}
