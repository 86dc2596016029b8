// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
)

// The flag values here implement pflag.Value.

// format is how a command prints what it lists.
type format string

const (
	formatTable  format = "table"
	formatJSON   format = "json"   // one document
	formatNDJSON format = "ndjson" // one object a line
)

var formats = []string{string(formatTable), string(formatJSON), string(formatNDJSON)}

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "FORMAT" }

func (f *format) Set(s string) error {
	for _, known := range formats {
		if s == known {
			*f = format(s)
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", strings.Join(formats, ", "))
}

// formatFlag adds -o, which is table unless told otherwise.
func formatFlag(cmd *cobra.Command) *format {
	f := formatTable
	cmd.Flags().VarP(&f, "output", "o", "output format: "+strings.Join(formats, ", "))
	// It fails only for a flag that does not exist, or twice for one.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// size is a number of bytes, or a byte position: 4096, 16MiB, 1.5GiB.
type size int64

var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (s *size) String() string {
	if *s == 0 {
		return "0" // a zero value, which the help does not show as a default
	}
	return formatSize(int64(*s))
}

func (s *size) Type() string { return "SIZE" }

func (s *size) Set(text string) error {
	n, err := parseSize(text)
	*s = size(n)
	return err
}

// parseSize reads a number of bytes with an optional unit. Fractions need a
// unit, and a fraction of a byte is an error.
func parseSize(text string) (int64, error) {
	number, unit := text, int64(1)
	for _, u := range units {
		if head, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = strings.TrimSpace(head), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 {
			return 0, fmt.Errorf("%s is negative", text)
		}
		if n > math.MaxInt64/unit {
			return 0, fmt.Errorf("%s is too large", text)
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.ContainsAny(number, "eExXpPnN_") {
		return 0, fmt.Errorf("%q is no size: write bytes, or a number with KiB, MiB, GiB or TiB", text)
	}
	f *= float64(unit)
	if f < 0 || f >= math.MaxInt64 || f != math.Trunc(f) {
		return 0, fmt.Errorf("%s is no whole number of bytes", text)
	}
	return int64(f), nil
}

// formatSize writes a size with the largest unit that divides it to at most one
// decimal: 16 MiB, 1.5 GiB, 524288 as 512 KiB, 1000 as 1000 B.
func formatSize(n int64) string {
	for _, u := range units {
		if n < u.bytes {
			continue
		}
		if n%u.bytes == 0 || u.bytes == 1 {
			return fmt.Sprintf("%d %s", n/u.bytes, u.name)
		}
		return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.name)
	}
	return "0 B"
}

// moment is a point in time in milliseconds since the Unix epoch, given as
// RFC 3339 (2026-11-22T13:54:32.452Z) or as a duration before now (90m, 36h,
// 7d). 0 is not set.
type moment struct {
	ms  int64
	now func() time.Time
}

func (m *moment) Type() string { return "TIME" }

func (m *moment) String() string {
	if m.ms == 0 {
		return ""
	}
	return formatTime(m.ms)
}

func (m *moment) Set(text string) error {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		if t.UnixMilli() <= 0 {
			return fmt.Errorf("%s lies before 1970", text)
		}
		m.ms = t.UnixMilli()
		return nil
	}
	d, err := parseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no time: write RFC 3339 (2006-01-02T15:04:05Z) or a duration before now (90m, 36h, 7d)", text)
	}
	m.ms = m.now().Add(-d).UnixMilli()
	return nil
}

// later is a time to come: RFC 3339, or a duration after now.
type later struct {
	at    time.Time
	after time.Duration
}

func (l *later) Type() string { return "TIME" }

func (l *later) String() string {
	switch {
	case !l.at.IsZero():
		return formatTime(l.at.UnixMilli())
	case l.after != 0:
		return l.after.String()
	}
	return ""
}

func (l *later) Set(text string) error {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		*l = later{at: t}
		return nil
	}
	d, err := parseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no time: write RFC 3339 (2006-01-02T15:04:05Z) or a duration after now (90s, 36h, 2d)", text)
	}
	*l = later{after: d}
	return nil
}

// time is the time that is meant, or the zero time for none.
func (l *later) time(now time.Time) time.Time {
	if l.after != 0 {
		return now.Add(l.after)
	}
	return l.at
}

// parseDuration is time.ParseDuration with whole days.
func parseDuration(text string) (time.Duration, error) {
	if head, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.ParseUint(head, 10, 16)
		return time.Duration(days) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// tagFlag is a choice of tags: expressions like 'A || B', of which one must fit.
type tagFlag struct {
	tags []string
	all  bool // one of them was a *
}

// tagsFlag adds --tag.
func tagsFlag(cmd *cobra.Command, f *tagFlag) {
	cmd.Flags().Var(f, "tag", "only messages with one of these `TAGS`, like 'paid || refunded' (can be repeated)")
}

func (f *tagFlag) Type() string   { return "TAGS" }
func (f *tagFlag) String() string { return strings.Join(f.tags, " || ") }

func (f *tagFlag) Set(text string) error {
	t, err := message.ParseTagFilter(text)
	if err != nil {
		return err
	}
	f.tags, f.all = append(f.tags, t.Tags()...), f.all || t.All()
	return nil
}

func (f *tagFlag) filter() message.TagFilter {
	if f.all {
		return message.TagFilter{}
	}
	return message.FilterTags(f.tags...)
}

// formatTime writes a time of the store: UTC, to the millisecond.
func formatTime(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
