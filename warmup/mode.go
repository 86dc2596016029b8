// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup

import (
	"fmt"
	"slices"
	"strings"
)

// Mode says how pages come to be present and writable.
type Mode uint8

const (
	// Default leaves the choice to whoever is asked. A Plan does nothing then.
	Default Mode = iota
	// Off leaves the pages alone.
	Off
	// Touch writes a byte a page without changing it. It works everywhere, and
	// each page that can't be had is a fault of the process.
	Touch
	// Populate has the kernel do it (MADV_POPULATE_WRITE, Linux 5.14), and falls
	// back to Touch where the kernel can't.
	Populate
)

var modeNames = []string{"default", "off", "touch", "populate"}

// String returns the name that ParseMode takes.
func (m Mode) String() string { return nameOf(modeNames, int(m), "Mode") }

// ParseMode returns the mode of a name: default, off, touch or populate.
func ParseMode(name string) (Mode, error) {
	i, err := parse(modeNames, name, "warm-up mode")
	return Mode(i), err
}

// Advice is a hint about how a range will be used: madvise(2).
type Advice uint8

const (
	// NoAdvice gives none.
	NoAdvice Advice = iota
	// WillNeed starts to read the range from disk. It does nothing for a new
	// file.
	WillNeed
	// Random turns read-ahead off. New pages are then made one by one and not in
	// folios of megabytes, which makes warming up several times slower.
	Random
	// Sequential doubles read-ahead, and pages behind the reader may go sooner.
	Sequential
	// DontNeed takes the pages out of the address space. Those of a file stay in
	// the page cache, with their content.
	DontNeed
	// Cold makes the pages the first to be reclaimed under pressure (Linux 5.4).
	Cold
)

var adviceNames = []string{"none", "willneed", "random", "sequential", "dontneed", "cold"}

// String returns the name that ParseAdvice takes.
func (a Advice) String() string { return nameOf(adviceNames, int(a), "Advice") }

// ParseAdvice returns the advice of a name: none, willneed, random, sequential,
// dontneed or cold.
func ParseAdvice(name string) (Advice, error) {
	i, err := parse(adviceNames, name, "advice")
	return Advice(i), err
}

func nameOf(names []string, i int, kind string) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

func parse(names []string, name, what string) (int, error) {
	if i := slices.Index(names, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s %q: want one of %s", what, name, strings.Join(names, ", "))
}
