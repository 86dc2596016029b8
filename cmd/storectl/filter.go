// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// filterFlags are the flags by which a command chooses messages of a log.
type filterFlags struct {
	filter       inspect.Filter
	from, to     size
	since, until moment
	tags         tagFlag
}

// filterFlags adds them.
func (a *app) filterFlags(cmd *cobra.Command, f *filterFlags) { a.filterFlagsTo(cmd, f, "to") }

// filterFlagsTo is filterFlags for a command where --to is something else.
func (a *app) filterFlagsTo(cmd *cobra.Command, f *filterFlags, to string) {
	f.since.now, f.until.now = a.now, a.now
	fl := cmd.Flags()
	fl.StringArrayVar(&f.filter.Topics, "topic", nil, "only this `TOPIC`, or those that match a pattern like 'order*' (can be repeated)")
	fl.Int32SliceVar(&f.filter.Queues, "queue", nil, "only this `QUEUE` id (can be repeated)")
	fl.Lookup("queue").DefValue = "" // pflag would show []
	tagsFlag(cmd, &f.tags)
	fl.StringArrayVar(&f.filter.Keys, "key", nil, "only messages with this `KEY` (can be repeated)")
	fl.Var(&f.from, "from", "only records that begin at or behind this physical offset")
	fl.Var(&f.to, to, "only records that begin before this physical offset")
	fl.Var(&f.since, "since", "only messages stored at or after this time: RFC 3339, or a duration before now like 90m or 7d")
	fl.Var(&f.until, "until", "only messages stored before this time")
	fl.Int64Var(&f.filter.Limit, "limit", 0, "stop after `N` messages (0: no limit)")
}

// get returns the filter that the flags ask for, or an error of usage.
func (f *filterFlags) get() (inspect.Filter, error) {
	filter := f.filter
	filter.From, filter.To = message.Offset(f.from), message.Offset(f.to)
	filter.Tags = f.tags.filter().Tags()
	filter.Since, filter.Until = f.since.ms, f.until.ms
	if err := filter.Validate(); err != nil {
		return filter, usageError{err}
	}
	return filter, nil
}
