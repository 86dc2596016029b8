// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/experiment"
)

func (a *app) benchRecoverCommand() *cobra.Command {
	var f benchFlags
	var logs listOf[size]
	body, fileSize := size(1<<10), size(64<<20)
	var cmd *cobra.Command
	cmd = a.command("recover [flags]", "Measure how long it takes to open a store", cobra.NoArgs, func([]string) error {
		return a.bench(cmd, &f, func(s experiment.Schedule) (*experiment.Report, error) {
			c := experiment.RecoverConfig{Schedule: s, Size: int(body), FileSize: int64(fileSize), Child: a.benchWriterProcess}
			for _, n := range logs {
				c.Bytes = append(c.Bytes, int64(n))
			}
			return experiment.Recover(a.ctx, c)
		})
	})
	cmd.Long = `Recover has a child process append until it is killed with SIGKILL, and measures
how long it takes to open the store that is left behind; then how long after a
clean close, and when the consume queues are gone and are made again from the log.
The page cache is warm: what a power cut takes can't be had here.

Its floor is to open a store that holds nothing, and to read and checksum as many
bytes as the recovery had to read.`
	cmd.Example = example(`
		storectl bench recover
		storectl bench recover --bytes 1GiB --file-size 256MiB --rounds 3`)
	fl := cmd.Flags()
	list := newListValue[*size](&logs)
	_ = list.Set("64MiB,256MiB") // a constant that parses
	fl.Var(list, "bytes", "sizes of the logs")
	fl.Var(&body, "size", "size of the messages' bodies")
	fl.Var(&fileSize, "file-size", "size of the commit log files")
	f.add(cmd)
	return cmd
}

// benchWriterName is the hidden command that bench recover runs as its child.
const benchWriterName = "bench-writer"

func (a *app) benchWriterCommand() *cobra.Command {
	cmd := a.command(benchWriterName+" DIR BYTES SIZE FILESIZE", "Append messages until killed", cobra.ExactArgs(4), func(args []string) error {
		w := experiment.WriteConfig{Dir: args[0]}
		var body int64
		for i, to := range []*int64{&w.Bytes, &body, &w.FileSize} {
			n, err := parseSize(args[i+1])
			if err != nil {
				return usageError{err}
			}
			*to = n
		}
		w.Size = int(body)
		return experiment.Write(a.ctx, w, os.Stdout)
	})
	cmd.Hidden = true
	return cmd
}

// benchWriterProcess is experiment.RecoverConfig.Child.
func (a *app) benchWriterProcess(ctx context.Context, w experiment.WriteConfig) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	decimal := func(n int64) string { return strconv.FormatInt(n, 10) }
	child := exec.CommandContext(ctx, exe, benchWriterName, w.Dir, decimal(w.Bytes), decimal(int64(w.Size)), decimal(w.FileSize))
	child.Stderr = a.err
	return child, nil
}
