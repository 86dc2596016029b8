// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// metric is a figure of a row that goals are about.
type metric string

const (
	rate       metric = "msgs/s"
	p99        metric = "p99 µs"
	opening    metric = "ms to open"
	heap       metric = "MiB of heap"
	dispatched metric = "dispatched by appended"
)

// of returns the metric of one measurement.
func (m metric) of(r record) float64 {
	switch m {
	case p99:
		return r.P99
	case opening:
		return r.Seconds * 1e3
	case heap:
		return float64(r.HeapPeak) / mib
	case dispatched:
		return r.AppendSeconds / r.Seconds
	}
	return r.perSecond()
}

// rival is what Stele's figure is measured against.
type rival struct {
	peer string // of that name
	// Otherwise the best one that makes its promise: of all, or of those whose
	// acknowledged messages survive SIGKILL.
	any, kill bool
	// own is another workload of Stele's; absolute is none at all.
	own      string
	absolute bool
}

func (r rival) String() string {
	switch {
	case r.peer != "":
		return r.peer
	case r.kill:
		return "best that survives a kill"
	case r.own != "":
		return "itself, " + r.own
	case r.absolute:
		return "-"
	}
	return "best"
}

// goal is what the figures must show. The ratio is Stele's by the rival's.
type goal struct {
	workload string
	metric   metric
	against  rival
	factor   float64
	atMost   bool // the ratio must not be above factor, instead of below
}

var (
	anyPeer  = rival{any: true}
	killSafe = rival{kill: true}
	rocket   = rival{peer: "rocketmq"}
	absolute = rival{absolute: true}
)

func against(peer string) rival { return rival{peer: peer} }

// goals are all of them. Nothing else knows what is wanted.
var goals = []goal{
	{workload: "async-128-1", metric: rate, against: anyPeer, factor: 1.2},
	{workload: "async-128-1", metric: rate, against: killSafe, factor: 3},
	{workload: "async-128-1", metric: rate, against: rocket, factor: 10},
	{workload: "async-1k-1", metric: rate, against: killSafe, factor: 2.5},
	{workload: "async-1k-1", metric: rate, against: rocket, factor: 10},
	{workload: "async-128-4", metric: rate, against: rival{own: "async-128-1"}, factor: 0.8},
	{workload: "async-128-4", metric: rate, against: anyPeer, factor: 1},
	{workload: "async-1k-4", metric: rate, against: rival{own: "async-1k-1"}, factor: 0.8},
	{workload: "async-1k-4", metric: rate, against: anyPeer, factor: 1},
	{workload: "async-1k-b64", metric: rate, against: anyPeer, factor: 2},
	{workload: "dispatch", metric: dispatched, against: absolute, factor: 0.95},
	{workload: "sync-1k-64", metric: rate, against: against("pebble"), factor: 1.1},
	{workload: "sync-1k-64", metric: p99, against: against("pebble"), factor: 0.5, atMost: true},
	{workload: "sync-1k-64", metric: rate, against: rocket, factor: 5},
	{workload: "sync-1k-1", metric: rate, against: against("raft-wal"), factor: 0.95},
	{workload: "scan", metric: rate, against: against("bbolt"), factor: 1},
	{workload: "scan", metric: rate, against: rocket, factor: 1.5},
	{workload: "pick", metric: rate, against: against("bbolt"), factor: 5},
	{workload: "reopen", metric: opening, against: against("raft-wal"), factor: 1, atMost: true},
	{workload: "reopen", metric: opening, against: rocket, factor: 1.0 / 30, atMost: true},
	{workload: "queues", metric: heap, against: absolute, factor: 100, atMost: true},
}

// verdict is what became of a goal.
type verdict struct {
	Workload string  `json:"workload"`
	Metric   metric  `json:"metric"`
	Stele    string  `json:"stele"` // which of its configurations
	Figure   float64 `json:"figure"`
	Against  string  `json:"against"` // what the goal names
	Rival    string  `json:"rival"`   // who that was in this run
	Other    float64 `json:"rivalFigure"`
	Ratio    float64 `json:"ratio"`
	// Floor is what the machine gives, by the peer of that name; 0 where that was
	// not measured.
	Floor float64 `json:"floor"`
	// Prototype is, likewise, what a program of Stele's shape gets of it.
	Prototype float64 `json:"prototype"`
	Goal      string  `json:"goal"`
	Outcome   outcome `json:"outcome"`
}

type outcome string

const (
	met    outcome = "met"
	missed outcome = "missed"
	// beyondFloor is missed, too, where more is asked for than the floor reached: not
	// even a loop that does nothing else could.
	beyondFloor outcome = "missed, beyond the floor"
	// beyondPrototype is missed, too, where the prototype did not reach it.
	beyondPrototype outcome = "missed, beyond the prototype"
	notMeasured     outcome = "not measured"
)

// judge holds the figures of a run against the goals, for each configuration of
// Stele that has one of them.
func judge(f figures, all []peer) []verdict {
	var verdicts []verdict
	for _, g := range goals {
		asked := false
		for _, p := range all {
			if !isStele(p.name) {
				continue
			}
			own, ok := f.median(g.workload, p.name, g.metric)
			if ok {
				verdicts = append(verdicts, g.judge(f, all, p, own))
				asked = true
			}
		}
		if !asked && f.has(g.workload) {
			verdicts = append(verdicts, verdict{
				Workload: g.workload, Metric: g.metric, Against: g.against.String(), Goal: g.text(), Outcome: notMeasured,
			})
		}
	}
	return verdicts
}

func (g goal) text() string {
	sign := "≥"
	if g.atMost {
		sign = "≤"
	}
	return fmt.Sprintf("%s %.3g", sign, g.factor)
}

func (g goal) judge(f figures, all []peer, p peer, own float64) verdict {
	v := verdict{
		Workload: g.workload, Metric: g.metric, Stele: p.name, Figure: own,
		Against: g.against.String(), Goal: g.text(), Outcome: notMeasured,
	}
	v.Floor, _ = f.median(g.workload, floorPeer.name, g.metric)
	v.Prototype, _ = f.median(g.workload, prototypePeer.name, g.metric)
	switch {
	case g.against.absolute:
		v.Other, v.Ratio = 1, own
	default:
		if v.Rival, v.Other = g.rival(f, all, p); v.Other <= 0 {
			return v
		}
		v.Ratio = own / v.Other
	}
	switch {
	case v.Ratio >= g.factor && !g.atMost || v.Ratio <= g.factor && g.atMost:
		v.Outcome = met
	case !g.atMost && v.Floor > 0 && g.factor*v.Other > v.Floor:
		v.Outcome = beyondFloor
	case !g.atMost && v.Prototype > 0 && g.factor*v.Other > v.Prototype:
		v.Outcome = beyondPrototype
	default:
		v.Outcome = missed
	}
	return v
}

// rival finds whom the goal is about, and the figure; 0 is none.
func (g goal) rival(f figures, all []peer, self peer) (name string, figure float64) {
	if g.against.own != "" {
		own, _ := f.median(g.against.own, self.name, g.metric)
		return g.against.own, own
	}
	for _, p := range all {
		if isStele(p.name) || p.floor || g.against.peer != "" && p.name != g.against.peer {
			continue
		}
		if w, _ := f.workload(g.workload); g.against.kill && !p.modes[w.mode].Kill {
			continue
		}
		if v, ok := f.median(g.workload, p.name, g.metric); ok && v > figure {
			name, figure = p.name, v
		}
	}
	return name, figure
}
