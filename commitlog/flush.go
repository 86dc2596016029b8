// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/stelelog/stele/internal/watermark"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// WaitFlushed returns once everything below end is durable: group commit. The
// flusher takes everything that was appended by the time it begins, so appends
// that wait together share one sync.
//
// It returns ErrFlushTimeout after timeout (0 waits without end) and the cause
// of ctx; both mean that the record is in the log and may or may not be
// durable. It returns ErrPoisoned once a flush failed.
func (l *Log) WaitFlushed(ctx context.Context, end message.Offset, timeout time.Duration) error {
	if l.flushed.Load() >= int64(end) {
		return nil
	}
	l.KickFlush()
	err := l.flushed.Wait(ctx, int64(end), timeout)
	if errors.Is(err, watermark.ErrTimeout) {
		return fmt.Errorf("%w (%v)", ErrFlushTimeout, timeout)
	}
	return err
}

// KickFlush makes the flusher flush what is appended now, without waiting.
func (l *Log) KickFlush() {
	select {
	case l.kick <- struct{}{}:
	default: // it is about to, and will see what was appended before this
	}
}

// Flush makes everything durable that was appended before the call.
func (l *Log) Flush(ctx context.Context) error {
	return l.WaitFlushed(ctx, l.Appended(), 0)
}

// flushLoop is the flusher, the one goroutine that flushes while the log is
// open. It ends with a last flush when the log is closed.
func (l *Log) flushLoop() {
	tick := time.NewTicker(l.o.FlushInterval)
	defer tick.Stop()
	thorough := time.Now()
	for {
		select {
		case <-l.quit:
			_ = l.flushAll() // Close returns it: it has poisoned the log
			return
		case <-l.kick:
			l.gather()
			_ = l.flushAll() // whoever waits gets it
		case <-tick.C:
			due := time.Since(thorough) >= l.o.FlushThoroughInterval
			if l.dirtyPages() < int64(l.o.FlushLeastPages) && !due {
				continue
			}
			_ = l.flushAll() // the next append gets it
			thorough = time.Now()
		}
	}
}

// gather lets those append whom the last flush woke. Without it the first of
// them would get a sync of its own and all others would wait for that: every
// other sync would carry one record. It goes on while records come in, a few
// times at most: a sync costs hundreds of times as much as this does.
func (l *Log) gather() {
	const most = 8
	end := l.appended.Load()
	for range most {
		runtime.Gosched()
		now := l.appended.Load()
		if now == end {
			return
		}
		end = now
	}
}

// dirtyPages is RocketMQ's count: whole pages between flushed and appended.
func (l *Log) dirtyPages() int64 {
	return l.appended.Load()/pageSize - l.flushed.Load()/pageSize
}

// flushAll commits and flushes what is appended. Only the flusher calls it.
func (l *Log) flushAll() error {
	if err := l.Err(); err != nil {
		return err
	}
	storeTime := l.lastTime.Load() // before the watermark, see publish
	if err := l.commit(l.appended.Load()); err != nil {
		return err
	}
	from, to := l.flushed.Load(), l.committed.Load()
	if from >= to {
		return nil
	}
	start := time.Now()
	if from < l.again {
		err := mappedfile.Guard(func() error { return l.files.Redirty(from, min(to, l.again)) })
		if err != nil {
			return l.poison(err)
		}
	}
	if plantedAck.on() {
		l.flushed.Advance(to)
	}
	l.flushing.Add(1)
	err := l.files.Flush(from, to)
	l.flushing.Add(1)
	if err != nil {
		return l.poison(err)
	}
	l.flushed.Advance(to)
	if l.o.OnFlush != nil {
		l.o.OnFlush(FlushInfo{
			From: message.Offset(from), To: message.Offset(to), StoreTime: storeTime, Took: time.Since(start),
		})
	}
	return nil
}
