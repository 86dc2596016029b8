// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/wallclock"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// FlushMode says when an append returns.
type FlushMode uint8

const (
	// FlushAsync returns once the message is in the log's memory: it survives
	// the death of the process, and a power cut only once it was flushed, which
	// is FlushInterval later, FlushThoroughInterval at the latest.
	FlushAsync FlushMode = iota
	// FlushSync returns once the message is on disk. Appends that wait at the
	// same time share one flush.
	FlushSync
)

// String returns "async" or "sync".
func (m FlushMode) String() string {
	switch m {
	case FlushAsync:
		return "async"
	case FlushSync:
		return "sync"
	}
	return fmt.Sprintf("FlushMode(%d)", uint8(m))
}

// TopicPolicy says which topics an append may name.
type TopicPolicy uint8

const (
	// TopicsOpen lets an append name any topic and queue. A topic that was
	// declared with PutTopic is held to its number of queues and permissions.
	TopicsOpen TopicPolicy = iota
	// TopicsDeclared refuses topics that were not declared.
	TopicsDeclared
)

// Defaults of Options, RocketMQ's where it has them.
const (
	DefaultFileSize           = commitlog.DefaultFileSize
	DefaultFlushTimeout       = 5 * time.Second
	DefaultCheckpointInterval = 5 * time.Second
	DefaultOffsetInterval     = time.Second
	DefaultMaxBodyLen         = message.DefaultMaxBodyLen

	// MinFileSize is the smallest FileSize.
	MinFileSize = 4096
	// MaxFileSize is the largest FileSize and QueueFileSize: the format has 31
	// bits for the length of the filler that closes a file.
	MaxFileSize = math.MaxInt32
	// MaxQueueID is the largest queue id of an undeclared topic.
	MaxQueueID = 1<<16 - 1
)

// Options says how a Store works. The zero value is usable: asynchronous flush,
// files of RocketMQ's sizes, both checksums, any topic. Options hold for one
// opening, but for the sizes, which are a property of the directory.
type Options struct {
	// MustExist makes Open refuse a directory that is missing or empty,
	// instead of making a new store there.
	MustExist bool
	// FileSize is the length of a commit log file in bytes: for a new store,
	// 0 means DefaultFileSize; for an existing one, 0 takes what is there, and
	// anything else must agree with it.
	FileSize int64
	// QueueFileSize is the same for consume queue files; it is rounded up to a
	// multiple of 20. 0 means 6,000,000.
	QueueFileSize int64

	// Flush says when an append returns.
	Flush FlushMode
	// WritePath is how a message gets into the log's files. The bytes there are
	// the same for each, and a directory may be opened with another one each time.
	// The zero value is DefaultWritePath: the mapping, or with FlushSync the file.
	WritePath WritePath
	// PoolBuffers is how many buffers of FileSize bytes WritePool has. They are
	// locked in memory, as far as the limit allows. 0 means two, and more for
	// small files: what fits in 64 MiB, eight at most.
	PoolBuffers int
	// FlushTimeout bounds the wait of a synchronous append; 0 means
	// DefaultFlushTimeout, negative no bound.
	FlushTimeout time.Duration
	// FlushInterval, FlushLeastPages and FlushThoroughInterval are those of
	// commitlog.Options.
	FlushInterval         time.Duration
	FlushLeastPages       int
	FlushThoroughInterval time.Duration
	// CheckpointInterval is how often the queues are flushed and the point is
	// recorded from which a recovery after a power cut starts. 0 means
	// DefaultCheckpointInterval.
	CheckpointInterval time.Duration
	// OffsetInterval is how often consumer offsets are made durable; 0 means
	// DefaultOffsetInterval. A crash loses what was committed since.
	OffsetInterval time.Duration

	// Warmup says which pages are made present ahead of appends.
	Warmup WarmupOptions

	// SlowAppend is how long an append must have waited to be told to
	// Events.SlowAppend. 0 means DefaultSlowAppend, negative never.
	SlowAppend time.Duration

	// MaxBodyLen is the longest body in bytes; 0 means DefaultMaxBodyLen.
	MaxBodyLen int
	// PropertyCRC says whether records carry the checksum that covers header,
	// topic and properties too. On unless it is CRCBodyOnly. RocketMQ reads
	// both.
	PropertyCRC CRCMode
	// Index says how the key index is made.
	Index IndexOptions
	// Topics says which topics an append may name.
	Topics TopicPolicy
	// Verbatim makes appends store each message as it is given, for a copy of what
	// another log holds: properties that ask for a delay are kept and not heeded,
	// the topics in which messages wait are topics like any others, and a
	// BornTimestamp of 0 stays 0. Nothing is delivered while the store is open,
	// as with Delay.Off.
	Verbatim bool
	// StoreHost is stored with each message that names no host of its own, and
	// is part of message ids. The zero value means 127.0.0.1:10911.
	StoreHost netip.AddrPort

	// Retention says which files of the log expire, and when appends are
	// refused because the disk is nearly full.
	Retention RetentionOptions
	// Delay says how messages are delivered later.
	Delay DelayOptions

	// TimeIndex is about the index that OffsetAt searches.
	TimeIndex TimeIndexOptions

	// Logger gets what Events gets, in words; nil is silence.
	Logger *slog.Logger
	// Events are told what happens in the background.
	Events Events
	// Clock tells store times; nil is the system's clock.
	Clock func() time.Time

	// Disk and MetaFS replace the file system in tests: MetaFS is Pebble's.
	Disk   mappedfile.Disk
	MetaFS vfs.FS

	clock *wallclock.Clock // Clock, for appends
}

