// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/timeindex"
	"github.com/stelelog/stele/topicmeta"
)

// Events are functions that a Store calls when something happens that no caller
// is told about. Each may be nil. They run on the goroutine that it happened
// on, some of them with a lock held: they must return soon and must not call
// the Store.
type Events struct {
	// Recovered is called by Open, before it returns.
	Recovered func(Recovery)
	// Rolled is called when the log goes on to a new file.
	Rolled func(commitlog.RollInfo)
	// PoolEmpty is called when a file has to be written through its mapping,
	// because WritePool has no free buffer.
	PoolEmpty func(commitlog.PoolInfo)
	// LockRefused is called once when memory of WritePool can't be locked.
	LockRefused func(error)
	// Flushed is called after each flush of the log.
	Flushed func(commitlog.FlushInfo)
	// Warmed is called once for each file of the log that Options.Warmup is done
	// with, and at the first refusal of each step of it: by Open for what is
	// refused from the start, without a file.
	Warmed func(commitlog.WarmInfo)
	// Damaged is called for a stretch of the log that no record could be read
	// from, on recovery and when the dispatcher meets one.
	Damaged func(*commitlog.CorruptError)
	// DamagedEntry is called for an entry of a queue that does not name its
	// message, each time that a fetch meets it. The message is searched for in
	// the log, and returned if it is found.
	DamagedEntry func(*consumequeue.EntryError)
	// DamagedTimeIndex is called for a part of the time index that can't be
	// believed: by Open, and once when a search meets one. It is searched
	// without, and filled in from the log by Open.
	DamagedTimeIndex func(*timeindex.DamageError)
	// DamagedIndex is called for each damaged place of the key index that a query
	// meets.
	DamagedIndex func(*keyindex.DamageError)
	// Skipped is called for a record that was not put in a queue, and why.
	Skipped func(off message.Offset, reason error)
	// Undelivered is called for a delayed message that is not delivered, and why:
	// it has expired, or can't be read, or makes no sense. off is the offset of its
	// record, 0 where it can't be read.
	Undelivered func(off message.Offset, reason error)
	// Stalled is called when the dispatcher can't go on, or the metadata can't be
	// written, for want of space, and with nil when that goes on.
	Stalled func(error)
	// Expired is called for each file of the log that the retention removed, or
	// tried to, with the reason.
	Expired func(Expired)
	// ExpireFailed is called when the retention could not do all that it meant
	// to; the next pass tries again.
	ExpireFailed func(error)
	// Refused is called when appends are refused because the disk is used above
	// RetentionOptions.Policy.RefuseAt, and with nil when they are taken again.
	Refused func(error)
	// SlowAppend is called by an append that waited for Options.SlowAppend or
	// longer, before it returns. It holds no lock.
	SlowAppend func(SlowAppend)
	// Poisoned is called once, with what every later append returns.
	Poisoned func(error)
}

// RecoveryKind says in what state a directory was found.
type RecoveryKind uint8

const (
	// NewStore is a directory that held nothing.
	NewStore RecoveryKind = iota
	// CleanClose is a store that was closed in order.
	CleanClose
	// ProcessKilled is a store whose process died while the kernel lived on:
	// the page cache is whole.
	ProcessKilled
	// PowerCut is a store whose kernel went down, or whose state is not known
	// better than that.
	PowerCut
	// ForeignClean and ForeignCrash are directories without Stele's marks, or
	// with marks that no longer fit: a broker's.
	ForeignClean
	ForeignCrash
)

var recoveryNames = [...]string{"new store", "clean close", "process killed", "power cut", "broker's, clean", "broker's, crashed"}

// String says it in words.
func (k RecoveryKind) String() string {
	if int(k) < len(recoveryNames) {
		return recoveryNames[k]
	}
	return fmt.Sprintf("RecoveryKind(%d)", uint8(k))
}

// Recovery is what Open found and did.
type Recovery struct {
	Kind RecoveryKind
	// From and End are the part of the log that was read, record by record.
	From, End message.Offset
	Records   int64
	// Rebuilt says that the queues did not fit the log and were fed again from
	// its start.
	Rebuilt bool
	// Unfinished are files of the log or of queues that a crash left too short,
	// and empty, while they were made. They were removed.
	Unfinished []string
	// Filled says which entries Open wrote into queues, sorted by topic and
	// queue. After a crash that is what the queues had not on disk yet; of a
	// queue whose files were gone it is all of it.
	Filled []QueueFill
	// Offsets are the progresses of groups and delay levels that were set back,
	// durably, to the end of their queue: what they had counted is gone.
	Offsets []topicmeta.CutOffset
	// Damage is what was stepped over; the records behind it are kept.
	Damage []*commitlog.CorruptError
	// Torn is why the log ends at End, when something stood there that is no
	// record: the tail that a crash left, now zeroed.
	Torn error
	// Lost is how many bytes at the end of the log, below the durable watermark
	// or what a killed process had dispatched, are not there any more; 0 unless
	// the disk or another program lost them.
	Lost int64
	Took time.Duration
}
