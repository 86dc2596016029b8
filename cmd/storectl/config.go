// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Take over and write a broker's topics and consumer offsets",
		Long: `A broker keeps topics, consumer offsets and the progress of delayed messages in
JSON files in config/, beside its store. Stele keeps them in stele/. Config
carries them over, in both directions.`,
		Example: example(`
			storectl config import /data/rocketmq/store
			storectl config export ./data`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configImportCommand(), a.configExportCommand())
	return cmd
}

func (a *app) configImportCommand() *cobra.Command {
	var config string
	var o topicmeta.ImportOptions
	cmd := a.command("import DIR [flags]", "Take over topics.json, consumerOffset.json and delayOffset.json", cobra.ExactArgs(1), func(args []string) error {
		return withStore(args[0], func(s *store.Store) error {
			report, err := s.Meta().ImportDir(configDir(args[0], config), o)
			if err != nil {
				return err
			}
			s.TopicsChanged()
			a.sayImport(report)
			return nil
		})
	})
	cmd.Long = `Import reads a broker's files, or the .bak of one that a crash has spoilt, and
changes none of them. What the store has already is kept, unless --overwrite is
given; nothing is deleted.`
	cmd.Example = example("storectl config import /data/rocketmq/store\nstorectl config import ./data --config /data/rocketmq/store/config --overwrite")
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "let imported values replace what the store has")
	return cmd
}

func (a *app) configExportCommand() *cobra.Command {
	var config string
	cmd := a.command("export DIR [flags]", "Write topics.json, consumerOffset.json, delayOffset.json and timercheck", cobra.ExactArgs(1), func(args []string) error {
		return withStore(args[0], func(s *store.Store) error { return s.ExportConfig(configDir(args[0], config)) })
	})
	cmd.Long = `Export writes the files in the form that a broker reads, and keeps those that were
there as .bak, as a broker does (but for timercheck, which has none). A topic that only has queues is written with as
many as it has. The broker must not be running.`
	cmd.Example = example("storectl config export ./data\nstorectl config export ./data --config ./config-for-broker")
	configFlag(cmd, &config)
	return cmd
}

func configFlag(cmd *cobra.Command, config *string) {
	cmd.Flags().StringVar(config, "config", "", "directory of the broker's files, if it is not DIR/config")
	_ = cmd.MarkFlagDirname("config") // fails only for a flag that does not exist
}

// configDir is where a broker keeps its files: beside the store's directories.
func configDir(dir, flag string) string {
	if flag != "" {
		return flag
	}
	return filepath.Join(dir, layout.Config)
}

// sayImport reports on stderr.
func (a *app) sayImport(r topicmeta.ImportReport) {
	for _, src := range r.Sources {
		if src.Passed != nil && src.Path != "" {
			a.say("read %s instead: %s", src.Path, oneLine(src.Passed))
		}
	}
	for _, s := range r.Skipped {
		a.say("skipped %s: %s", s.What, oneLine(s.Reason))
	}
	for _, c := range []struct {
		what string
		topicmeta.ImportCount
	}{{"topics", r.Topics}, {"consumer offsets", r.Offsets}, {"delay levels", r.Delays}} {
		a.say("%s: %d added, %d replaced, %d kept", c.what, c.Added, c.Replaced, c.Kept)
	}
}
