// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/internal/layout"
)

// completeDir completes the first argument to a directory.
func completeDir(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeNames completes DIR and behind it so many of TOPIC and QUEUE.
func completeNames(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, part string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 || len(args) > most {
			return completeDir(cmd, args, part)
		}
		return queueNames(args[0], args[1:]...), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeQueueFlags has the flags --topic and --queue of all commands below cmd
// completed with what the store, their first argument, has.
func completeQueueFlags(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		completeQueueFlags(c)
		if c.Flags().Lookup("topic") == nil {
			continue
		}
		// The error is that of a flag that does not exist, or has a completion.
		_ = c.RegisterFlagCompletionFunc("topic", func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return queueNames(args[0]), cobra.ShellCompDirectiveNoFileComp
		})
		if c.Flags().Lookup("queue") == nil {
			continue
		}
		_ = c.RegisterFlagCompletionFunc("queue", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			topic := flagText(cmd, "topic")
			if len(args) == 0 || topic == "" {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return queueNames(args[0], topic), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// flagText is the last value of a flag, whether it can be repeated or not.
func flagText(cmd *cobra.Command, name string) string {
	v := cmd.Flags().Lookup(name).Value
	if s, ok := v.(interface{ GetSlice() []string }); ok {
		if all := s.GetSlice(); len(all) > 0 {
			return all[len(all)-1]
		}
		return ""
	}
	return v.String()
}

// queueNames lists the topics that have a queue in a store or, below a topic,
// its queues. What can't be read has none: a shell has no place for an error.
func queueNames(dir string, below ...string) (names []cobra.Completion) {
	entries, err := os.ReadDir(filepath.Join(append([]string{dir, layout.ConsumeQueue}, below...)...))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}
