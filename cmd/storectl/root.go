// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "storectl",
		Short: "Look into the store directories of RocketMQ and Stele",
		Long: `storectl works on the directory in which a RocketMQ broker or Stele keeps its
messages. The commands that read never write and never lock: they work on a
read-only mount and beside a running broker.

Data goes to stdout, words to stderr. Exit status: 0 all is well, 1 damage or
findings, 2 wrong usage, 3 something could not be read or written, 4 the store
has a layout that is not supported, 130 interrupted.`,
		Example: example(`
			storectl inspect /data/rocketmq/store
			storectl inspect messages /data/rocketmq/store --topic 'order*' -o ndjson`),
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(a.demoCommand(), a.demoWriterCommand(), a.inspectCommand(), a.verifyCommand(), a.doctorCommand(), a.rebuildCommand(), a.recoverCommand(),
		a.appendCommand(), a.fetchCommand(), a.queryCommand(),
		a.exportCommand(), a.importCommand(), a.replayCommand(),
		a.tailCommand(),
		a.topicCommand(), a.offsetsCommand(), a.configCommand(), a.retentionCommand(), a.benchCommand(), a.benchWriterCommand(), a.manCommand(), a.versionCommand())
	completeQueueFlags(root)
	return root
}

// command makes a command out of what all have in common. args checks the
// arguments that do gets.
func (a *app) command(use, short string, args cobra.PositionalArgs, do func(args []string) error) *cobra.Command {
	return &cobra.Command{
		Use:                   use,
		Short:                 short,
		DisableFlagsInUseLine: true,
		Args:                  args,
		ValidArgsFunction:     completeDir,
		RunE: func(_ *cobra.Command, args []string) error {
			a.began = true
			return do(args)
		},
	}
}

// example indents the lines of an example as cobra prints the rest.
func example(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, l := range lines {
		lines[i] = "  " + strings.TrimSpace(l)
	}
	return strings.Join(lines, "\n")
}
