// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stelelog/stele/store"
)

// FetchConfig is what Fetch measures. The zero value is usable.
type FetchConfig struct {
	Schedule Schedule
	// Messages are how many the store has; 0 means 200,000. A pass reads about as
	// many.
	Messages int
	// Size is the length of a body in bytes; 0 means 1024.
	Size int
	// Queues are how many take turns in the log; 0 means 8.
	Queues int
	// Batches are how many messages are fetched at a time; empty means 1 and 32.
	Batches []int
	// Orders are Sequential and Random; empty means both.
	Orders []string
}

// The order in which a queue is fetched.
const (
	// Sequential is each queue from its beginning to its end.
	Sequential = "sequential"
	// Random begins each batch at an offset of a queue that was drawn.
	Random = "random"
)

// The defaults of FetchConfig.
const (
	fetchMessages = 200_000
	fetchSize     = 1024
	fetchQueues   = 8
)

// Fetch measures how fast messages are fetched by queue from a log that is in
// memory: found, decoded, and their checksums verified. Its floor is a walk over
// the mapping that computes the checksum of the same records in the same order.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig where
// the configuration is at fault.
func Fetch(ctx context.Context, c FetchConfig) (r *Report, err error) {
	s, err := c.Schedule.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	r = s.report("fetch")
	dir, err := os.MkdirTemp(s.Dir, "stele-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e := &fetches{config: c, cases: c.cases()}
	e.results = make([]fetchResult, len(e.cases))
	if err := e.open(ctx, filepath.Join(dir, "store")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	labels := make([]string, len(e.cases))
	for i, k := range e.cases {
		labels[i] = fmt.Sprintf("%s, %d a fetch", k.order, k.batch)
	}
	if err := s.run(ctx, labels, e.step); err != nil {
		return nil, err
	}
	r.Took = time.Since(r.Time)
	e.fill(r, labels)
	return r, nil
}

func (c *FetchConfig) setDefaults() error {
	for _, d := range []struct {
		to  *int
		def int
	}{{&c.Messages, fetchMessages}, {&c.Size, fetchSize}, {&c.Queues, fetchQueues}} {
		if *d.to == 0 {
			*d.to = d.def
		}
	}
	fill(&c.Batches, []int{1, store.DefaultFetchMessages})
	fill(&c.Orders, []string{Sequential, Random})
	switch {
	case c.Size < 1 || c.Size > store.DefaultMaxBodyLen:
		return fmt.Errorf("%w: size %d, must be 1 to %d", ErrConfig, c.Size, store.DefaultMaxBodyLen)
	case c.Queues < 1 || c.Queues > 1000:
		return fmt.Errorf("%w: %d queues, must be 1 to 1000", ErrConfig, c.Queues)
	case c.Messages < c.Queues || int64(c.Messages) > store.MaxFileSize/2/int64(c.Size+recordOverhead):
		return fmt.Errorf("%w: %d messages, must be one for each queue at least and %d at most", ErrConfig, c.Messages, store.MaxFileSize/2/int64(c.Size+recordOverhead))
	}
	for _, n := range c.Batches {
		if n < 1 || n > c.Messages/c.Queues {
			return fmt.Errorf("%w: %d a fetch, must be 1 to the %d messages of a queue", ErrConfig, n, c.Messages/c.Queues)
		}
	}
	known := []string{Sequential, Random}
	for _, o := range c.Orders {
		if !slices.Contains(known, o) {
			return fmt.Errorf("%w: order %q, must be %s", ErrConfig, o, strings.Join(known, ", "))
		}
	}
	return nil
}

// fetchCase is one case of Fetch.
type fetchCase struct {
	order string
	batch int
}

func (c *FetchConfig) cases() []fetchCase {
	all := []fetchCase{{}}
	all = each(all, c.Orders, func(k *fetchCase, v string) { k.order = v })
	return each(all, c.Batches, func(k *fetchCase, v int) { k.batch = v })
}
