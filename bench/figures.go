// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
)

// figures are the measurements of a run.
type figures []record

func isStele(name string) bool { return name == "stele" || strings.HasPrefix(name, "stele-") }

// of returns the measurements of a workload over a peer that did not fail.
func (f figures) of(workload, peer string) []record {
	var some []record
	for _, r := range f {
		if r.Workload == workload && r.Peer == peer && r.Error == "" {
			some = append(some, r)
		}
	}
	return some
}

func (f figures) has(workload string) bool {
	return slices.ContainsFunc(f, func(r record) bool { return r.Workload == workload })
}

func (f figures) hasPeer(name string) bool {
	return slices.ContainsFunc(f, func(r record) bool { return r.Peer == name })
}

// workload finds a workload by its name.
func (f figures) workload(name string) (workload, bool) {
	all := workloads()
	i := slices.IndexFunc(all, func(w workload) bool { return w.name == name })
	if i < 0 {
		return workload{}, false
	}
	return all[i], true
}

// median of a metric over the rounds; ok is false where nothing was measured.
func (f figures) median(workload, peer string, m metric) (v float64, ok bool) {
	s := f.spread(workload, peer, m.of)
	return s.median, s.rounds > 0
}

// spread is a figure of several rounds.
type spread struct {
	low, median, high float64
	rounds            int
}

func (f figures) spread(workload, peer string, of func(record) float64) spread {
	var values []float64
	for _, r := range f.of(workload, peer) {
		values = append(values, of(r))
	}
	n := len(values)
	if n == 0 {
		return spread{}
	}
	slices.Sort(values)
	median := values[n/2]
	if n%2 == 0 {
		median = (values[n/2-1] + values[n/2]) / 2
	}
	return spread{low: values[0], median: median, high: values[n-1], rounds: n}
}
