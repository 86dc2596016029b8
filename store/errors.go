// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Errors of Open.
var (
	// ErrNotStore is returned for a directory that holds something else.
	ErrNotStore = layout.ErrNotStore
	// ErrUnsupportedLayout is returned for a store that keeps its data in a
	// way that Stele does not read; the error names it.
	ErrUnsupportedLayout = layout.ErrUnsupported
	// ErrLocked is returned when a broker or another Store has the directory
	// open; a mappedfile.LockedError around it names the process.
	ErrLocked = mappedfile.ErrLocked
	// ErrStrayFile, ErrFileSize and ErrMissingFile are what is wrong with the
	// files of a directory; a mappedfile.FileError around them names the file.
	ErrStrayFile   = mappedfile.ErrStrayFile
	ErrFileSize    = mappedfile.ErrFileSize
	ErrMissingFile = mappedfile.ErrMissingFile
	// ErrWarmup is returned when Options.Warmup.Require asks for what the system
	// refuses; a warmup.LimitError around it has the limit and the need.
	ErrWarmup = errors.New("required warm-up refused")
	// ErrOptions is returned for options that make no sense.
	ErrOptions = errors.New("invalid options")
)

// Errors of Append and AppendBatch. None of them has written anything, but for
// ErrFlushTimeout, and ErrPoisoned with a result whose Size is not 0.
var (
	ErrEmptyTopic         = message.ErrEmptyTopic
	ErrTopicTooLong       = message.ErrTopicTooLong
	ErrTopicChars         = message.ErrTopicChars
	ErrNegativeQueue      = message.ErrNegativeQueue
	ErrBodyTooLarge       = message.ErrBodyTooLarge
	ErrPropertiesTooLarge = message.ErrPropertiesTooLarge
	ErrBadProperty        = message.ErrBadProperty
	ErrRecordTooLarge     = commitlog.ErrRecordTooLarge
	ErrBatchTooLarge      = commitlog.ErrBatchTooLarge
	// ErrInnerBatch is returned for a message whose flags say that its body is
	// a batch that the reader unwraps. Such messages live in batch consume
	// queues, which Stele does not write.
	ErrInnerBatch = consumequeue.ErrInnerBatch
	// ErrNoTopic is returned for a topic that was not declared, when
	// Options.Topics asks for that.
	ErrNoTopic = errors.New("no such topic")
	// ErrNoQueue is returned for a queue that a declared topic doesn't have,
	// and by reads of a queue that holds nothing and never did.
	ErrNoQueue = errors.New("no such queue")
	// ErrTooManyQueues is returned for a queue id above MaxQueueID.
	ErrTooManyQueues = errors.New("queue id too large")
	// ErrPermission is returned when a declared topic forbids it.
	ErrPermission = errors.New("topic does not permit it")
	// ErrDiskFull is returned when the next file, or space in it, could not be
	// had. Appends work again once there is room.
	ErrDiskFull = mappedfile.ErrDiskFull
	// ErrFlushTimeout is returned by a synchronous append when the message is
	// in the log but was not confirmed on disk in time: it may or may not be
	// durable. The result is valid.
	ErrFlushTimeout = commitlog.ErrFlushTimeout
	// ErrPoisoned is returned after a background failure, such as a failed
	// fsync: nothing is acknowledged any more, reads go on.
	ErrPoisoned = commitlog.ErrPoisoned
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store closed")
)

// Errors of reads.
var (
	// ErrOffsetOutOfRange is returned for a queue offset below the queue's
	// minimum or above its maximum; a consumequeue.OffsetError around it holds
	// both.
	ErrOffsetOutOfRange = consumequeue.ErrOffsetOutOfRange
	// ErrExpired is returned for a message whose file was removed.
	ErrExpired = commitlog.ErrExpired
	// ErrNotFound is returned for an offset in the log that holds nothing yet.
	ErrNotFound = commitlog.ErrOutOfRange
	// ErrWrongRecord marks a queue entry that points to another message than
	// the one that it stands for.
	ErrWrongRecord = errors.New("queue entry points to another message")
)
