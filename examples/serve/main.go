// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Command serve is an example: a program that embeds a store serves one queue over TCP with
// Batch.WriteTo, and its client decodes what comes.
//
//	go run ./examples/serve -listen 127.0.0.1:9876 DIR TOPIC QUEUE
//	go run ./examples/serve -connect 127.0.0.1:9876
//
// The client sends eight bytes, the offset to begin at. The server sends records as
// they lie in the log, for ever: each begins with its own length, so that there are
// no frames. What is on disk is the store's; a client that goes away leaves nothing.
// Each connection is one goroutine, which ends with it; closing the store ends all.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

func main() {
	listen := flag.String("listen", "", "serve the queue TOPIC QUEUE of the store DIR at this address")
	connect := flag.String("connect", "", "print what the server at this address sends")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *connect, flag.Args()); err != nil && ctx.Err() == nil {
		_, _ = fmt.Fprintln(os.Stderr, "serve:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, listen, connect string, args []string) error {
	switch {
	case connect != "":
		c, err := new(net.Dialer).DialContext(ctx, "tcp", connect)
		if err != nil {
			return err
		}
		return printAll(ctx, c, os.Stdout)
	case listen == "" || len(args) != 3:
		return errors.New("want -connect ADDRESS, or -listen ADDRESS DIR TOPIC QUEUE")
	}
	queue, err := strconv.ParseInt(args[2], 10, 32)
	if err != nil {
		return err
	}
	s, err := store.Open(args[0], store.Options{MustExist: true})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return errors.Join(serve(ctx, l, s, args[1], int32(queue)), s.Close())
}

// serve serves a queue to whoever connects, until ctx ends. It closes l.
func serve(ctx context.Context, l net.Listener, s *store.Store, topic string, queue int32) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // ends Accept
	ctx, cancel := context.WithCancel(ctx)
	var consumers sync.WaitGroup
	defer consumers.Wait()
	defer cancel()
	for {
		c, err := l.Accept()
		if err != nil {
			return errors.Join(err, ignoreClosed(l.Close()))
		}
		consumers.Go(func() {
			defer func() { _ = c.Close() }()
			// The consumer's error is its own: it comes again and says where from.
			_ = follow(ctx, c, s, topic, queue)
		})
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// patience is how long a consumer may read nothing before it is given up.
const patience = 30 * time.Second

// follow sends a queue to one consumer, and waits for more of it.
func follow(ctx context.Context, c net.Conn, s *store.Store, topic string, queue int32) error {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // ends a read and a write
	var from [8]byte
	if _, err := io.ReadFull(c, from[:]); err != nil {
		return err
	}
	for next := message.QueueOffset(binary.BigEndian.Uint64(from[:])); ; {
		b, err := s.Follow(ctx, topic, queue, next, store.Limit{})
		if err != nil {
			return err
		}
		err = c.SetWriteDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = b.SendTo(ctx, c) // by sendfile, gathered, or copied: what is cheapest
		}
		next = b.Next
		b.Release()
		if err != nil {
			return err
		}
	}
}

// printAll asks a server for its queue from the beginning and prints the messages.
func printAll(ctx context.Context, c net.Conn, out io.Writer) error {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := c.Write(make([]byte, 8)); err != nil {
		return err
	}
	dec := message.Decoder{Check: message.CheckAll} // the server did not look at the checksums
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		var record [4]byte
		if _, err := io.ReadFull(in, record[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := binary.BigEndian.Uint32(record[:])
		if size < message.MinRecordSize || size > store.DefaultMaxBodyLen+1<<20 {
			return fmt.Errorf("a record of %d bytes", size)
		}
		data := make([]byte, size)
		copy(data, record[:])
		if _, err := io.ReadFull(in, data[len(record):]); err != nil {
			return err
		}
		var m message.Message
		if err := dec.Decode(data, &m); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s/%d/%d: %s\n", m.Topic, m.QueueID, m.QueueOffset, m.Body); err != nil {
			return err
		}
	}
}
