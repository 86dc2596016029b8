// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/stelelog/stele/experiment"
)

// document is a run as JSON: the report, and all that it was computed from, so
// that several runs can be read as one.
type document struct {
	Report   *experiment.Report `json:"report"`
	Verdicts []verdict          `json:"verdicts"`
	Peers    []description      `json:"peers"`
	Records  []record           `json:"records"`
}

// description is a peer, for who reads the JSON.
type description struct {
	Name    string             `json:"name"`
	Version string             `json:"version"`
	Modes   map[mode]guarantee `json:"modes"`
}

// reportOf makes the report of a run.
func reportOf(c config, records []record, command string, began time.Time, took time.Duration) document {
	f := figures(records)
	r := &experiment.Report{
		Experiment: "peers", Title: "Stele and its peers", Command: command, Time: began, Took: took,
		Rounds: c.rounds, Environment: experiment.Look(c.dir),
	}
	d := document{Report: r, Verdicts: judge(f, peers()), Records: records}
	for _, w := range workloads() {
		if f.has(w.name) {
			r.Parts = append(r.Parts, partOf(f, w))
		}
	}
	r.Parts = append(r.Parts, modesOf(f), goalsOf(d.Verdicts))
	for _, p := range peers() {
		d.Peers = append(d.Peers, description{Name: p.name, Version: versionOf(p), Modes: p.modes})
	}
	for _, rec := range records {
		if rec.Error != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s over %s, round %d: %s", rec.Workload, rec.Peer, rec.Round, rec.Error))
		}
	}
	if c.rounds < 3 {
		r.Warnings = append(r.Warnings, "fewer than 3 rounds can't tell noise from a difference")
	}
	return d
}

// columns of a workload's table.
var columns = []experiment.Column{
	{Name: "peer", Title: "PEER"},
	{Name: "survives", Title: "SURVIVES"},
	{Name: "msgsPerSec", Title: "MSGS/S"},
	{Name: "msgsPerSecMin", Title: "MIN"},
	{Name: "msgsPerSecMax", Title: "MAX"},
	{Name: "mbPerSec", Title: "MB/S", Decimals: 1},
	{Name: "p50us", Title: "P50 µs", Decimals: 1},
	{Name: "p99us", Title: "P99 µs", Decimals: 1},
	{Name: "p999us", Title: "P99.9 µs", Decimals: 1},
	{Name: "allocsPerOp", Title: "ALLOCS/OP", Decimals: 2},
	{Name: "heapPeakMiB", Title: "HEAP MiB", Decimals: 1},
	{Name: "rssPeakMiB", Title: "RSS MiB", Decimals: 0},
	{Name: "rounds"},
}

var reopenColumns = []experiment.Column{
	{Name: "peer", Title: "PEER"},
	{Name: "survives", Title: "SURVIVES"},
	{Name: "openMs", Title: "OPEN ms", Decimals: 1},
	{Name: "openMsMin", Title: "MIN", Decimals: 1},
	{Name: "openMsMax", Title: "MAX", Decimals: 1},
	{Name: "acknowledged", Title: "ACKNOWLEDGED"},
	{Name: "lost", Title: "LOST, MOST"},
	{Name: "rssPeakMiB", Title: "RSS MiB", Decimals: 0},
	{Name: "rounds"},
}

// partOf is the table of one workload.
func partOf(f figures, w workload) *experiment.Report {
	part := &experiment.Report{Experiment: w.name, Title: w.title, Columns: columns}
	part.Bars = experiment.Bars{Value: "msgsPerSec", Low: "msgsPerSecMin", High: "msgsPerSecMax", Title: "Throughput", Unit: "messages/s"}
	if w.kind == reopens {
		part.Columns = reopenColumns
		part.Bars = experiment.Bars{Value: "openMs", Low: "openMsMin", High: "openMsMax", Title: "Time to open", Unit: "ms"}
	}
	var notes []string
	for _, p := range peers() {
		some := f.of(w.name, p.name)
		if len(some) == 0 {
			if why := p.refuses(w); why != "" && why != notAsked {
				notes = append(notes, fmt.Sprintf("%s: %s.", p.name, why))
			}
			continue
		}
		row := rowOf(f, w, p)
		if w.kind == reopens {
			row = reopenRow(f, w, p)
		}
		part.Rows, part.Labels = append(part.Rows, row), append(part.Labels, p.name)
		if o := some[0].Options; o != "" {
			notes = append(notes, fmt.Sprintf("%s: %s.", p.name, o))
		}
		if w.kind == dispatch {
			share := f.spread(w.name, p.name, dispatched.of)
			notes = append(notes, fmt.Sprintf("%s: dispatched by appended %.3f (%.3f to %.3f).", p.name, share.median, share.low, share.high))
		}
	}
	part.Notes = notes
	return part
}

