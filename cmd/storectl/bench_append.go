// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/stelelog/stele/experiment"
)

func (a *app) benchAppendCommand() *cobra.Command {
	var f loadFlags
	var rate float64
	var cmd *cobra.Command
	cmd = a.command("append [flags]", "Measure how fast messages are appended", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f.benchFlags, func(s experiment.Schedule) (*experiment.Report, error) {
			return experiment.Append(a.ctx, experiment.AppendConfig{
				Schedule: s, Matrix: f.matrix(), Messages: f.messages, Duration: f.duration, Rate: rate, FileSize: int64(f.fileSize),
			})
		})
	})
	cmd.Long = `Append measures throughput and the latency of each append, for every combination
of what the flags list. Its floor is one goroutine that copies records of the same
length into a mapping that is warm: no log that is written through a mapping can
be faster. With --flush sync it is a loop of bare writes and syncs instead.

With --rate messages are due at fixed moments, whether or not the one before them
is done, and latencies count from those moments: what queues up behind a slow
append is slow too. Without it, each producer appends as fast as it can.`
	cmd.Example = example(`
		storectl bench append --size 1KiB --producers 1,4
		storectl bench append --size 1KiB --rate 100000 --rounds 3 --html append.html`)
	fl := cmd.Flags()
	f.add(cmd, "128,1024", "1", "async")
	fl.DurationVar(&f.duration, "duration", 0, "longest time of a pass (default no bound, 1s with --flush sync)")
	fl.Float64Var(&rate, "rate", 0, "messages a second that are due, of all producers together (default full speed)")
	return cmd
}

func (a *app) benchFlushCommand() *cobra.Command {
	var f loadFlags
	var cmd *cobra.Command
	cmd = a.command("flush [flags]", "Measure how fast messages become durable", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f.benchFlags, func(s experiment.Schedule) (*experiment.Report, error) {
			return experiment.Flush(a.ctx, experiment.FlushConfig{
				Schedule: s, Matrix: f.matrix(), Messages: f.messages, Duration: f.duration, FileSize: int64(f.fileSize),
			})
		})
	})
	cmd.Long = `Flush measures how many messages a second come to disk, for every combination of
what the flags list. The clock runs until all are there: with --flush sync each
append waits for its flush and shares it with those that wait at the same time,
with --flush async nobody waits, and a flush ends the pass. Its floor is a loop that
writes as many bytes as the store flushed at a time, and syncs, and does nothing
else.`
	cmd.Example = example(`
		storectl bench flush --flush sync --size 1KiB --producers 1,8,64
		storectl bench flush --batch 1,16 --duration 2s --html flush.html`)
	f.add(cmd, "1024", "1,64", "sync,async")
	cmd.Flags().DurationVar(&f.duration, "duration", 0, "longest time of a pass (default 1s)")
	return cmd
}
