// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

func (a *app) offsetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offsets",
		Short: "List and set the offsets of consumer groups",
		Long: `A group of consumers commits, for each queue, the offset of the message that it
wants next. 'storectl config' takes offsets from a broker's files and writes them
there.`,
		Example: example(`
			storectl offsets list ./data
			storectl offsets set ./data --group billing --topic orders --queue 0 --offset 1200`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.offsetsListCommand(), a.offsetsSetCommand(), a.offsetsDeleteCommand())
	return cmd
}

func (a *app) offsetsListCommand() *cobra.Command {
	var f *format
	var group string
	cmd := a.command("list DIR [flags]", "List what consumer groups have committed", cobra.ExactArgs(1), func(args []string) error {
		return a.offsetsList(args[0], group, *f)
	})
	cmd.Long = `List shows the committed offsets by group, topic and queue. It neither locks the
store nor waits for whoever has it open; what was committed within the last
second may not show yet.`
	cmd.Example = example("storectl offsets list ./data --group billing -o ndjson")
	cmd.Flags().StringVar(&group, "group", "", "only this group")
	f = formatFlag(cmd)
	return cmd
}

func (a *app) offsetsList(dir, group string, f format) error {
	if err := isStore(dir); err != nil {
		return err
	}
	m, err := openMeta(dir)
	if err != nil {
		return err
	}
	groups := []string{group}
	if group == "" {
		if groups, err = m.Groups(); err != nil {
			return err
		}
	}
	l := a.newList(f, "GROUP", "TOPIC", "QUEUE", "OFFSET")
	for _, g := range groups {
		offsets, err := m.Offsets(g)
		if err != nil {
			return err
		}
		for _, o := range offsets {
			if err := l.add(offsetItem{g, o}); err != nil {
				return err
			}
		}
	}
	return errors.Join(l.close(), m.Close())
}

// offsetItem is a committed offset in a list.
type offsetItem struct {
	group string
	topicmeta.GroupOffset
}

// Cells implements item.
func (o offsetItem) Cells() []string {
	return []string{cell(o.group), cell(o.Topic), strconv.Itoa(int(o.Queue)), strconv.FormatInt(int64(o.Offset), 10)}
}

// AppendJSON implements item.
func (o offsetItem) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(struct { // of strings and numbers
		Group   string              `json:"group"`
		Topic   string              `json:"topic"`
		QueueID int32               `json:"queueId"`
		Offset  message.QueueOffset `json:"offset"`
	}{o.group, o.Topic, o.Queue, o.Offset})
	return append(dst, b...)
}

func (a *app) offsetsSetCommand() *cobra.Command {
	var group, topic string
	var queue int32
	var offset int64
	cmd := a.command("set DIR [flags]", "Set the offset of a group on a queue", cobra.ExactArgs(1), func(args []string) error {
		return withStore(args[0], func(s *store.Store) error {
			err := s.CommitOffset(group, topic, queue, message.QueueOffset(offset))
			if errors.Is(err, topicmeta.ErrInvalid) {
				err = usageError{err}
			}
			return errors.Join(err, s.SyncOffsets())
		})
	})
	cmd.Long = `Set makes OFFSET the next message that the group gets from the queue. It may go
back, and it may go beyond the queue's end.`
	cmd.Example = example("storectl offsets set ./data --group billing --topic orders --queue 0 --offset 1200")
	fl := cmd.Flags()
	fl.StringVar(&group, "group", "", "consumer group (required)")
	fl.StringVar(&topic, "topic", "", "topic (required)")
	fl.Int32Var(&queue, "queue", 0, "queue of the topic")
	fl.Int64Var(&offset, "offset", 0, "queue offset of the next message (required)")
	for _, name := range []string{"group", "topic", "offset"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func (a *app) offsetsDeleteCommand() *cobra.Command {
	var group string
	cmd := a.command("delete DIR [flags]", "Forget a group and all its offsets", cobra.ExactArgs(1), func(args []string) error {
		return withStore(args[0], func(s *store.Store) error {
			if offsets, err := s.Meta().Offsets(group); err != nil {
				return err
			} else if len(offsets) == 0 {
				return usagef("group %q has committed nothing", group)
			}
			return s.Meta().DeleteGroup(group)
		})
	})
	cmd.Long = "Delete forgets a group. Its consumers begin anew, as a new group would."
	cmd.Example = example("storectl offsets delete ./data --group billing")
	cmd.Flags().StringVar(&group, "group", "", "consumer group (required)")
	_ = cmd.MarkFlagRequired("group") // fails only for a flag that does not exist
	return cmd
}
