// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand() *cobra.Command {
	cmd := a.command("man TARGET", "Write the man pages", cobra.ExactArgs(1), nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.began = true
		return writeManPages(cmd.Root(), args[0])
	}
	cmd.Long = `Man writes a man page for each command, in section 1, into the directory TARGET,
which is made if there is none. Pages of that name are overwritten.`
	cmd.Example = example(`
		storectl man ~/.local/share/man/man1
		man storectl-verify`)
	return cmd
}

func writeManPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("man pages: %w", err)
	}
	// The generator's line at the end would have the day of the generation in it,
	// so that no two builds were equal.
	root.DisableAutoGenTag = true
	info, _ := debug.ReadBuildInfo()
	header := &doc.GenManHeader{Section: "1", Source: "Stele", Manual: "storectl", Date: builtFrom(info)}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("man pages: %w", err)
	}
	return nil
}

// builtFrom is the time of the commit that a program was built from, or nil if
// that is not known: then the pages are of today, or of SOURCE_DATE_EPOCH.
func builtFrom(info *debug.BuildInfo) *time.Time {
	if info == nil {
		return nil
	}
	for _, s := range info.Settings {
		if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
			return &t
		}
	}
	return nil
}
