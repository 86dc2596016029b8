// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := a.command("inspect DIR [flags]", "Show what is in a store", cobra.ExactArgs(1),
		func(args []string) error { return nil })
	cmd.AddCommand(a.inspectMessagesCommand())
	return cmd
}
