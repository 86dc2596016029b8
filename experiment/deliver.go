// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/stelelog/stele/store"
)

// DeliverConfig is what Deliver measures. The zero value is usable.
type DeliverConfig struct {
	Schedule Schedule
	// Size is how many bytes of log each consumer gets; 0 means 200 MiB.
	Size int64
	// Chunks are how many bytes are sent at a time; empty means 64 KiB.
	Chunks []int
	// Consumers are how many get the log at the same time, each all of it and over
	// a connection of its own; empty means 1 and 10.
	Consumers []int
	// Patterns are how the bytes of a chunk lie in the file: Contiguous, the
	// default, or Scattered.
	Patterns []string
	// Caches are Warm, the default, or Cold.
	Caches []string
	// Readers are what the consumer does with the bytes: ReaderCopy, the default,
	// or ReaderDiscard.
	Readers []string
	// Methods are the ways to send; empty means all.
	Methods []string
	// Child returns a process, not yet started, that calls Receive with the
	// arguments. nil has this process read, and then its processor time counts.
	Child func(ctx context.Context, address string, consumers int) (*exec.Cmd, error)
}

// How the bytes of a chunk lie in the file.
const (
	// Contiguous is one run.
	Contiguous = "contiguous"
	// Scattered is 32 records of a thirty-second each, which belong to one of 16
	// queues whose messages lie in turn.
	Scattered = "scattered"
)

// Whether the file is in memory.
const (
	Warm = "warm"
	Cold = "cold"
)

// What a consumer does.
const (
	// ReaderCopy reads into a buffer of 1 MiB.
	ReaderCopy = "copy"
	// ReaderDiscard has the kernel throw the bytes away (MSG_TRUNC), so that
	// reading is not what is measured.
	ReaderDiscard = "discard"
)

// The ways to send.
const (
	wayBare      = "bare sendfile" // the floor: a loop of sendfile and nothing else
	wayReadWrite = "read+write"
	wayWrite     = "mmap+write"
	wayWritev    = "writev"
	waySendfile  = "sendfile"
	waySplice    = "splice"
	wayCopy      = "copy+write"
	wayIOCopy    = "io.Copy"
	wayZerocopy  = "MSG_ZEROCOPY"
	wayRange     = "SendRange"
	wayBatch     = "Batch.WriteTo"
	// wayBatchAlone is wayBatch without what the fetches cost: all are done before.
	wayBatchAlone = "Batch.WriteTo alone"
	// wayFetchCopy is what wayBatch is to be compared with: the same fetches, and
	// then the cheapest that can be written by hand for small records.
	wayFetchCopy = "fetch+copy+write"
)

// DeliverMethods are the names that DeliverConfig.Methods takes.
var DeliverMethods = []string{
	wayBare, wayReadWrite, wayWrite, wayWritev, waySendfile, waySplice, wayCopy, wayIOCopy, wayZerocopy, wayRange, wayBatchAlone,
	wayBatch, wayFetchCopy,
}

const (
	deliverSize = 200 << 20
	// scatter is how many records a scattered chunk has, and scatterQueues how
	// many queues take turns.
	scatter       = 32
	scatterQueues = 16
	// leastRecord is a record with hardly a body.
	leastRecord = 256
	// contiguousRecord is the length of a record where they lie back to back.
	contiguousRecord = 1024
)