func rowOf(f figures, w workload, p peer) []any {
	at := func(of func(record) float64) float64 { return f.spread(w.name, p.name, of).median }
	us := func(of func(record) float64) any {
		if v := at(of); v > 0 {
			return v
		}
		return nil
	}
	s := f.spread(w.name, p.name, rate.of)
	return []any{
		p.name, p.modes[w.mode].survives(), s.median, s.low, s.high, s.median * float64(w.size) / 1e6,
		us(func(r record) float64 { return r.P50 }), us(func(r record) float64 { return r.P99 }), us(func(r record) float64 { return r.P999 }),
		atLeast0(at(func(r record) float64 { return r.AllocsPerOp })), at(heap.of),
		at(func(r record) float64 { return float64(r.RSSPeak) / mib }), int64(s.rounds),
	}
}

// atLeast0 is nil for what was not counted.
func atLeast0(v float64) any {
	if v < 0 {
		return nil
	}
	return v
}

func reopenRow(f figures, w workload, p peer) []any {
	s := f.spread(w.name, p.name, opening.of)
	acked := f.spread(w.name, p.name, func(r record) float64 { return float64(r.Acked) })
	lost := f.spread(w.name, p.name, func(r record) float64 { return float64(r.Acked - r.Found) })
	rss := f.spread(w.name, p.name, func(r record) float64 { return float64(r.RSSPeak) / mib })
	return []any{
		p.name, p.modes[w.mode].survives(), s.median, s.low, s.high,
		int64(acked.median), int64(max(0, lost.high)), rss.median, int64(s.rounds),
	}
}

// survives says what an acknowledged message survives, in a word.
func (g guarantee) survives() string {
	switch {
	case g.Power:
		return "power cut"
	case g.Kill:
		return "kill"
	}
	return "-"
}

// modesOf is the table of what each peer's mode promises.
func modesOf(f figures) *experiment.Report {
	part := &experiment.Report{Experiment: "modes", Title: "What an append has promised when it returns", Columns: []experiment.Column{
		{Name: "peer", Title: "PEER"}, {Name: "version", Title: "VERSION"}, {Name: "mode", Title: "MODE"},
		{Name: "survivesKill", Title: "KILL"}, {Name: "survivesPower", Title: "POWER CUT"}, {Name: "how", Title: "HOW"},
	}}
	yes := map[bool]string{true: "yes", false: "no"}
	for _, p := range peers() {
		if !f.hasPeer(p.name) {
			continue
		}
		for _, m := range []mode{async, durable} {
			if g, ok := p.modes[m]; ok {
				part.Rows = append(part.Rows, []any{p.name, versionOf(p), string(m), yes[g.Kill], yes[g.Power], g.Text})
				part.Labels = append(part.Labels, p.name)
			}
		}
	}
	return part
}

// goalsOf is the table of goals.
func goalsOf(verdicts []verdict) *experiment.Report {
	part := &experiment.Report{Experiment: "goals", Title: "Goals", Columns: []experiment.Column{
		{Name: "workload", Title: "WORKLOAD"}, {Name: "metric", Title: "FIGURE"}, {Name: "stele", Title: "OF"},
		{Name: "figure", Title: "IS", Decimals: 2}, {Name: "against", Title: "AGAINST"}, {Name: "rival", Title: "THAT IS"},
		{Name: "rivalFigure", Title: "ITS", Decimals: 2}, {Name: "ratio", Title: "RATIO", Decimals: 3},
		{Name: "goal", Title: "GOAL"}, {Name: "outcome", Title: "OUTCOME"}, {Name: "floor", Title: "FLOOR", Decimals: 2},
		{Name: "prototype", Title: "PROTOTYPE", Decimals: 2},
	}}
	for _, v := range verdicts {
		row := []any{v.Workload, string(v.Metric), v.Stele, whole(v.Figure), v.Against, orDash(v.Rival), whole(v.Other), v.Ratio, v.Goal, string(v.Outcome), nil, nil}
		if v.Floor > 0 {
			row[10] = whole(v.Floor)
		}
		if v.Prototype > 0 {
			row[11] = whole(v.Prototype)
		}
		switch {
		case v.Outcome == notMeasured:
			row[6], row[7] = nil, nil
		case v.Rival == "":
			row[6] = nil
		}
		part.Rows, part.Labels = append(part.Rows, row), append(part.Labels, v.Workload)
	}
	return part
}

// whole is a figure without decimals where they say nothing.
func whole(v float64) any {
	if v >= 1000 {
		return int64(v + 0.5)
	}
	return v
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// versionOf is the version of the peer's module that this program was built with.
func versionOf(p peer) string {
	if p.version != "" {
		return p.version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path != p.module {
			continue
		}
		if m.Replace != nil {
			return "this checkout"
		}
		return m.Version
	}
	return "unknown"
}

// write writes the document as a table or as JSON.
func (d document) write(out io.Writer, form string) error {
	if form == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(d)
	}
	return d.Report.WriteTable(out)
}
