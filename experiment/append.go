// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"fmt"
	"time"

	"github.com/stelelog/stele/store"
)

// AppendConfig is what Append measures. The zero value is usable.
type AppendConfig struct {
	Schedule Schedule
	// Matrix defaults to bodies of 128 and 1024 bytes, one producer, batches of
	// one, asynchronous flush, by the default write path.
	Matrix Matrix
	// Messages is how many are appended in each pass, at most. 0 means 128 MiB
	// of bodies, a million at most; with a Rate, two seconds of it.
	Messages int
	// Duration bounds a pass; 0 is no bound, and with synchronous flush a
	// second.
	Duration time.Duration
	// Rate is how many messages a second are due, of all producers together.
	// Then latencies count from the moment at which an append was due. 0 is
	// full speed.
	Rate float64
	// FileSize is the length of the log's files in bytes; 0 means one file that
	// all of a pass fits in, a GiB at most.
	FileSize int64
}

const (
	passBytes    = 128 << 20
	passMessages = 1_000_000
	rateTime     = 2 * time.Second
	syncTime     = time.Second
	// recordOverhead is a little more than what a record has beside the body.
	recordOverhead = 256
	minLogFile     = 16 << 20
)

// Append measures how fast messages are appended, and how long each takes,
// beside a loop that only copies records of the same length into a warmed
// mapping. With synchronous flush the loop is the one of Flush.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig
// where the configuration is at fault.
func Append(ctx context.Context, c AppendConfig) (*Report, error) {
	m := c.Matrix.or(Matrix{
		Sizes: []int{128, 1024}, Producers: []int{1}, Batches: []int{1},
		Flush: []store.FlushMode{store.FlushAsync},
	})
	e := &loads{matrix: m, config: c, name: "append"}
	return e.run(ctx)
}

// FlushConfig is what Flush measures. The zero value is usable.
type FlushConfig struct {
	Schedule Schedule
	// Matrix defaults to bodies of 1024 bytes, 1 and 64 producers, batches of
	// one, both flush modes, by the write path that is the default of each.
	Matrix Matrix
	// Messages is how many are appended in each pass, at most; 0 means 128 MiB
	// of bodies, a million at most.
	Messages int
	// Duration bounds a pass; 0 means a second.
	Duration time.Duration
	// FileSize is that of AppendConfig.
	FileSize int64
}

// Flush measures how fast messages become durable: in each pass the clock runs
// until all of it is on disk. Beside it a loop writes and syncs as many bytes at
// a time as the store did on average, and does nothing else.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig
// where the configuration is at fault.
func Flush(ctx context.Context, c FlushConfig) (*Report, error) {
	m := c.Matrix.or(Matrix{
		Sizes: []int{1024}, Producers: []int{1, 64}, Batches: []int{1},
		Flush: []store.FlushMode{store.FlushSync, store.FlushAsync},
	})
	if c.Duration == 0 {
		c.Duration = syncTime
	}
	e := &loads{matrix: m, name: "flush", durable: true, config: AppendConfig{
		Schedule: c.Schedule, Messages: c.Messages, Duration: c.Duration, FileSize: c.FileSize,
	}}
	return e.run(ctx)
}

func (c AppendConfig) check() error {
	switch {
	case c.Messages < 0:
		return fmt.Errorf("%w: %d messages", ErrConfig, c.Messages)
	case c.Duration < 0:
		return fmt.Errorf("%w: duration %v", ErrConfig, c.Duration)
	case !(c.Rate >= 0 && c.Rate <= 1e9): // nor is it NaN
		return fmt.Errorf("%w: rate %v, must be 0 to 1e9 messages a second", ErrConfig, c.Rate)
	case c.FileSize != 0 && (c.FileSize < store.MinFileSize || c.FileSize > store.MaxFileSize):
		return fmt.Errorf("%w: file size %d, must be %d to %d bytes", ErrConfig, c.FileSize, store.MinFileSize, store.MaxFileSize)
	}
	return nil
}

// load is what a case is measured with.
func (c AppendConfig) load(k Case) load {
	l := load{Case: k, messages: c.Messages, duration: c.Duration, rate: c.Rate}
	if l.messages == 0 {
		l.messages = min(passMessages, passBytes/max(1, k.Size))
		if c.Rate > 0 {
			l.messages = int(min(passMessages, c.Rate*rateTime.Seconds()))
		}
	}
	l.messages = max(l.messages, k.Producers*k.Batch)
	if l.duration == 0 && k.Flush == store.FlushSync {
		l.duration = syncTime
	}
	return l
}

// fileSize is that of the log's files for a load.
func (c AppendConfig) fileSize(l load) int64 {
	if c.FileSize != 0 {
		return c.FileSize
	}
	need := int64(l.messages+l.Producers*l.Batch*warmBatches) * int64(l.Size+recordOverhead)
	const mib = 1 << 20
	return min(max((need+mib-1)/mib*mib, minLogFile), store.DefaultFileSize)
}
