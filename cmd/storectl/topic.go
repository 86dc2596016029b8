// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

func (a *app) topicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "List and declare topics",
		Long: `A topic need not be declared: appending to it makes it. One that is declared is
held to its number of queues and its permissions. Declarations are kept in
stele/ inside the store; 'storectl config' takes them from a broker's files and
writes them there.`,
		Example: example(`
			storectl topic list ./data
			storectl topic show ./data orders
			storectl topic create ./data orders --queues 8`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.topicListCommand(), a.topicShowCommand(), a.topicCreateCommand(), a.topicDeleteCommand())
	return cmd
}

// withStore opens an existing store, runs do and closes it.
func withStore(dir string, do func(*store.Store) error) error {
	// Who sets a topic does not mean to deliver messages.
	s, err := store.Open(dir, store.Options{MustExist: true, Delay: store.DelayOptions{Off: true}})
	if err != nil {
		return storeFailure(err)
	}
	return storeFailure(errors.Join(do(s), s.Close()))
}

// openMeta reads the metadata of a store as it is, without the store's lock.
func openMeta(dir string) (*topicmeta.Store, error) {
	return topicmeta.Open(filepath.Join(dir, layout.Stele, layout.Meta), topicmeta.Options{ReadOnly: true})
}

func (a *app) topicListCommand() *cobra.Command {
	var f *format
	cmd := a.command("list DIR [flags]", "List declared topics", cobra.ExactArgs(1), func(args []string) error {
		return a.topicList(args[0], *f)
	})
	cmd.Long = `List shows the topics that are declared in the store. It neither locks the store
nor waits for whoever has it open. 'storectl inspect' shows every topic that has
queues, declared or not.`
	cmd.Example = example("storectl topic list ./data -o ndjson")
	f = formatFlag(cmd)
	return cmd
}

func (a *app) topicList(dir string, f format) error {
	if err := isStore(dir); err != nil {
		return err
	}
	m, err := openMeta(dir)
	if err != nil {
		return err
	}
	topics, err := m.Topics()
	if err != nil {
		return err
	}
	l := a.newList(f, "TOPIC", "READ QUEUES", "WRITE QUEUES", "PERM", "FILTER", "ORDER", "ATTRIBUTES")
	for _, t := range topics {
		if err := l.add(topicItem{t}); err != nil {
			return err
		}
	}
	return errors.Join(l.close(), m.Close())
}

// topicItem is a topic in a list.
type topicItem struct{ topicmeta.Topic }

// Cells implements item.
func (t topicItem) Cells() []string {
	attributes, _ := json.Marshal(t.Attributes) // a map of strings
	if len(t.Attributes) == 0 {
		attributes = nil
	}
	return []string{
		cell(t.Name), strconv.Itoa(int(t.ReadQueues)), strconv.Itoa(int(t.WriteQueues)), t.Perm.String(),
		t.FilterType.String(), strconv.FormatBool(t.Order), cell(string(attributes)),
	}
}

// AppendJSON implements item.
func (t topicItem) AppendJSON(dst []byte) []byte {
	b, _ := json.Marshal(struct { // of strings, numbers and a map of strings
		Topic       string            `json:"topic"`
		ReadQueues  int32             `json:"readQueues"`
		WriteQueues int32             `json:"writeQueues"`
		Perm        int               `json:"perm"`
		FilterType  string            `json:"filterType"`
		SysFlag     int32             `json:"sysFlag"`
		Order       bool              `json:"order"`
		Attributes  map[string]string `json:"attributes"`
	}{t.Name, t.ReadQueues, t.WriteQueues, int(t.Perm), t.FilterType.String(), t.SysFlag, t.Order, t.Attributes})
	return append(dst, b...)
}

func (a *app) topicCreateCommand() *cobra.Command {
	queues, perm := int32(4), "rw"
	cmd := a.command("create DIR TOPIC [flags]", "Declare a topic, or change its declaration", cobra.ExactArgs(2), func(args []string) error {
		p, err := parsePerm(perm)
		if err != nil {
			return usageError{err}
		}
		t := topicmeta.Topic{Name: args[1], ReadQueues: queues, WriteQueues: queues, Perm: p}
		return withStore(args[0], func(s *store.Store) error {
			err := s.PutTopic(t)
			if errors.Is(err, topicmeta.ErrInvalid) {
				err = usageError{err}
			}
			return err
		})
	})
	cmd.Long = `Create declares a topic: from then on appends to it are held to its queues, which
are numbered from 0, and to its permissions. Declaring it again changes that.`
	cmd.Example = example("storectl topic create ./data orders --queues 8\nstorectl topic create ./data archive --perm r")
	cmd.Flags().Int32Var(&queues, "queues", queues, "number of queues")
	cmd.Flags().StringVar(&perm, "perm", perm, "what is permitted: r, w or rw")
	return cmd
}

func parsePerm(s string) (topicmeta.Perm, error) {
	var p topicmeta.Perm
	for _, c := range s {
		switch c {
		case 'r':
			p |= topicmeta.PermRead
		case 'w':
			p |= topicmeta.PermWrite
		default:
			return 0, fmt.Errorf("--perm %q: must be r, w or rw", s)
		}
	}
	return p, nil
}

func (a *app) topicDeleteCommand() *cobra.Command {
	cmd := a.command("delete DIR TOPIC", "Withdraw a topic's declaration", cobra.ExactArgs(2), func(args []string) error {
		return withStore(args[0], func(s *store.Store) error {
			if _, declared, err := s.Topic(args[1]); err != nil {
				return err
			} else if !declared {
				return usagef("topic %q is not declared", args[1])
			}
			return s.DeleteTopic(args[1])
		})
	})
	cmd.Long = `Delete withdraws a declaration. The messages stay where they are, and appends to
the topic are no longer held to anything.`
	cmd.Example = example("storectl topic delete ./data orders")
	return cmd
}

// isStore says why dir is none.
func isStore(dir string) error {
	if strings.TrimSpace(dir) == "" {
		return usagef("the directory is empty text")
	}
	return layout.Check(mappedfile.OS(), dir, "")
}
