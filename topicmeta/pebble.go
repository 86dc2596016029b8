// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// formatMajorVersion is Pebble's own on-disk version, pinned so that an update
// of the library never changes a directory by itself. It is the newest one of
// Pebble 2.1.
const formatMajorVersion = pebble.FormatValueSeparation

// The database is small (a broker's topics and offsets are a few megabytes) and
// lives beside an engine that wants the memory and the descriptors for itself.
const (
	memTableSize = 1 << 20
	cacheSize    = 1 << 20 // only read while the database is opened, and by compactions
	maxOpenFiles = 64
	tableSize    = 1 << 20
	manifestSize = 1 << 20
)

// pebbleOptions are the options of a database whose failures go to fail.
func pebbleOptions(f *fuse, log *slog.Logger, fail func(error)) *pebble.Options {
	o := &pebble.Options{
		FS:                          f,
		ReadOnly:                    f.readOnly,
		FormatMajorVersion:          formatMajorVersion,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 16,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000, // a commit never waits for a compaction
		LBaseMaxBytes:               8 * tableSize,
		CacheSize:                   cacheSize,
		MaxOpenFiles:                maxOpenFiles,
		MaxManifestFileSize:         manifestSize,
		DisableTableStats:           true,
		Logger:                      pebbleLog{log, fail},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { fail(fmt.Errorf("background: %w", err)) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				fail(fmt.Errorf("%w: %s: %w", ErrCorrupt, i.Path, i.Details))
			},
		},
	}
	o.TargetFileSizes[0] = tableSize
	o.Experimental.FileCacheShards = 1
	o.Experimental.ReadSamplingMultiplier = -1 // no compactions because of reads
	o.Experimental.CompactionScheduler = &compactions{allowed: func() bool { return !f.blown.Load() }}
	return o
}

// pebbleLog takes Pebble's log. Pebble ends the process in Fatalf by default;
// here the Store fails instead, and the caller of Sync learns why.
type pebbleLog struct {
	log  *slog.Logger
	fail func(error)
}

func (l pebbleLog) Infof(format string, args ...any) { l.print(slog.LevelDebug, format, args) }

func (l pebbleLog) Errorf(format string, args ...any) { l.print(slog.LevelWarn, format, args) }

func (l pebbleLog) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf("pebble: %s", fmt.Sprintf(format, args...)))
}

func (l pebbleLog) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, args...))
	}
}

// compactions lets one compaction run at a time. Pebble's own scheduler does
// the same with a ticker of 100 ms; this one has no goroutine, and grants
// nothing once the Store has failed, since Pebble starts a compaction that
// failed again at once.
type compactions struct {
	allowed func() bool
	db      pebble.DBForCompaction

	mu       sync.Mutex
	running  bool
	refused  bool // TrySchedule said no, so Pebble waits to be called
	closed   bool
	granting sync.WaitGroup // calls into db under way
}

var (
	_ pebble.CompactionScheduler   = (*compactions)(nil)
	_ pebble.CompactionGrantHandle = (*compactions)(nil)
)

func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

func (c *compactions) Unregister() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.granting.Wait()
}

func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.running || !c.allowed() {
		c.refused = true
		return false, nil
	}
	c.running = true
	return true, c
}

// Done ends a compaction and starts the one that waits, if any.
func (c *compactions) Done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.granting.Add(1)
	defer c.granting.Done()
	for !c.closed && c.allowed() {
		c.refused = false
		c.mu.Unlock() // the database's locks come before this one
		waiting, _ := c.db.GetWaitingCompaction()
		accepted := waiting && c.db.Schedule(c)
		c.mu.Lock()
		if accepted {
			return // still running, and its Done will call
		}
		if !c.refused { // else one began to wait in between
			break
		}
	}
	c.running = false
}

func (*compactions) UpdateGetAllowedWithoutPermission()                {}
func (*compactions) Started()                                          {}
func (*compactions) MeasureCPU(pebble.CompactionGoroutineKind)         {}
func (*compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}
