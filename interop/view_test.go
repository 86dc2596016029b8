// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// row is a message as one side reads it, with every field of its record.
type row struct {
	Topic                     string
	QueueID                   int32
	QueueOffset               int64
	PhysicalOffset            int64
	Size                      int32
	Flag                      int32
	SysFlag                   int32
	BodyCRC                   uint32
	BornTimestamp             int64
	BornHost                  netip.AddrPort
	StoreTimestamp            int64
	StoreHost                 netip.AddrPort
	ReconsumeTimes            int32
	PreparedTransactionOffset int64
	Body                      []byte
	Plain                     []byte // Body, decompressed
	Properties                map[string]string
	MsgID                     string
}

// entry is where in its queue a message is, and what its entry says.
type entry struct {
	At, Offset int64
	Size       int32
	TagsCode   int64
}

// queueName names a queue.
type queueName struct {
	Topic string
	ID    int32
}

// queueView is a queue as one side reads it.
type queueView struct {
	Min, Max int64
	Entries  []entry
	Rows     []row
}

// view is all that one side reads from a directory.
type view struct {
	Min, Max int64 // of the log
	Queues   map[queueName]*queueView
	// Log has every message of the log, those that are in no queue too.
	Log []row
}

// rocketRow is a row, or a queue, or a failure, as the program in java/ writes it.
type rocketRow struct {
	row
	BornHost, StoreHost rocketHost

	Queue       bool
	Min, Max    int64
	Next        int64
	At          int64
	EntryOffset int64
	EntrySize   int32
	TagsCode    int64
	Status      string
}

type rocketHost struct{ netip.AddrPort }

func (h *rocketHost) UnmarshalText(text []byte) error {
	addr, port, _ := strings.Cut(string(text), ":")
	raw, err := base64.StdEncoding.DecodeString(addr)
	if err != nil {
		return err
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return fmt.Errorf("no address: %q", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	h.AddrPort = netip.AddrPortFrom(ip, uint16(n))
	return err
}

func (r rocketRow) asRow() row {
	out := r.row
	out.BornHost, out.StoreHost = r.BornHost.AddrPort, r.StoreHost.AddrPort
	return out
}

// view reads everything with RocketMQ. The log is read at the given places.
func (r *remote) view(log []int64) *view {
	r.t.Helper()
	return r.viewFrom(log, false)
}

// viewFrom is view that passes over blank entries: those at the start of a queue,
// and the first one of a file of zeros, which RocketMQ takes for an entry.
func (r *remote) viewFrom(log []int64, skipBlank bool) *view {
	r.t.Helper()
	v := &view{Queues: map[queueName]*queueView{}}
	var q *queueView
	var answer struct{ Min, Max int64 }
	r.call(&answer, map[string]any{"op": "dump", "skipBlank": skipBlank}, func(line []byte) error {
		var got rocketRow
		if err := json.Unmarshal(line, &got); err != nil {
			return err
		}
		switch {
		case got.Queue:
			if got.Next != got.Max {
				return fmt.Errorf("%s/%d: the next offset is %d, the end of the queue %d", got.Topic, got.QueueID, got.Next, got.Max)
			}
			q = &queueView{Min: got.Min, Max: got.Max}
			v.Queues[queueName{got.Topic, got.QueueID}] = q
		case got.Status == "BLANK" && skipBlank:
		case got.Status != "":
			return fmt.Errorf("%s/%d at %d: %s", got.Topic, got.QueueID, got.At, got.Status)
		default:
			q.Entries = append(q.Entries, entry{got.At, got.EntryOffset, got.EntrySize, got.TagsCode})
			q.Rows = append(q.Rows, got.asRow())
		}
		return nil
	})
	v.Min, v.Max = answer.Min, answer.Max
	var found struct{ Messages []*rocketRow }
	r.call(&found, map[string]any{"op": "look", "offsets": log}, nil)
	for i, m := range found.Messages {
		require.NotNil(r.t, m, "RocketMQ finds no message at %d", log[i])
		v.Log = append(v.Log, m.asRow())
	}
	return v
}

// view reads everything with Stele.
func (o *local) view() *view {
	o.t.Helper()
	stats := o.Stats()
	v := &view{Min: int64(stats.Min), Max: int64(stats.Committed), Queues: map[queueName]*queueView{}}
	dir, err := inspect.Open(o.Dir(), inspect.Options{})
	require.NoError(o.t, err)
	for _, q := range o.Queues() {
		v.Queues[queueName{q.Topic, q.QueueID}] = o.queue(dir, q)
	}
	for rec, err := range dir.Messages(o.t.Context(), inspect.Filter{}) {
		if o.passOver(err) {
			continue
		}
		m, err := o.Get(rec.PhysicalOffset)
		require.NoError(o.t, err)
		v.Log = append(v.Log, asRow(o.t, m))
	}
	return v
}

func (o *local) queue(dir *inspect.Dir, q store.QueueInfo) *queueView {
	o.t.Helper()
	v := &queueView{Min: int64(q.Min), Max: int64(q.Max)}
	for at := q.Min; at < q.Max; {
		batch, err := o.Fetch(o.t.Context(), q.Topic, q.QueueID, at, store.Limit{})
		require.NoError(o.t, err)
		for m, err := range batch.All() {
			if o.passOver(err) {
				continue
			}
			v.Rows = append(v.Rows, asRow(o.t, m.Clone()))
		}
		at = batch.Next
		batch.Release()
	}
	for e, err := range dir.Queue(o.t.Context(), q.Topic, q.QueueID, inspect.QueueRange{From: q.Min}) {
		require.NoError(o.t, err)
		if o.passOver(e.Err) || e.Message == nil && len(o.Stats().Recovery.Damage) > 0 {
			continue // A blank entry stands for a message that is lost.
		}
		v.Entries = append(v.Entries, entry{int64(e.At), int64(e.Offset), e.Size, e.TagsCode})
	}
	return v
}

// passOver says that err is about damage which the recovery has reported; there
// must be no other error.
func (o *local) passOver(err error) bool {
	o.t.Helper()
	if len(o.Stats().Recovery.Damage) == 0 {
		require.NoError(o.t, err)
	}
	return err != nil
}

func asRow(t testing.TB, m *message.Message) row {
	t.Helper()
	plain, err := m.PlainBody(0)
	require.NoError(t, err)
	return row{
		Topic: m.Topic, QueueID: m.QueueID, QueueOffset: int64(m.QueueOffset), PhysicalOffset: int64(m.PhysicalOffset),
		Size: m.Size, Flag: m.Flag, SysFlag: int32(m.SysFlag), BodyCRC: m.BodyCRC, BornTimestamp: m.BornTimestamp,
		BornHost: m.BornHost, StoreTimestamp: m.StoreTimestamp, StoreHost: m.StoreHost, ReconsumeTimes: m.ReconsumeTimes,
		PreparedTransactionOffset: int64(m.PreparedTransactionOffset), Body: append([]byte{}, m.Body...),
		Plain: append([]byte{}, plain...), Properties: maps.Collect(m.Properties.All()), MsgID: m.ID(),
	}
}

// offsets are the places of all messages of the log.
func (v *view) offsets() []int64 {
	all := make([]int64, 0, len(v.Log))
	for _, r := range v.Log {
		all = append(all, r.PhysicalOffset)
	}
	return all
}

// names are the names of all queues, sorted. What is left of a queue all of whose
// messages were lost is a directory, which RocketMQ takes for a queue.
func (v *view) names() []queueName {
	queues := maps.Clone(v.Queues)
	maps.DeleteFunc(queues, func(_ queueName, q *queueView) bool { return q.Max == 0 })
	return slices.SortedFunc(maps.Keys(queues), func(a, b queueName) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.ID) - int(b.ID)
	})
}

