// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/stelelog/stele/experiment"
)

func (a *app) benchFetchCommand() *cobra.Command {
	var f benchFlags
	var batches listOf[count]
	var orders []string
	body := size(1 << 10)
	var messages, queues int
	var cmd *cobra.Command
	cmd = a.command("fetch [flags]", "Measure how fast messages are fetched by queue", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f, func(s experiment.Schedule) (*experiment.Report, error) {
			c := experiment.FetchConfig{Schedule: s, Messages: messages, Size: int(body), Queues: queues, Orders: orders}
			for _, n := range batches {
				c.Batches = append(c.Batches, int(n))
			}
			return experiment.Fetch(a.ctx, c)
		})
	})
	cmd.Long = `Fetch reads messages by queue from a log that is in memory, in batches of each
size, in order and at random offsets: it finds them, decodes them and verifies their
checksums.

Its floor is a walk over the mapping that computes the checksum of the same records
in the same order.`
	cmd.Example = example(`
		storectl bench fetch
		storectl bench fetch --batch 1,32,256 --order random --size 128 --html fetch.html`)
	fl := cmd.Flags()
	list := newListValue[*count](&batches)
	_ = list.Set("1,32") // a constant that parses
	fl.Var(list, "batch", "numbers of messages that are fetched together")
	fl.StringSliceVar(&orders, "order", []string{experiment.Sequential, experiment.Random}, "where batches begin: sequential (one behind the other), random")
	fl.Var(&body, "size", "size of the messages' bodies")
	fl.IntVar(&messages, "messages", 200_000, "messages in the store, and that a pass fetches")
	fl.IntVar(&queues, "queues", 8, "queues whose messages lie in turn")
	f.add(cmd)
	return cmd
}
