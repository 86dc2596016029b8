// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"time"

	"github.com/stelelog/stele/internal/wallclock"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// The defaults, which are RocketMQ's.
const (
	DefaultFileSize              = 1 << 30
	DefaultFlushInterval         = 500 * time.Millisecond
	DefaultFlushLeastPages       = 4
	DefaultFlushThoroughInterval = 10 * time.Second
)

// pageSize is the unit of FlushLeastPages: RocketMQ's OS_PAGE_SIZE, on every
// platform.
const pageSize = 4096

// Options says what a Log is made of. The zero value of each field but Dir is
// usable.
type Options struct {
	// Dir holds the files. It may be missing; the first append makes it.
	Dir string
	// FileSize is the length of each file in bytes; 0 takes that of the files
	// that are there, else DefaultFileSize. It is fixed for the life of a log.
	FileSize int64
	// Disk is the file system; nil is the operating system's.
	Disk mappedfile.Disk
	// Ours says that Stele wrote to the directory before. Then a single file
	// without a record, whose length is not whole pages, is left over from an
	// interrupted creation when FileSize does not tell.
	Ours bool
	// ReadOnly opens the log for reading and scanning and changes nothing.
	ReadOnly bool
	// Tolerant is mappedfile.Options.Tolerant: what stands in missing files is
	// damage to a scan.
	Tolerant bool
	// PropertyCRC seals each record as it is appended. The records must have
	// been encoded with it.
	PropertyCRC bool

	// WritePath is how appended bytes get into the files.
	WritePath WritePath
	// PoolBuffers is how many buffers of FileSize bytes WritePool has; 0 means
	// two, and more for small files: what fits in 64 MiB, eight at most.
	PoolBuffers int
	// CommitOnFlush leaves it to the flusher to commit, for a log whose appends
	// wait for a flush anyway; Log.Commit is for those that don't.
	CommitOnFlush bool

	// FlushInterval is how often the flusher looks for appended bytes that are
	// not flushed and that nobody waits for.
	FlushInterval time.Duration
	// FlushLeastPages is how many dirty 4 KiB pages make it flush them; below
	// that it waits for FlushThoroughInterval. Negative means any byte.
	FlushLeastPages int
	// FlushThoroughInterval is how long an appended byte stays unflushed at
	// most, in asynchronous mode.
	FlushThoroughInterval time.Duration

	// Warm says how files are warmed up ahead of appends.
	Warm WarmOptions
	// Clock tells the store time; nil is the system's clock.
	Clock func() time.Time

	// The callbacks must not call Close, which waits for those who call them.

	// OnFlush is called by the flusher after each flush.
	OnFlush func(FlushInfo)
	// OnRoll is called under the append lock when a file is full.
	OnRoll func(RollInfo)
	// OnPoolEmpty is called under the append lock when a file has to be written
	// through its mapping, because WritePool has no buffer for it.
	OnPoolEmpty func(PoolInfo)
	// OnLockRefused is called once if the memory of WritePool can't be locked.
	OnLockRefused func(error)
	// OnPoison is called once, with what every later append returns.
	OnPoison func(error)

	clock *wallclock.Clock
}

// FlushInfo says what one flush did.
type FlushInfo struct {
	From, To message.Offset
	// StoreTime is the store time of a record that the flush covered, the
	// newest that is known to be covered; 0 if none is.
	StoreTime int64
	Took      time.Duration
}

// RollInfo says that the log went on to a new file.
type RollInfo struct {
	Path   string         // of the new file
	Base   message.Offset // its first byte
	Waited bool           // the file was not ready: the append waited for it
	Took   time.Duration
}

func (o *Options) setDefaults() {
	if o.Disk == nil {
		o.Disk = mappedfile.OS()
	}
	if o.WritePath == WriteDefault {
		o.WritePath = WriteMmap
	}
	if o.FlushInterval <= 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.FlushLeastPages == 0 {
		o.FlushLeastPages = DefaultFlushLeastPages
	}
	if o.FlushThoroughInterval <= 0 {
		o.FlushThoroughInterval = DefaultFlushThoroughInterval
	}
	o.clock = wallclock.New(o.Clock)
}
