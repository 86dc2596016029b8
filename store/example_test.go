// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// Embedding a store: open, append, fetch, close.
func Example() {
	dir, err := os.MkdirTemp("", "stele")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	s, err := store.Open(dir, store.Options{FileSize: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for _, body := range []string{"one", "two"} {
		if _, err := s.Append(ctx, &message.Message{Topic: "greetings", Body: []byte(body)}); err != nil {
			log.Fatal(err)
		}
	}
	batch, err := s.Follow(ctx, "greetings", 0, 0, store.Limit{Messages: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer batch.Release()
	for m, err := range batch.All() {
		fmt.Println(m.QueueOffset, string(m.Body), err)
	}
	// Output: 0 one <nil>
}

// A consumer that works through a queue, remembers how far it came, and waits
// for what comes next.
func ExampleStore_Follow() {
	dir, err := os.MkdirTemp("", "stele")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.Options{FileSize: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	go func() {
		for i := range 3 {
			if _, err := s.Append(ctx, &message.Message{Topic: "orders", Body: fmt.Appendf(nil, "order %d", i)}); err != nil {
				log.Print(err)
			}
		}
	}()

	next, _, err := s.Offset("billing", "orders", 0) // 0 when the group is new
	for err == nil && next < 3 {
		var batch *store.Batch
		if batch, err = s.Follow(ctx, "orders", 0, next, store.Limit{}); err != nil {
			break
		}
		for m, damage := range batch.All() {
			if damage != nil {
				continue // the record can't be read any more
			}
			fmt.Println(string(m.Body))
		}
		next = batch.Next
		batch.Release()
		err = s.CommitOffset("billing", "orders", 0, next)
	}
	fmt.Println(next, err)
	// Output:
	// order 0
	// order 1
	// order 2
	// 3 <nil>
}

// With FlushSync a message is on disk when Append returns.
func ExampleStore_Append_sync() {
	dir, err := os.MkdirTemp("", "stele")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.Options{FileSize: 1 << 20, Flush: store.FlushSync})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	m := &message.Message{Topic: "payments", QueueID: 1, Body: []byte("42 EUR")}
	m.SetTags("card")
	m.SetKeys("invoice-17")
	r, err := s.Append(context.Background(), m)
	if err != nil {
		log.Fatal(err)
	}
	flushed := s.Stats().Flushed >= r.Offset+message.Offset(r.Size)
	fmt.Println(r.QueueOffset, r.ID(), flushed)
	// Output: 0 7F00000100002A9F0000000000000000 true
}
