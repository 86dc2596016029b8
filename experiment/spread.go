// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"fmt"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// spread is one figure of several rounds.
type spread struct{ low, median, high float64 }

// spreadOf returns the median of the values, and the least and the greatest.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(values))
	m := s[len(s)/2]
	if len(s)%2 == 0 {
		m = (s[len(s)/2-1] + m) / 2
	}
	return spread{low: s[0], median: m, high: s[len(s)-1]}
}

// relative is how far apart the rounds were, in terms of the median.
func (s spread) relative() float64 {
	if s.median == 0 {
		return 0
	}
	return (s.high - s.low) / s.median
}

// The bounds of a latency in nanoseconds, and the digits that are kept.
const (
	longest = 600e9
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, digits) }

// percentiles are the points of a distribution's curve: three to each nine.
var percentiles = []float64{
	1, 5, 10, 25, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 99.995, 99.998, 99.999, 100,
}

// distribution joins the histograms of the rounds, of nanoseconds. It leaves
// out the percentiles that less than one operation of a round lies above: they
// would only say the maximum again.
func distribution(name string, row int, rounds []*hdrhistogram.Histogram) Distribution {
	d := Distribution{Name: name, Row: row}
	least := int64(-1)
	for _, h := range rounds {
		d.Count += h.TotalCount()
		if least < 0 || h.TotalCount() < least {
			least = h.TotalCount()
		}
	}
	if d.Count == 0 {
		return d
	}
	for _, p := range percentiles {
		if p < 100 && float64(least)*(100-p)/100 < 1-1e-6 {
			continue
		}
		d.Points = append(d.Points, pointOf(p, rounds))
	}
	return d
}

func pointOf(p float64, rounds []*hdrhistogram.Histogram) Point {
	var us []float64
	for _, h := range rounds {
		if h.TotalCount() > 0 {
			us = append(us, float64(h.ValueAtQuantile(p))/1e3)
		}
	}
	s := spreadOf(us)
	if p == 100 {
		s.median = s.high
	}
	return Point{Percentile: p, Value: rounded(s.median, 3), Low: rounded(s.low, 3), High: rounded(s.high, 3)}
}

// noise sets the report's spread of the floor and warns when it is large.
func (r *Report) noise(floors []spread) {
	for _, f := range floors {
		r.NoiseSpread = max(r.NoiseSpread, f.relative())
	}
	if r.Noisy() {
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"noisy machine: the floor, which does the same work each round, varied by %.0f %% between rounds (more than %.0f %%); compare ratios, and run it again when nothing else runs",
			r.NoiseSpread*100, NoisyAbove*100))
	}
	if r.Rounds < 3 {
		r.Warnings = append(r.Warnings, "fewer than 3 rounds can't tell noise from a difference")
	}
}
