// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// StoreSink is a Sink that appends to a store, which must have been opened with
// store.Options.Verbatim and stays the caller's.
//
// How far a killed replay came is told by the store itself: what it holds behind the
// last mark is compared with what the source has there, message by message. Nothing
// marks the messages, and nothing is cut off.
type StoreSink struct{ Store *store.Store }

// Put implements Sink.
func (k StoreSink) Put(ctx context.Context, m *message.Message) error {
	c := *m
	c.StoreHost = netip.AddrPort{} // that of the store
	_, err := k.Store.Append(ctx, &c)
	return err
}

// Settle implements Sink. The mark is on disk.
func (k StoreSink) Settle(ctx context.Context, _ bool) (Mark, error) {
	end := k.Store.Stats().Appended // nobody else appends
	return Mark{End: int64(end)}, k.Store.Flush(ctx)
}

// Resume implements Sink.
func (k StoreSink) Resume(_ context.Context, mark *Mark, ended bool) (Tail, error) {
	if mark == nil {
		return nil, nil //nolint:nilnil // nothing was put
	}
	from, end := message.Offset(mark.End), k.Store.Stats().Appended
	if end < from {
		return nil, fmt.Errorf("%w: its log ends at %d, the replay had got it to %d", ErrTargetChanged, end, from)
	}
	if ended || end == from {
		return nil, nil //nolint:nilnil // what came since is somebody else's
	}
	log := k.Store.Log()
	return &storeTail{log.Scan(from, end, commitlog.ScanOptions{Check: message.CheckAll})}, nil
}

// storeTail is the end of a store's log.
type storeTail struct{ scan *commitlog.Scanner }

// Next implements Tail.
func (t *storeTail) Next() (*message.Message, error) {
	for t.scan.Next() {
		if it := t.scan.Item(); it.Kind == commitlog.ItemRecord {
			return it.Message, nil
		}
	}
	switch stop := t.scan.Stop(); stop.Kind {
	case commitlog.StopDamaged, commitlog.StopError:
		return nil, stop.Err
	default:
		return nil, nil //nolint:nilnil // the end
	}
}

// Close implements Tail.
func (t *storeTail) Close() { t.scan.Close() }
