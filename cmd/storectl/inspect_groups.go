// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/message"
)

// addGroups fills in what groups have not consumed: by what is committed in the
// store's own metadata, or else by a broker's config/consumerOffset.json.
func addGroups(o *inspect.Overview, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, layout.Stele, layout.Meta)); err == nil {
		return addOwnGroups(o, dir)
	}
	offsets, _, err := brokerconfig.ReadConsumerOffsets(filepath.Join(dir, layout.Config))
	if err != nil {
		return err
	}
	byGroup := func(a, b brokerconfig.GroupTopic) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic))
	}
	for _, g := range slices.SortedFunc(maps.Keys(offsets.Table), byGroup) {
		for queue, next := range offsets.Table[g] {
			o.AddGroupOffset(g.Group, g.Topic, queue, message.QueueOffset(next))
		}
	}
	return nil
}

func addOwnGroups(o *inspect.Overview, dir string) error {
	m, err := openMeta(dir)
	if err != nil {
		return err
	}
	groups, err := m.Groups()
	for _, g := range groups {
		offsets, err := m.Offsets(g)
		if err != nil {
			return errors.Join(err, m.Close())
		}
		for _, at := range offsets {
			o.AddGroupOffset(g, at.Topic, at.Queue, at.Offset)
		}
	}
	return errors.Join(err, m.Close())
}

// printGroups prints the table of groups.
func (a *app) printGroups(o *inspect.Overview) error {
	if len(o.Groups) == 0 {
		return nil
	}
	if _, err := a.out.WriteString("\n"); err != nil {
		return err
	}
	list := a.newList(formatTable, "GROUP", "TOPIC", "QUEUES", "UNCONSUMED")
	if err := list.begin(); err != nil {
		return err
	}
	for _, g := range o.Groups {
		if err := list.row([]string{cell(g.Group), cell(g.Topic), strconv.Itoa(g.Queues), strconv.FormatInt(g.Unconsumed, 10)}); err != nil {
			return err
		}
	}
	return list.table.Flush()
}
