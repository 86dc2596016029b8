// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// The program of README.md: internal/tidy keeps the two equal.
func Example_readme() {
	dir, err := os.MkdirTemp("", "stele-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := errors.Join(embed(context.Background(), dir), os.RemoveAll(dir)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// orders/3/0: two boxes of tea
}

func embed(ctx context.Context, dir string) (err error) {
	s, err := store.Open(dir, store.Options{Flush: store.FlushSync, FileSize: 64 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	m := &message.Message{Topic: "orders", QueueID: 3, Body: []byte("two boxes of tea")}
	at, err := s.Append(ctx, m) // it is on disk when this returns
	if err != nil {
		return err
	}
	batch, err := s.Follow(ctx, "orders", 3, at.QueueOffset, store.Limit{})
	if err != nil {
		return err
	}
	defer batch.Release() // until then the bytes are the file's own pages
	for m, err := range batch.All() {
		if err != nil {
			return err
		}
		fmt.Printf("%s/%d/%d: %s\n", m.Topic, m.QueueID, m.QueueOffset, m.Body)
	}
	return nil
}
