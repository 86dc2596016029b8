// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

// layout is how a directory is laid out, and how both sides write to it.
type layout struct {
	name                    string
	fileSize, queueFileSize int64
	slots, entries          int
	crc, sync, pool         bool
	// still is the time for Stele when a message says nothing else, in milliseconds;
	// 0 is the present.
	still int64
}

// tiny has files that roll every few messages.
var (
	tiny  = layout{name: "tiny", fileSize: 16 << 10, queueFileSize: 40 * 20, slots: 16, entries: 48}
	small = layout{name: "small", fileSize: 256 << 10, queueFileSize: 300 * 20, slots: 500, entries: 2000}
	// pooled is small with buffers between messages and files, on both sides.
	pooled = layout{name: "pooled", fileSize: 256 << 10, queueFileSize: 300 * 20, slots: 500, entries: 4000, pool: true}
	// defaults are RocketMQ's sizes.
	defaults = layout{name: "defaults"}
	// sealed is small with the property CRC, synchronously flushed.
	sealed = layout{
		name: "sealed", fileSize: 128 << 10, queueFileSize: 100 * 20, slots: 64, entries: 300, crc: true, sync: true,
	}
)

// rocket is the layout as the program in java/ wants it.
func (l layout) rocket() map[string]any {
	flush := "ASYNC_FLUSH"
	if l.sync {
		flush = "SYNC_FLUSH"
	}
	return map[string]any{
		"fileSize": l.fileSize, "queueFileSize": l.queueFileSize, "slots": l.slots, "entries": l.entries,
		"flush": flush, "propertyCRC": l.crc, "verifyPropertyCRC": l.crc, "pool": l.pool, "reservedHours": 1,
	}
}

// clock is a clock that a test sets. Otherwise it shows the present, or stands
// still.
type clock struct {
	ms    atomic.Int64
	still int64
}

func (c *clock) now() time.Time {
	if ms := c.ms.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	if c.still != 0 {
		return time.UnixMilli(c.still)
	}
	return time.Now()
}

// storeHost is that of messages that say nothing else.
var storeHost = netip.MustParseAddrPort("127.0.0.1:10911")

// stele is the layout as Stele wants it.
func (l layout) stele(c *clock) store.Options {
	o := store.Options{
		FileSize: l.fileSize, QueueFileSize: l.queueFileSize,
		Index:     store.IndexOptions{Slots: l.slots, Entries: l.entries},
		StoreHost: storeHost, PropertyCRC: store.CRCBodyOnly, Clock: c.now,
	}
	if l.crc {
		o.PropertyCRC = store.CRCWhole
	}
	if l.sync {
		o.Flush = store.FlushSync
	}
	if l.pool {
		o.WritePath = store.WritePool
	}
	return o
}

// local is a store that Stele has open.
type local struct {
	*store.Store
	t     testing.TB
	clock *clock
}

// open opens a directory with Stele.
func open(t testing.TB, dir string, l layout) *local {
	t.Helper()
	c := &clock{still: l.still}
	s, err := store.Open(dir, l.stele(c))
	require.NoError(t, err)
	o := &local{Store: s, t: t, clock: c}
	t.Cleanup(func() { _ = s.Close() }) // For tests that fail; others have closed it.
	return o
}

func (o *local) close() {
	o.t.Helper()
	require.NoError(o.t, o.Close())
}

// put appends messages one by one, and waits until all are in their queues.
func (o *local) put(specs []spec) {
	o.t.Helper()
	for _, sp := range specs {
		o.appendOne(sp)
	}
	o.clock.ms.Store(0)
	require.NoError(o.t, o.Flush(o.t.Context()))
	require.NoError(o.t, o.WaitDispatched(o.t.Context(), o.Stats().Appended))
}

// appendOne appends a message, or the messages of a batch.
func (o *local) appendOne(sp spec) {
	o.t.Helper()
	o.clock.ms.Store(sp.StoreTimestamp)
	m := sp.message(o.t)
	var err error
	if sp.Batch {
		_, err = o.AppendBatch(o.t.Context(), split(o.t, m))
	} else {
		_, err = o.Append(o.t.Context(), m)
	}
	require.NoError(o.t, err)
}