// CRCMode says which checksums a new record carries.
type CRCMode uint8

const (
	// CRCWhole covers the body, and with a second checksum the whole record.
	CRCWhole CRCMode = iota
	// CRCBodyOnly covers the body, as RocketMQ does by default.
	CRCBodyOnly
)

var defaultStoreHost = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 10911)

// withDefaults fills in what is zero and reports everything that is wrong.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
	}
	if o.FileSize != 0 && o.FileSize < MinFileSize {
		bad("FileSize %d, at least %d bytes", o.FileSize, MinFileSize)
	}
	if o.FileSize > MaxFileSize {
		bad("FileSize %d, at most %d bytes", o.FileSize, MaxFileSize)
	}
	if o.QueueFileSize < 0 || o.QueueFileSize > MaxFileSize {
		bad("QueueFileSize %d, between 0 and %d bytes", o.QueueFileSize, MaxFileSize)
	}
	if o.MaxBodyLen < 0 {
		bad("MaxBodyLen %d", o.MaxBodyLen)
	}
	if o.Flush > FlushSync {
		bad("Flush %d", o.Flush)
	}
	if !o.WritePath.Known() {
		bad("WritePath %d", o.WritePath)
	}
	if o.PoolBuffers < 0 {
		bad("PoolBuffers %d", o.PoolBuffers)
	}
	if o.Topics > TopicsDeclared {
		bad("Topics %d", o.Topics)
	}
	if o.PropertyCRC > CRCBodyOnly {
		bad("PropertyCRC %d", o.PropertyCRC)
	}
	o.setDurations(bad)
	if err := o.Index.check(); err != nil {
		bad("Index: %v", err)
	}
	if o.WritePath == WriteDefault {
		o.WritePath = DefaultWritePath(o.Flush, o.Warmup)
	}
	var err error
	if o.Warmup, err = o.Warmup.withDefaults(o.WritePath); err != nil {
		errs = append(errs, err)
	}
	o.Retention.check(bad)
	o.TimeIndex.check(bad)
	o.Delay.withDefaults(bad)
	o.Delay.Off = o.Delay.Off || o.Verbatim
	if o.FlushTimeout == 0 {
		o.FlushTimeout = DefaultFlushTimeout
	}
	o.FlushTimeout = max(o.FlushTimeout, 0)
	if o.SlowAppend == 0 {
		o.SlowAppend = DefaultSlowAppend
	}
	if !o.StoreHost.IsValid() {
		o.StoreHost = defaultStoreHost
	}
	if o.Disk == nil {
		o.Disk = mappedfile.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.clock = wallclock.New(o.Clock)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o, errors.Join(errs...)
}

// setDurations is withDefaults for what is done by the clock.
func (o *Options) setDurations(bad func(format string, args ...any)) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"FlushInterval", &o.FlushInterval, commitlog.DefaultFlushInterval},
		{"FlushThoroughInterval", &o.FlushThoroughInterval, commitlog.DefaultFlushThoroughInterval},
		{"CheckpointInterval", &o.CheckpointInterval, DefaultCheckpointInterval},
		{"OffsetInterval", &o.OffsetInterval, DefaultOffsetInterval},
	} {
		if *d.value < 0 {
			bad("%s %v", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
}
