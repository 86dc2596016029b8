// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// Case is one way to append.
type Case struct {
	Size      int // bytes of a message's body
	Producers int // goroutines that append
	Batch     int // messages that are appended together
	Flush     store.FlushMode
	WritePath store.WritePath
	Warmup    store.WarmupOptions
}

// Matrix spans cases: every combination of what its fields list. An empty field
// takes the experiment's default.
type Matrix struct {
	Sizes     []int
	Producers []int
	Batches   []int
	Flush     []store.FlushMode
	// WritePaths are how the bytes get into the log's files; store.WriteDefault
	// is what a store takes that names none.
	WritePaths []store.WritePath
	// Warmups are what is made present ahead of appends. Only files that are
	// written through their mapping are warmed up, so the other write paths make
	// one case of all of them.
	Warmups []store.WarmupOptions
}

// or fills in the empty fields of m.
func (m Matrix) or(def Matrix) Matrix {
	fill(&m.Sizes, def.Sizes)
	fill(&m.Producers, def.Producers)
	fill(&m.Batches, def.Batches)
	fill(&m.Flush, def.Flush)
	fill(&m.WritePaths, []store.WritePath{store.WriteDefault})
	fill(&m.Warmups, []store.WarmupOptions{{}})
	return m
}

func fill[T any](to *[]T, def []T) {
	if len(*to) == 0 {
		*to = def
	}
}

// maxProducers keeps an experiment from making a million goroutines.
const maxProducers = 10_000

func (m Matrix) check() error {
	for _, bound := range []struct {
		name     string
		values   []int
		low, top int
	}{
		{"size", m.Sizes, 0, store.DefaultMaxBodyLen},
		{"producers", m.Producers, 1, maxProducers},
		{"batch", m.Batches, 1, 1 << 20},
	} {
		for _, v := range bound.values {
			if v < bound.low || v > bound.top {
				return fmt.Errorf("%w: %s %d, must be %d to %d", ErrConfig, bound.name, v, bound.low, bound.top)
			}
		}
	}
	return nil
}

// cases lists the combinations; what is named first varies slowest.
func (m Matrix) cases() []Case {
	cases := []Case{{}}
	cases = each(cases, m.Flush, func(c *Case, v store.FlushMode) { c.Flush = v })
	cases = each(cases, m.Sizes, func(c *Case, v int) { c.Size = v })
	cases = each(cases, m.Producers, func(c *Case, v int) { c.Producers = v })
	cases = each(cases, m.Batches, func(c *Case, v int) { c.Batch = v })
	cases = each(cases, m.WritePaths, func(c *Case, v store.WritePath) { c.WritePath = v })
	cases = each(cases, m.Warmups, func(c *Case, v store.WarmupOptions) { c.Warmup = v })
	for i, c := range cases {
		if c.WritePath == store.WriteDefault {
			cases[i].WritePath = store.DefaultWritePath(c.Flush, c.Warmup)
		}
	}
	first := m.Warmups[0]
	return slices.DeleteFunc(cases, func(c Case) bool { return c.WritePath != store.WriteMmap && c.Warmup != first })
}

// each makes as many cases of every case as there are values.
func each[C, T any](cases []C, values []T, set func(*C, T)) []C {
	all := make([]C, 0, len(cases)*len(values))
	for _, c := range cases {
		for _, v := range values {
			set(&c, v)
			all = append(all, c)
		}
	}
	return all
}

// label names a case by what differs from the other cases of the matrix; the
// only one is named by its size.
func (m Matrix) label(c Case) string {
	var parts []string
	add := func(n int, text string) {
		if n > 1 {
			parts = append(parts, text)
		}
	}
	add(len(m.Flush), c.Flush.String())
	add(len(m.Sizes), formatBytes(int64(c.Size)))
	add(len(m.Producers), plural(c.Producers, "producer"))
	add(len(m.Batches), "batch "+fmt.Sprint(c.Batch))
	add(len(m.WritePaths), c.WritePath.String())
	if c.WritePath == store.WriteMmap {
		add(len(m.Warmups), warmupName(c.Warmup))
	}
	if len(parts) == 0 {
		return formatBytes(int64(c.Size))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// warmupName names a warm-up: off, touch or populate for whole files, window for
// what is kept ahead of the write position; then what else is asked for.
func warmupName(o store.WarmupOptions) string {
	name := o.Mode.String()
	switch {
	case o.Mode == warmup.Off:
		return name
	case o.Window > 0 && o.Mode == warmup.Touch:
		name = "touch-window"
	case o.Window > 0 || o.Mode == warmup.Default:
		name = "window"
	}
	if o.Lock {
		name += "+lock"
	}
	if o.Advise != warmup.NoAdvice {
		name += "+" + o.Advise.String()
	}
	return name
}