// requireSame holds what both sides read equal.
func requireSame(t testing.TB, want, got *view) {
	t.Helper()
	require.Equal(t, [2]int64{want.Min, want.Max}, [2]int64{got.Min, got.Max}, "bounds of the log")
	require.Equal(t, want.names(), got.names())
	for name, w := range want.Queues {
		g := got.Queues[name]
		require.Equal(t, [2]int64{w.Min, w.Max}, [2]int64{g.Min, g.Max}, "bounds of %v", name)
		require.Equal(t, w.Entries, g.Entries, "entries of %v", name)
		requireRows(t, w.Rows, g.Rows)
	}
	requireRows(t, want.Log, got.Log)
}

func requireRows(t testing.TB, want, got []row) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i], got[i])
	}
}

// requireAsked holds the messages of the log to what was asked for, one for one.
func requireAsked(t testing.TB, asked []spec, got []row) {
	t.Helper()
	want := expand(t, asked)
	require.Len(t, got, len(want))
	for i, s := range want {
		m := s.message(t)
		r := got[i]
		properties := maps.Clone(r.Properties)
		delete(properties, message.PropertyCRC32)
		require.Equal(t, maps.Collect(m.Properties.All()), properties, "message %d", i)
		const hostBits = int32(message.BornHostV6 | message.StoreHostV6)
		require.Equal(t, spec{
			Topic: s.Topic, QueueID: s.QueueID, Flag: s.Flag, SysFlag: s.SysFlag &^ hostBits,
			BornTimestamp: s.BornTimestamp, BornHost: m.BornHost.String(), StoreHost: m.StoreHost.String(),
			ReconsumeTimes: s.ReconsumeTimes, PreparedTransactionOffset: s.PreparedTransactionOffset,
			Body: append([]byte{}, s.Body...), StoreTimestamp: s.StoreTimestamp,
		}, spec{
			Topic: r.Topic, QueueID: r.QueueID, Flag: r.Flag, SysFlag: r.SysFlag &^ hostBits,
			BornTimestamp: r.BornTimestamp, BornHost: r.BornHost.String(), StoreHost: r.StoreHost.String(),
			ReconsumeTimes: r.ReconsumeTimes, PreparedTransactionOffset: r.PreparedTransactionOffset,
			Body: r.Body, StoreTimestamp: r.StoreTimestamp,
		}, "message %d", i)
	}
}

