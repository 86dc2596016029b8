// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// brim is a store on a small disk that is filled again and again, with readers at
// both of its ends.
type brim struct {
	t       *testing.T
	s       *store.Store
	refused chan error
	next    int

	mu      sync.Mutex
	acked   []store.AppendResult
	expired []store.Expired
	seen    map[message.Offset]bool // by the reader at the tail
}

const brimMiB = 24

// TestFilledToTheBrim writes ten times what a disk holds, and each time fills the
// rest of it with something else: nobody crashes, appends are refused and taken
// again, and what is gone, the policy said so.
func TestFilledToTheBrim(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() || raceEnabled {
		rounds = 2
	}
	for name, mount := range smallDisks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rounds := rounds
			if name != "tmpfs" {
				rounds = min(rounds, 3) // it has a real disk below it
			}
			rig := &fullRig{t: t, mount: mount(t, brimMiB)}
			b := &brim{t: t, refused: make(chan error, 1000), seen: map[message.Offset]bool{}}
			o := store.Options{
				FileSize: 256 << 10, QueueFileSize: 20 << 10, CheckpointInterval: 20 * time.Millisecond,
				Retention: store.RetentionOptions{
					Policy:   retention.Policy{WhenFull: true, EnoughFree: -1, FilesPerPass: -1},
					Interval: 50 * time.Millisecond,
				},
			}
			o.Events.Refused = func(err error) { b.refused <- err }
			o.Events.Expired = b.note
			var err error
			b.s, err = store.Open(filepath.Join(rig.mount, "store"), o)
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			var readers sync.WaitGroup
			readers.Go(func() { b.tail(ctx) })
			readers.Go(func() { b.head(ctx) })
			for range rounds {
				b.write(brimMiB << 20)
				rig.fill(0)
				b.press()
				rig.free()
			}
			b.write(1 << 20)
			require.NoError(t, b.s.WaitDispatched(ctx, b.s.Stats().Appended))
			b.tailAtEnd()
			stop()
			readers.Wait()
			require.NoError(t, b.s.Err())
			st := b.s.Stats()
			b.mu.Lock() // files may still be expiring
			decisions := len(b.expired)
			b.mu.Unlock()
			require.Positive(t, decisions, "the disk was full, and nothing went")
			t.Logf("%d rounds: %d messages, %d MiB written, %d files expired by %d decisions, refused %d times; the reader at the tail saw %d",
				rounds, len(b.acked), st.AppendedBytes>>20, st.Retention.Files, decisions, len(b.refused)/2, len(b.seen))
			require.NoError(t, b.s.Close())

			// What is there now was there all the time: nothing runs that removes files.
			b.s, err = store.Open(filepath.Join(rig.mount, "store"), store.Options{Retention: store.RetentionOptions{Manual: true}})
			require.NoError(t, err)
			b.check()
			require.NoError(t, b.s.Close())
		})
	}
}

func (b *brim) note(e store.Expired) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expired = append(b.expired, e)
}

func (b *brim) append() error {
	const pad = 4000
	b.next++
	m := &message.Message{Topic: "orders", QueueID: 0}
	m.Body = selfProving(m.Topic, m.QueueID, fmt.Sprint(b.next), pad)
	r, err := b.s.Append(context.Background(), m)
	if err == nil {
		b.mu.Lock()
		b.acked = append(b.acked, r)
		b.mu.Unlock()
	}
	return err
}

// write appends so many bytes, and waits where appends are refused.
func (b *brim) write(bytes int64) {
	b.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for end := b.s.Stats().AppendedBytes + bytes; b.s.Stats().AppendedBytes < end; {
		err := b.append()
		if err == nil {
			continue
		}
		require.ErrorIs(b.t, err, store.ErrDiskFull)
		select {
		case <-tick.C:
		case <-patience.C:
			require.NoError(b.t, err, "appends are not taken again")
		}
	}
}

// press appends on a disk that has no byte left, until it is refused, or for so
// long that what expires must have made room each time.
func (b *brim) press() {
	b.t.Helper()
	for range 10000 {
		err := b.append()
		if err != nil {
			require.ErrorIs(b.t, err, store.ErrDiskFull)
			return
		}
	}
}

// tail follows the queue as fast as it can, and goes on at its minimum when what
// it wants has expired.
func (b *brim) tail(ctx context.Context) {
	from := message.QueueOffset(0)
	for ctx.Err() == nil {
		batch, err := b.s.Follow(ctx, "orders", 0, from, store.Limit{Messages: 100})
		var gone *consumequeue.OffsetError
		if errors.As(err, &gone) {
			from = gone.Min
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				b.t.Errorf("reader at the tail: %v", err)
			}
			return
		}
		for m, err := range batch.All() {
			if err == nil {
				_, err = proven(m)
			}
			if err != nil {
				b.t.Errorf("reader at the tail: %v", err)
				return
			}
			b.mu.Lock()
			b.seen[m.PhysicalOffset] = true
			b.mu.Unlock()
		}
		from = batch.Next
		batch.Release()
	}
}

// head holds the oldest messages until their file has expired, and reads them
// then.
func (b *brim) head(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		lo, _, err := b.s.Bounds("orders", 0)
		if err != nil { // nothing was appended yet
			<-tick.C
			continue
		}
		batch, err := b.s.Fetch(ctx, "orders", 0, lo, store.Limit{Messages: 20})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrOffsetOutOfRange) {
				b.t.Errorf("reader at the head: %v", err)
				return
			}
			continue
		}
		for range 20 {
			<-tick.C
			if now, _, err := b.s.Bounds("orders", 0); err != nil || now > lo {
				break
			}
		}
		err = mappedfile.Guard(func() error {
			for m, err := range batch.All() {
				if err == nil {
					_, err = proven(m)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.t.Errorf("reader at the head: %v", err)
		}
		batch.Release()
	}
}

// tailAtEnd waits until the reader at the tail has seen the last message.
func (b *brim) tailAtEnd() {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for {
		b.mu.Lock()
		done := b.seen[b.acked[len(b.acked)-1].Offset]
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-patience.C:
			require.Fail(b.t, "the reader at the tail does not come to the end")
		}
	}
}

// check requires that each message that was acknowledged is there, or in a file
// that an event named.
func (b *brim) check() {
	t := b.t
	b.mu.Lock()
	defer b.mu.Unlock()
	end := int64(0)
	for _, e := range b.expired {
		require.NoError(t, e.Err)
		require.Equal(t, end, e.Base, "files go in order")
		require.Equal(t, retention.ByDisk, e.Rule)
		require.Contains(t, e.Reason, "% of the disk are used, more than 85 %")
		end = e.End()
	}
	require.Positive(t, end)
	st := b.s.Stats()
	require.EqualValues(t, end, st.Min)
	require.Less(t, end, int64(st.Appended), "never the active file")
	for _, r := range b.acked {
		if int64(r.Offset) < end {
			continue // by a decision
		}
		m, err := b.s.Get(r.Offset)
		require.NoError(t, err, "acknowledged and lost: %+v", r)
		_, err = proven(m)
		require.NoError(t, err)
		require.True(t, b.seen[r.Offset], "the reader at the tail missed %+v", r)
	}
}
