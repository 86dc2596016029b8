// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// heapWatch notes the largest Go heap.
type heapWatch struct {
	end  chan struct{}
	most chan int64
}

// heapOften is how often the heap is looked at. It takes some microseconds.
const heapOften = 10 * time.Millisecond

func watchHeap() heapWatch {
	w := heapWatch{end: make(chan struct{}), most: make(chan int64)}
	go func() {
		tick := time.NewTicker(heapOften)
		defer tick.Stop()
		most := heapBytes()
		for {
			select {
			case <-tick.C:
				most = max(most, heapBytes())
			case <-w.end:
				w.most <- max(most, heapBytes())
				return
			}
		}
	}()
	return w
}

// stop returns the largest heap that was seen, in bytes.
func (w heapWatch) stop() int64 {
	close(w.end)
	return <-w.most
}

// heapBytes is what objects take, live and not yet swept, and the spans around
// them.
func heapBytes() int64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	total := int64(0)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			total += int64(s.Value.Uint64())
		}
	}
	return total
}

// look notes the memory that the process takes now, and took at most.
func (r *result) look() {
	r.HeapInUse = heapBytes()
	r.HeapPeak = max(r.HeapPeak, r.HeapInUse)
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // Other systems do not tell.
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil:
		case name == "VmHWM":
			r.RSSPeak = n << 10
		case name == "RssAnon":
			r.RSSAnon = n << 10
		}
	}
}