func (c *DeliverConfig) setDefaults() error {
	if c.Size == 0 {
		c.Size = deliverSize
	}
	fill(&c.Chunks, []int{64 << 10})
	fill(&c.Consumers, []int{1, 10})
	fill(&c.Patterns, []string{Contiguous})
	fill(&c.Caches, []string{Warm})
	fill(&c.Readers, []string{ReaderCopy})
	fill(&c.Methods, DeliverMethods)
	if c.Size < 1<<20 || c.Size > store.MaxFileSize/2 {
		return fmt.Errorf("%w: size %d, must be %d to %d bytes", ErrConfig, c.Size, 1<<20, store.MaxFileSize/2)
	}
	for _, n := range c.Chunks {
		if n < scatter*leastRecord || int64(n) > c.Size/scatterQueues || n%(scatter*4) != 0 {
			return fmt.Errorf("%w: chunk %d, must be a multiple of %d, and %d to a sixteenth of the size", ErrConfig, n, scatter*4, scatter*leastRecord)
		}
	}
	for _, n := range c.Consumers {
		if n < 1 || n > 1000 {
			return fmt.Errorf("%w: %d consumers, must be 1 to 1000", ErrConfig, n)
		}
	}
	for _, list := range []struct {
		name          string
		values, known []string
	}{
		{"pattern", c.Patterns, []string{Contiguous, Scattered}},
		{"cache", c.Caches, []string{Warm, Cold}},
		{"reader", c.Readers, []string{ReaderCopy, ReaderDiscard}},
		{"method", c.Methods, DeliverMethods},
	} {
		for _, v := range list.values {
			if !slices.Contains(list.known, v) {
				return fmt.Errorf("%w: %s %q, must be %s", ErrConfig, list.name, v, strings.Join(list.known, ", "))
			}
		}
	}
	return nil
}

// delivered is one case of Deliver.
type delivered struct {
	method, pattern, cache, reader string
	chunk, consumers               int
}

// cases lists the combinations; the methods vary fastest, so that those that are
// compared run behind each other. A range of the log is never scattered.
func (c *DeliverConfig) cases() []delivered {
	all := []delivered{{}}
	all = each(all, c.Patterns, func(d *delivered, v string) { d.pattern = v })
	all = each(all, c.Caches, func(d *delivered, v string) { d.cache = v })
	all = each(all, c.Readers, func(d *delivered, v string) { d.reader = v })
	all = each(all, c.Consumers, func(d *delivered, v int) { d.consumers = v })
	all = each(all, c.Chunks, func(d *delivered, v int) { d.chunk = v })
	all = each(all, c.Methods, func(d *delivered, v string) { d.method = v })
	return slices.DeleteFunc(all, func(d delivered) bool { return d.method == wayRange && d.pattern == Scattered })
}

// runs is how many pieces a chunk has.
func (d delivered) runs() int {
	if d.pattern == Scattered {
		return scatter
	}
	return 1
}

// label names a case by its method, and by what differs from other cases.
func (c *DeliverConfig) label(d delivered) string {
	parts := []string{d.method}
	add := func(n int, text string) {
		if n > 1 {
			parts = append(parts, text)
		}
	}
	add(len(c.Patterns), d.pattern)
	add(len(c.Caches), d.cache)
	add(len(c.Readers), d.reader)
	add(len(c.Consumers), plural(d.consumers, "consumer"))
	add(len(c.Chunks), formatBytes(int64(d.chunk)))
	return strings.Join(parts, ", ")
}

// peers is what the cases have in common whose processor time is compared: all
// but the method, and whether that finds its records by fetches that count.
func (d delivered) peers() delivered {
	if d.method == wayBatch || d.method == wayFetchCopy {
		d.method = "fetches"
	} else {
		d.method = ""
	}
	return d
}

// theory is what textbooks say of one chunk: copies by the CPU, copies by DMA
// (from the disk and to the network), and changes between user and kernel mode.
type theory struct{ cpu, dma, switches int64 }

// theoryOf counts for a chunk of that many runs. gather says that the interface
// takes scattered pages and computes checksums: else sendfile has to copy.
func theoryOf(method string, runs int, gather bool) theory {
	n := int64(runs)
	pages := int64(1)
	if gather {
		pages = 0
	}
	switch method {
	case wayReadWrite:
		return theory{2, 2, 2*n + 2}
	case wayWrite:
		return theory{1, 2, 2*n + 2} // mmap is one of them
	case wayWritev:
		return theory{1, 2, 2}
	case waySplice:
		return theory{pages, 2, 4 * n}
	case wayCopy, wayFetchCopy:
		return theory{2, 2, 2}
	case wayZerocopy:
		return theory{0, 2, 4 * n} // the second is to ask whether it is done
	case wayBatch, wayBatchAlone:
		if runs > 1 {
			return theory{2, 2, 2}
		}
	}
	return theory{pages, 2, 2 * n}
}
