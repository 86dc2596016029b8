// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// demoWriterName is the hidden command that the demo runs as its child.
const demoWriterName = "demo-writer"

var demoTopics = []string{"orders", "payments", "clicks", "audit"}

const (
	demoQueues = 4   // of each topic
	demoGroup  = 500 // messages that are appended, and acknowledged, together
)

func (a *app) demoWriterCommand() *cobra.Command {
	cmd := a.command(demoWriterName+" DIR", "Append the demo's messages until killed", cobra.ExactArgs(1), func(args []string) error {
		return a.demoWriter(args[0])
	})
	cmd.Hidden = true
	return cmd
}

// demoWriter appends without end. For each message, in order, it prints its
// queue offset and physical offset once it is on disk.
func (a *app) demoWriter(dir string) (err error) {
	s, err := store.Open(dir, store.Options{Flush: store.FlushSync, FileSize: demoFileSize})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	group := make([]*message.Message, demoGroup)
	var line []byte
	for n := 0; ; n += len(group) {
		for i := range group {
			group[i] = demoMessage(n + i)
		}
		results, err := s.AppendBatch(a.ctx, group)
		if err != nil {
			return err
		}
		for _, r := range results {
			line = strconv.AppendInt(line[:0], int64(r.QueueOffset), 10)
			line = strconv.AppendInt(append(line, ' '), int64(r.Offset), 10)
			if _, err := a.out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		if err := a.out.Flush(); err != nil {
			return err
		}
	}
}

// demoMessage is message number n: topics take turns, then queues.
func demoMessage(n int) *message.Message {
	m := &message.Message{
		Topic:   demoTopics[n%len(demoTopics)],
		QueueID: int32(n / len(demoTopics) % demoQueues),
		Body:    fmt.Appendf(nil, "message %d of the demo", n),
	}
	m.SetTags("t" + strconv.Itoa(n%7))
	m.SetKeys("key-" + strconv.Itoa(n))
	return m
}

// messageNumber is the number of the message at an offset of a queue.
func messageNumber(topic string, queue int32, off message.QueueOffset) int {
	round := int(off)*demoQueues + int(queue)
	return round*len(demoTopics) + slices.Index(demoTopics, topic)
}

// sameMessage says in what m is not message number n.
func sameMessage(m *message.Message, n int) error {
	want := demoMessage(n)
	switch {
	case m.Topic != want.Topic || m.QueueID != want.QueueID:
		return fmt.Errorf("it is in %s/%d, want %s/%d", m.Topic, m.QueueID, want.Topic, want.QueueID)
	case !bytes.Equal(m.Body, want.Body):
		return fmt.Errorf("its body is %q, want %q", m.Body, want.Body)
	case m.Tags() != want.Tags() || !slices.Equal(m.Keys(), want.Keys()):
		return fmt.Errorf("its tag and keys are %q %q, want %q %q", m.Tags(), m.Keys(), want.Tags(), want.Keys())
	}
	return nil
}
