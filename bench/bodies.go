// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// bodies are the messages of one producer: random bytes, so that nothing can
// compress them, cut from a pool without overlapping. Each begins with its
// producer and number, so no two are the same and a reader can tell what must
// follow. The pool is beside the Go heap, so that the heap is the engine's.
type bodies struct {
	pool     []byte
	size     int
	slots    int64
	producer int64
	next     int64
	batch    [][]byte
}

const (
	// poolBytes is more than the window of any compression that a peer uses.
	poolBytes = 8 << 20
	poolsAll  = 32 << 20 // of all producers together
	stamp     = 16       // bytes at the beginning of a message
)

func newBodies(producer, producers, size int) (*bodies, error) {
	length := min(poolBytes, poolsAll/producers)
	pool, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for messages: %w", err)
	}
	random := rand.NewChaCha8([32]byte{byte(producer), byte(producer >> 8), 1})
	_, _ = random.Read(pool) // It never fails.
	return &bodies{pool: pool, size: size, slots: int64(length / size), producer: int64(producer)}, nil
}

// one returns the next message. It is valid for as many calls as there are slots.
func (b *bodies) one() []byte {
	at := int(b.next%b.slots) * b.size
	body := b.pool[at : at+b.size : at+b.size]
	binary.LittleEndian.PutUint64(body, uint64(b.producer))
	binary.LittleEndian.PutUint64(body[8:], uint64(b.next))
	b.next++
	return body
}

// some returns the next n messages.
func (b *bodies) some(n int) [][]byte {
	b.batch = b.batch[:0]
	for range n {
		b.batch = append(b.batch, b.one())
	}
	return b.batch
}

// producerOf returns whose message it is, and its number.
func producerOf(body []byte) (producer, number int64) {
	if len(body) < stamp {
		return -1, -1
	}
	return int64(binary.LittleEndian.Uint64(body)), int64(binary.LittleEndian.Uint64(body[8:]))
}

// check reports an error unless body is message number i.
func (b *bodies) check(i int64, body []byte) error {
	if producer, number := producerOf(body); producer != b.producer || number != i {
		return fmt.Errorf("message %d of producer %d is there instead of message %d of producer %d", number, producer, i, b.producer)
	}
	at := int(i%b.slots) * b.size
	if !bytes.Equal(body[stamp:], b.pool[at+stamp:at+b.size]) {
		return fmt.Errorf("message %d of producer %d has other bytes", i, b.producer)
	}
	return nil
}

func (b *bodies) free() error { return unix.Munmap(b.pool) }
