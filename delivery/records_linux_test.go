// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/message"
)

// mapRecords makes a file of n records of rising length, back to back, and maps it.
// at says where each begins, and in the end where the last one ends.
func mapRecords(t testing.TB, n int) (src *delivery.Source, at []int64) {
	t.Helper()
	var data []byte
	e := message.Encoder{PropertyCRC: true}
	for i := range n {
		at = append(at, int64(len(data)))
		from := len(data)
		var err error
		data, err = e.Append(data, &message.Message{Topic: "orders", QueueID: 3, Body: []byte(strings.Repeat("b", i))})
		require.NoError(t, err)
		r := message.Record(data[from:])
		r.Patch(message.Offset(from), message.QueueOffset(i), 1700000000000)
		r.Seal()
	}
	return mapBytes(t, data, 0), append(at, int64(len(data)))
}

// requireRecords decodes what a peer got, holds every checksum, and requires that
// it is those records, in that order.
func requireRecords(t testing.TB, data []byte, want []int) {
	t.Helper()
	dec := message.Decoder{Check: message.CheckAll}
	for _, i := range want {
		size, _, err := message.Peek(data)
		require.NoError(t, err, "record %d", i)
		var m message.Message
		require.NoError(t, dec.Decode(data[:size], &m), "record %d", i)
		require.EqualValues(t, i, m.QueueOffset)
		data = data[size:]
	}
	require.Empty(t, data)
}

// TestRecordsEveryWay sends records each way to each kind of connection, through a
// send buffer that takes a few KiB at a time, and checks every one at the reader.
// That buffer has each way make more calls than it would need.
func TestRecordsEveryWay(t *testing.T) {
	t.Parallel()
	const records = 800
	src, at := mapRecords(t, records)
	shapes := map[string][]int{"all": nil, "every third": nil}
	for i := range records {
		shapes["all"] = append(shapes["all"], i)
		if i%3 == 0 {
			shapes["every third"] = append(shapes["every third"], i)
		}
	}
	copies := []delivery.Method{delivery.Auto, delivery.Copy, delivery.ReadWrite}
	every := append([]delivery.Method{delivery.Sendfile, delivery.Splice, delivery.Writev, delivery.Write}, copies...)
	for _, c := range []struct {
		name    string
		dial    network
		methods []delivery.Method
		socket  bool
	}{
		{"tcp", listen("tcp"), every, true},
		{"unix", listen("unix"), every, true},
		{"wrapper", wrapped, copies, false},
		{"tls", overTLS, copies, false},
	} {
		for _, m := range c.methods {
			for shape, want := range shapes {
				t.Run(c.name+"/"+m.String()+"/"+shape, func(t *testing.T) {
					t.Parallel()
					var runs []delivery.Run
					for _, i := range want {
						runs = delivery.Append(runs, src, at[i], at[i+1])
					}
					var s delivery.Sender
					here, there := c.dial(t)
					got := readAll(there)
					n, err := s.Send(t.Context(), here, runs, m)
					require.NoError(t, err)
					require.Equal(t, delivery.Len(runs), n)
					require.NoError(t, here.Close())
					requireRecords(t, <-got, want)
					if c.socket {
						pieces, buffers := int64(len(runs)), (n+256*kib-1)/(256*kib)
						least := map[delivery.Method]int64{
							delivery.Sendfile: pieces, delivery.Splice: 2 * pieces, delivery.Write: pieces, delivery.Writev: 1,
							delivery.Copy: buffers, delivery.ReadWrite: pieces + buffers, delivery.Auto: 1,
						}[m]
						require.Greater(t, s.Stats().Calls(), least, "nothing was written in part")
					}
				})
			}
		}
	}
}

// TestSendfileTouchesNothing sends a mapping that must not be touched: bytes that
// came by way of the process would be a fault.
func TestSendfileTouchesNothing(t *testing.T) {
	t.Parallel()
	src, at := mapRecords(t, 800)
	require.NoError(t, unix.Mprotect(src.Data, unix.PROT_NONE))
	for _, name := range []string{"tcp", "unix"} {
		s := delivery.Sender{Guard: guard}
		here, there := listen(name)(t)
		got := readAll(there)
		n, err := s.Send(t.Context(), here, delivery.Append(nil, src, 0, at[800]), delivery.Auto)
		require.NoError(t, err)
		require.Equal(t, at[800], n)
		require.NoError(t, here.Close())
		var all []int
		for i := range 800 {
			all = append(all, i)
		}
		requireRecords(t, <-got, all)
		require.Equal(t, n, s.Stats().Of(delivery.Sendfile).Bytes)
		require.Zero(t, s.Stats().Of(delivery.ReadWrite).Calls)
	}
}

// TestOneSender has one Sender serve several peers at once, one of which has gone.
func TestOneSender(t *testing.T) {
	t.Parallel()
	const records, sends = 300, 5
	methods := []delivery.Method{delivery.Sendfile, delivery.Copy, delivery.Writev, delivery.Splice, delivery.ReadWrite, delivery.Auto}
	src, at := mapRecords(t, records)
	s := delivery.Sender{Guard: guard}
	var running sync.WaitGroup
	type peer struct {
		got  <-chan []byte
		want []int
	}
	var peers []peer
	for i, m := range methods {
		var runs []delivery.Run
		var p peer
		for range sends {
			for j := i; j < records; j += i + 1 {
				p.want = append(p.want, j)
			}
		}
		for _, j := range p.want[:len(p.want)/sends] {
			runs = delivery.Append(runs, src, at[j], at[j+1])
		}
		here, there := listen([]string{"tcp", "unix"}[i%2])(t)
		p.got = readAll(there)
		peers = append(peers, p)
		running.Go(func() { sendTimes(t, &s, here, runs, m, sends) })
	}
	here, there := listen("tcp")(t)
	require.NoError(t, there.Close())
	running.Go(func() {
		for range sends {
			if _, err := s.Send(t.Context(), here, delivery.Append(nil, src, 0, at[records]), delivery.Copy); err == nil {
				t.Error("sent to nobody")
			}
		}
	})
	running.Wait()
	for _, p := range peers {
		requireRecords(t, <-p.got, p.want)
	}
	require.Equal(t, int64(sends*(len(methods)+1)), s.Stats().Sends)
	require.Equal(t, int64(sends), s.Stats().Failed)
}

func sendTimes(t *testing.T, s *delivery.Sender, here net.Conn, runs []delivery.Run, m delivery.Method, times int) {
	for i := range times {
		n, err := s.Send(t.Context(), here, runs, m)
		if err != nil || n != delivery.Len(runs) {
			t.Error(fmt.Errorf("%v, send %d: %d bytes: %w", m, i, n, err))
		}
	}
	if err := here.Close(); err != nil {
		t.Error(err)
	}
}
