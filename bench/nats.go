// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var natsPeer = peer{
	name: "nats-jetstream", module: "github.com/nats-io/nats-server/v2",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "the server in this process, a connection within it for each producer, one file stream; PublishAsync with 4096 in flight, and the clock stops when all are acknowledged: written by write(2), synced every 2 minutes. A batch is so many PublishAsync"},
		durable: {Kill: true, Power: true, Text: "SyncAlways and Publish, which waits: fsync for each message, one at a time"},
	},
	open: openNATS,
}

const (
	natsSubject  = "bench"
	natsInFlight = 4096
	natsPatience = 30 * time.Second
)

type natsServer struct {
	s      *server.Server
	mode   mode
	conns  []*nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

func openNATS(dir string, m mode) (_ engine, err error) {
	s, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: dir, DontListen: true, NoLog: true, NoSigs: true, SyncAlways: m == durable,
	})
	if err != nil {
		return nil, err
	}
	e := &natsServer{s: s, mode: m}
	defer func() {
		if err != nil {
			_ = e.close() // The first error tells more.
		}
	}()
	go s.Start() // It ends with Shutdown.
	if !s.ReadyForConnections(natsPatience) {
		return nil, errors.New("the server does not come up")
	}
	if e.js, err = e.connect(func(error) {}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	e.stream, err = e.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: natsSubject, Subjects: []string{natsSubject}, Storage: jetstream.FileStorage, AllowDirect: true,
	})
	return e, err
}

// connect returns a connection of its own; failed is told of each message that
// was not stored.
func (e *natsServer) connect(failed func(error)) (jetstream.JetStream, error) {
	c, err := nats.Connect("", nats.InProcessServer(e.s))
	if err != nil {
		return nil, err
	}
	e.conns = append(e.conns, c)
	return jetstream.New(c, jetstream.WithPublishAsyncMaxPending(natsInFlight),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { failed(err) }))
}

func (e *natsServer) close() error {
	for _, c := range e.conns {
		c.Close()
	}
	e.s.Shutdown()
	e.s.WaitForShutdown()
	return nil
}

func (e *natsServer) appender(int) (appender, error) {
	a := &natsAppender{mode: e.mode}
	var err error
	a.js, err = e.connect(a.fail)
	return a, err
}

type natsAppender struct {
	js   jetstream.JetStream
	mode mode

	mu     sync.Mutex
	failed error // the first message that was not stored
}

func (a *natsAppender) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		a.failed = err
	}
}

func (a *natsAppender) append(body []byte) error {
	if a.mode == durable {
		_, err := a.js.Publish(context.Background(), natsSubject, body)
		return err
	}
	_, err := a.js.PublishAsync(natsSubject, body, jetstream.WithStallWait(natsPatience))
	return err
}

func (a *natsAppender) appendBatch(bodies [][]byte) error {
	for _, body := range bodies {
		if err := a.append(body); err != nil {
			return err
		}
	}
	return nil
}

func (a *natsAppender) settle() error {
	select {
	case <-a.js.PublishAsyncComplete():
	case <-time.After(natsPatience):
		return fmt.Errorf("%d messages are not acknowledged", a.js.PublishAsyncPending())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

func (e *natsServer) scan(visit func([]byte) bool) error {
	n, err := e.count()
	if err != nil {
		return err
	}
	c, err := e.js.OrderedConsumer(context.Background(), natsSubject, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(natsInFlight))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range n {
		m, err := messages.Next()
		if err != nil || !visit(m.Data()) {
			return err
		}
	}
	return nil
}

func (e *natsServer) pick(i int64) ([]byte, error) {
	m, err := e.stream.GetMsg(context.Background(), uint64(i)+1)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (e *natsServer) count() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	info, err := e.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return int64(info.State.LastSeq), nil
}