// expand puts in place of each batch its messages.
func expand(t testing.TB, specs []spec) (all []spec) {
	t.Helper()
	for _, s := range specs {
		if !s.Batch {
			all = append(all, s)
			continue
		}
		for _, m := range split(t, s.message(t)) {
			e := s
			e.Batch, e.Flag, e.Body, e.Properties = false, m.Flag, m.Body, m.Properties.Encoded()
			all = append(all, e)
		}
	}
	return all
}

// count is how many messages that are.
func count(t testing.TB, specs []spec) int { return len(expand(t, specs)) }

// forever is an end of a query that no message reaches.
const forever = int64(1) << 60

// key is one that a message of a topic has.
type key struct{ topic, key string }

func (v *view) keys() []key {
	all := map[key]bool{}
	for _, r := range v.Log {
		if unique := r.Properties[message.PropertyUniqKey]; unique != "" {
			all[key{r.Topic, unique}] = true
		}
		for word := range strings.FieldsSeq(r.Properties[message.PropertyKeys]) {
			all[key{r.Topic, word}] = true
		}
		all[key{r.Topic, "nobody-has-this"}] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b key) int {
		return strings.Compare(a.topic+"#"+a.key, b.topic+"#"+b.key)
	})
}

// query asks RocketMQ for the places of the messages with a key.
func (r *remote) query(k key) []int64 {
	r.t.Helper()
	var answer struct{ Offsets []int64 }
	r.call(&answer, map[string]any{
		"op": "query", "topic": k.topic, "key": k.key, "max": store.DefaultQueryMessages, "begin": 0, "end": forever,
	}, nil)
	slices.Sort(answer.Offsets)
	return append([]int64{}, answer.Offsets...)
}

func (o *local) query(k key) []int64 {
	o.t.Helper()
	found, err := o.Query(o.t.Context(), k.topic, k.key, store.QueryOptions{})
	require.NoError(o.t, err)
	offsets := []int64{}
	for _, m := range found {
		offsets = append(offsets, int64(m.PhysicalOffset))
	}
	slices.Sort(offsets)
	return offsets
}

// queries are the answers to all queries.
func queries(v *view, ask func(key) []int64) map[key][]int64 {
	all := map[key][]int64{}
	for _, k := range v.keys() {
		all[k] = ask(k)
	}
	return all
}

// times are the moments around each message of a queue.
func (q *queueView) times() []int64 {
	all := []int64{firstTime - 10_000}
	for _, r := range q.Rows {
		all = append(all, r.StoreTimestamp-1, r.StoreTimestamp, r.StoreTimestamp+1)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// found are the answers to searches in one queue by time.
type found struct{ Lower, Upper []int64 }

func (r *remote) times(name queueName, times []int64) (f found) {
	r.t.Helper()
	r.call(&f, map[string]any{"op": "times", "topic": name.Topic, "queueId": name.ID, "times": times}, nil)
	return f
}

func (o *local) times(name queueName, times []int64) (f found) {
	o.t.Helper()
	for _, ms := range times {
		lower, err := o.OffsetByTime(name.Topic, name.ID, time.UnixMilli(ms), consumequeue.Lower)
		require.NoError(o.t, err)
		upper, err := o.OffsetByTime(name.Topic, name.ID, time.UnixMilli(ms), consumequeue.Upper)
		require.NoError(o.t, err)
		f.Lower, f.Upper = append(f.Lower, int64(lower)), append(f.Upper, int64(upper))
	}
	return f
}

// answers is everything that one side can be asked about a directory.
type answers struct {
	view    *view
	queries map[key][]int64
	times   map[queueName]found
}

func (o *local) answers() answers {
	o.t.Helper()
	a := answers{view: o.view(), times: map[queueName]found{}}
	a.queries = queries(a.view, o.query)
	for name, q := range a.view.Queues {
		a.times[name] = o.times(name, q.times())
	}
	return a
}

// answers asks RocketMQ what Stele was asked.
func (r *remote) answers(asked answers) answers {
	r.t.Helper()
	a := answers{view: r.view(asked.view.offsets()), times: map[queueName]found{}}
	a.queries = queries(asked.view, r.query)
	for name, q := range asked.view.Queues {
		a.times[name] = r.times(name, q.times())
	}
	return a
}

// requireSameAnswers holds the answers of both sides equal.
func requireSameAnswers(t testing.TB, stele, rocket answers) {
	t.Helper()
	requireSame(t, stele.view, rocket.view)
	for k, want := range stele.queries {
		require.Equal(t, want, rocket.queries[k], "messages with key %v", k)
	}
	for name, want := range stele.times {
		times := stele.view.Queues[name].times()
		for i, ms := range times {
			require.Equal(t, want.Lower[i], rocket.times[name].Lower[i], "%v: first at or after %d", name, ms)
			require.Equal(t, want.Upper[i], rocket.times[name].Upper[i], "%v: last at or before %d", name, ms)
		}
	}
}
