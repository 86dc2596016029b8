// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"

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
	grep, body   patterns
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
	fl.StringArrayVar(&f.filter.UniqKeys, "uniq-key", nil, "only the message with this `ID` of its producer (UNIQ_KEY; can be repeated)")
	fl.Var(&f.grep, "grep", "only messages with a topic, a value of a property or a body that matches this expression (can be repeated)")
	fl.Var(&f.body, "body-grep", "only messages with a body that matches this expression (can be repeated)")
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
	filter.Grep, filter.BodyGrep = f.grep, f.body
	filter.Since, filter.Until = f.since.ms, f.until.ms
	if err := filter.Validate(); err != nil {
		return filter, usageError{err}
	}
	return filter, nil
}

// patterns are regular expressions.
type patterns []*regexp.Regexp

func (p *patterns) Type() string { return "EXPRESSION" }

func (p *patterns) String() string {
	var all []string
	for _, e := range *p {
		all = append(all, e.String())
	}
	return strings.Join(all, " ")
}

func (p *patterns) Set(text string) error {
	e, err := regexp.Compile(text)
	if err != nil {
		return err
	}
	*p = append(*p, e)
	return nil
}
