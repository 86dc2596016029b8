// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"time"

	"github.com/stelelog/stele/store"
)

// stages are those at which an append can wait, in the order of the columns.
var stages = store.Waits{}.Stages()

// waited is how long all appends of a pass together waited at each stage.
type waited map[store.Stage]time.Duration

// waitedSince is what came on top of before.
func waitedSince(before, after store.Waits) waited {
	w := waited{}
	for _, s := range stages {
		w[s] = after.Of(s).Total - before.Of(s).Total
	}
	return w
}

// waits are the waits of all rounds, in microseconds an append.
type waits map[store.Stage][]float64

func (w *waits) add(p *pass) {
	if *w == nil {
		*w = waits{}
	}
	for s, total := range p.waited {
		(*w)[s] = append((*w)[s], float64(total)/1e3/float64(p.messages))
	}
}

// waitColumns go with waits.values.
func waitColumns() []Column {
	columns := []Column{{Name: "waitedFor", Title: "WAITED FOR"}}
	for _, s := range stages {
		columns = append(columns, Column{Name: s.String() + "WaitUs"})
	}
	return columns
}

// values are the stage at which appends waited longest, and the mean wait at
// each stage in microseconds an append.
func (w waits) values() []any {
	most, longest := store.StageNone, 0.0
	values := make([]any, 1, 1+len(stages))
	for _, s := range stages {
		v := spreadOf(w[s]).median
		if v > longest {
			most, longest = s, v
		}
		values = append(values, rounded(v, 4))
	}
	values[0] = most.String()
	return values
}
