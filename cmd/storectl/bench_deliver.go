// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stelelog/stele/experiment"
)

func (a *app) benchDeliverCommand() *cobra.Command {
	var f benchFlags
	var chunks listOf[size]
	var consumers listOf[count]
	var patterns, caches, readers, methods []string
	total := size(200 << 20)
	var cmd *cobra.Command
	cmd = a.command("deliver [flags]", "Measure what it costs to send a log to consumers", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f, func(s experiment.Schedule) (*experiment.Report, error) {
			c := experiment.DeliverConfig{
				Schedule: s, Size: int64(total), Patterns: patterns, Caches: caches, Readers: readers, Methods: methods,
				Child: a.benchReaderProcess,
			}
			for _, n := range chunks {
				c.Chunks = append(c.Chunks, int(n))
			}
			for _, n := range consumers {
				c.Consumers = append(c.Consumers, int(n))
			}
			return experiment.Deliver(a.ctx, c)
		})
	})
	cmd.Long = `Deliver sends the file of a log to consumers over loopback, whose readers are a
process of their own, by each way there is: through buffers, from the mapping, by
sendfile and splice, by io.Copy (and what Go makes of it), with MSG_ZEROCOPY (and
whether the kernel copied all the same), and as a store does it. Beside what each
cost it has what textbooks count. Congestion control is cubic, where there is one:
others pace loopback, too.

Its floor is a loop of sendfile and nothing else. Linux only.`
	cmd.Example = example(`
		storectl bench deliver
		storectl bench deliver --pattern scattered --chunk 32KiB --consumers 1
		storectl bench deliver --cache warm,cold --reader discard --html deliver.html`)
	fl := cmd.Flags()
	list := func(v pflag.Value, name, usage, def string) {
		_ = v.Set(def) // a constant that parses
		fl.Var(v, name, usage)
	}
	fl.Var(&total, "size", "how much of the log each consumer gets")
	list(newListValue[*size](&chunks), "chunk", "how many bytes are sent at a time", "64KiB")
	list(newListValue[*count](&consumers), "consumers", "numbers of consumers, each of which gets all", "1,10")
	fl.StringSliceVar(&patterns, "pattern", []string{experiment.Contiguous}, "how a chunk lies in the log: contiguous, scattered (32 records of a queue among 16)")
	fl.StringSliceVar(&caches, "cache", []string{experiment.Warm}, "whether the file is in memory: warm, cold")
	fl.StringSliceVar(&readers, "reader", []string{experiment.ReaderCopy}, "what the consumers do: copy, discard (MSG_TRUNC)")
	fl.StringSliceVar(&methods, "method", nil, "ways to send (default all: "+strings.Join(experiment.DeliverMethods, ", ")+")")
	f.add(cmd)
	return cmd
}

// benchReaderName is the hidden command of bench that bench deliver runs as its child.
const benchReaderName = "reader"

func (a *app) benchReaderCommand() *cobra.Command {
	cmd := a.command(benchReaderName+" ADDRESS CONSUMERS", "Read what bench deliver sends", cobra.ExactArgs(2), func(args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return usagef("%q is no number of consumers", args[1])
		}
		return experiment.Receive(a.ctx, args[0], n)
	})
	cmd.Hidden = true
	return cmd
}

// benchReaderProcess is experiment.DeliverConfig.Child.
func (a *app) benchReaderProcess(ctx context.Context, address string, consumers int) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, exe, "bench", benchReaderName, address, strconv.Itoa(consumers))
	child.Stderr = a.err
	return child, nil
}
