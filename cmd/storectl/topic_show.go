// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/inspect"
)

func (a *app) topicShowCommand() *cobra.Command {
	var f *format
	var logDir string
	cmd := a.command("show DIR TOPIC [flags]", "Show the queues of a topic", cobra.ExactArgs(2), func(args []string) error {
		return a.topicShow(args[0], args[1], logDir, *f)
	})
	cmd.ValidArgsFunction = completeNames(1)
	cmd.Long = `Show lists the queues of a topic: the offsets that they hold, how many messages
these are, and when the first and the last of them was stored. It reads two
messages of each queue, locks nothing, and shows no queue that never held one.`
	cmd.Example = example("storectl topic show ./data orders\nstorectl topic show ./data orders -o ndjson")
	commitLogFlag(cmd, &logDir)
	f = formatFlag(cmd)
	return cmd
}

func (a *app) topicShow(dir, topic, logDir string, f format) error {
	d, err := inspect.Open(dir, inspect.Options{CommitLog: logDir})
	if err != nil {
		return err
	}
	qs, err := d.Queues(a.ctx, topic)
	if err != nil {
		return err
	}
	l := a.newList(f, queueHeader...)
	for i := range qs {
		if err := l.add(queueItem{&qs[i]}); err != nil {
			return err
		}
	}
	return l.close()
}

// queueHeader is the head of queueCells.
var queueHeader = []string{"TOPIC", "QUEUE", "MIN", "MAX", "ENTRIES", "FIRST STORED", "LAST STORED"}

// queueItem is a queue in a list.
type queueItem struct{ *inspect.QueueOverview }

// Cells implements item.
func (q queueItem) Cells() []string { return queueCells(q.QueueOverview) }

// AppendJSON implements item.
func (q queueItem) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(q.QueueOverview) // of strings and numbers
	return append(dst, b...)
}
