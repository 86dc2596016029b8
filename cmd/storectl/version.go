// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := a.command("version", "Print the version", cobra.NoArgs, func([]string) error {
		info, _ := debug.ReadBuildInfo()
		_, err := fmt.Fprintln(a.out, versionLine(info))
		return err
	})
	cmd.Long = "Version prints the version that the Go toolchain recorded when it built the program."
	cmd.Example = example("storectl version")
	return cmd
}

// versionLine tells version, revision, Go version and platform. info is nil in
// a program that was built without module support.
func versionLine(info *debug.BuildInfo) string {
	version, revision, modified := "unknown", "", ""
	if info != nil {
		version = info.Main.Version
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = " " + s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " (modified)"
			}
		}
	}
	return fmt.Sprintf("storectl %s%s%s %s %s/%s", version, revision, modified, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
