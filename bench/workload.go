// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// kind is what is done.
type kind string

const (
	appends   kind = "append"     // as fast as it goes
	dispatch  kind = "dispatch"   // appends for longer: does the rest keep up?
	scans     kind = "scan"       // read all, in order
	picks     kind = "pick"       // read one, by its number
	reopens   kind = "reopen"     // open what a killed process left
	manyQueue kind = "manyqueues" // appends to a thousand queues: memory
)

// own says that it is about Stele alone.
func (k kind) own() bool { return k == dispatch || k == manyQueue }

// workload is one thing that is measured.
type workload struct {
	name      string
	title     string
	kind      kind
	mode      mode
	size      int // bytes of a message
	producers int
	batch     int  // messages appended at once
	queues    int  // that one producer appends to in turn
	keys      bool // each message has a key of its own
	// time is how long it is measured at most; 0 is the run's.
	time time.Duration
	// bytes are how many bytes of messages at most; 0 is the run's.
	bytes int64
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// workloads are all of them, in the order of the report.
func workloads() []workload {
	return []workload{
		{name: "async-128-1", title: "async append, 128 B, 1 producer", kind: appends, mode: async, size: 128, producers: 1, batch: 1},
		{name: "async-128-4", title: "async append, 128 B, 4 producers", kind: appends, mode: async, size: 128, producers: 4, batch: 1},
		{name: "async-128-b64", title: "async append, 128 B, batches of 64", kind: appends, mode: async, size: 128, producers: 1, batch: 64},
		{name: "async-1k-1", title: "async append, 1 KiB, 1 producer", kind: appends, mode: async, size: kib, producers: 1, batch: 1},
		{name: "async-1k-4", title: "async append, 1 KiB, 4 producers", kind: appends, mode: async, size: kib, producers: 4, batch: 1},
		{name: "async-1k-b64", title: "async append, 1 KiB, batches of 64", kind: appends, mode: async, size: kib, producers: 1, batch: 64},
		{name: "dispatch", title: "async append, 128 B, 5 s: dispatch", kind: dispatch, mode: async, size: 128, producers: 1, batch: 1, time: 5 * time.Second, bytes: 4 * gib},
		{name: "dispatch-keys", title: "async append, 128 B with a key each, 5 s: dispatch and index", kind: dispatch, mode: async, size: 128, producers: 1, batch: 1, keys: true, time: 5 * time.Second, bytes: 4 * gib},
		{name: "sync-1k-1", title: "sync append, 1 KiB, 1 producer", kind: appends, mode: durable, size: kib, producers: 1, batch: 1, time: 2 * time.Second},
		{name: "sync-1k-64", title: "sync append, 1 KiB, 64 producers", kind: appends, mode: durable, size: kib, producers: 64, batch: 1, time: 2 * time.Second},
		{name: "scan", title: "sequential read, 1 KiB", kind: scans, mode: async, size: kib, producers: 1, batch: 64},
		{name: "pick", title: "random read by offset, 1 KiB", kind: picks, mode: async, size: kib, producers: 1, batch: 64, time: 2 * time.Second},
		{name: "reopen", title: "reopen after SIGKILL", kind: reopens, mode: async, size: kib, producers: 1, batch: 64},
		{name: "queues", title: "async append, 1 KiB, 1,000 queues: memory", kind: manyQueue, mode: async, size: kib, producers: 1, batch: 1, queues: 1000},
	}
}

// choose returns those of all whose names are listed, separated by commas; ""
// is all of them. A name that ends in * stands for those that begin so.
func choose[T any](all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var chosen []T
	for _, want := range strings.Split(list, ",") {
		prefix, many := strings.CutSuffix(want, "*")
		found := false
		for _, v := range all {
			if name(v) == want || many && strings.HasPrefix(name(v), prefix) {
				chosen, found = append(chosen, v), true
			}
		}
		if !found {
			var names []string
			for _, v := range all {
				names = append(names, name(v))
			}
			return nil, fmt.Errorf("no %q; there are %s", want, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// spec is what a child measures. It goes to the child as JSON.
type spec struct {
	Peer     string `json:"peer"`
	Workload string `json:"workload"`
	// Step is 0, or for reopens 1 to write and be killed, and 2 to open.
	Step      int           `json:"step"`
	Dir       string        `json:"dir"` // empty, or what step 1 left
	Kind      kind          `json:"kind"`
	Mode      mode          `json:"mode"`
	Size      int           `json:"size"`
	Producers int           `json:"producers"`
	Batch     int           `json:"batch"`
	Queues    int           `json:"queues"`
	Keys      bool          `json:"keys,omitempty"`
	Time      time.Duration `json:"time"`     // nanoseconds, at most
	Messages  int64         `json:"messages"` // at most, or for reads and reopens exactly
	// Profile is a file for the CPU profile of what is timed; "" is none.
	Profile string `json:"profile,omitempty"`
}

// result is what a child measured.
type result struct {
	Messages int64 `json:"messages"`
	// Seconds is until all was settled, AppendSeconds until the last append
	// returned.
	Seconds       float64 `json:"seconds"`
	AppendSeconds float64 `json:"appendSeconds,omitempty"`
	// Microseconds of an append; 0 where they were not taken.
	P50  float64 `json:"p50us,omitempty"`
	P99  float64 `json:"p99us,omitempty"`
	P999 float64 `json:"p999us,omitempty"`
	Max  float64 `json:"maxUs,omitempty"`
	// AllocsPerOp is of the whole process, by message; negative where they are not
	// counted.
	AllocsPerOp float64 `json:"allocsPerOp"`
	HeapPeak    int64   `json:"heapPeakBytes"` // Go heap, at most
	HeapInUse   int64   `json:"heapInUseBytes"`
	RSSPeak     int64   `json:"rssPeakBytes"`
	RSSAnon     int64   `json:"rssAnonBytes"` // beside files, at the end
	Disk        int64   `json:"diskBytes,omitempty"`
	// Found is how many messages there are after reopening.
	Found int64 `json:"found,omitempty"`
	// Sum is what was read, added up, so that it is read.
	Sum uint64 `json:"sum,omitempty"`
	// Options are those of the engine that are worth telling.
	Options string `json:"options,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (r result) perSecond() float64 { return float64(r.Messages) / r.Seconds }
