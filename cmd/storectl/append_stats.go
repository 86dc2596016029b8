// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// explain says on stderr where the appends waited, and what was warmed up for
// them.
func (a *app) explain(st store.Stats) {
	t := tabwriter.NewWriter(a.err, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "WAITED FOR\tAPPENDS\tTOTAL\tP50\tP99\tP99.9\tLONGEST")
	for _, stage := range st.Waits.Stages() {
		w := st.Waits.Of(stage)
		_, _ = fmt.Fprintf(t, "%v\t%d\t%v\t%v\t%v\t%v\t%v\n", stage, w.Count, w.Total, w.P50, w.P99, w.P999, w.Max)
	}
	_ = t.Flush() // as with all words on stderr
	a.say("%v", st.Waits)
	a.say("%s", warmupWords(st.Warmup))
	if st.Pool.Buffers > 0 {
		a.say("%s", poolWords(st.Pool))
	}
}

func poolWords(p store.PoolStats) string {
	s := fmt.Sprintf("pool: %d buffers of %s, %s locked, %d files found it empty",
		p.Buffers, formatSize(p.BufferSize), formatSize(p.LockedBytes), p.Fallbacks)
	if p.LockRefused != nil {
		s += "; refused: " + p.LockRefused.Error()
	}
	return s
}

func warmupWords(w store.WarmupStats) string {
	if w.Mode == warmup.Off {
		return "warm-up: off"
	}
	what := "whole files"
	if w.Window > 0 {
		what = "a window of " + formatSize(w.Window)
	}
	s := fmt.Sprintf("warm-up: %v, %s: %s in %v, %d page faults, %s locked",
		w.Mode, what, formatSize(w.Done.Bytes), w.Done.Took, w.Done.MinorFaults+w.Done.MajorFaults, formatSize(w.Done.Locked))
	for _, r := range w.Done.Refused {
		s += "; refused: " + r.Error()
	}
	return s
}
