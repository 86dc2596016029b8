// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Kind says what a Finding is about.
type Kind string

// The kinds of findings. The first five are about the log and its files, those
// of entries about the queues.
const (
	KindRecord     Kind = "record"         // bytes in the log that are no intact record or filler
	KindDuplicate  Kind = "duplicate"      // a record whose place in its queue another one has
	KindUnqueued   Kind = "unqueued"       // records that their queue does not have
	KindFile       Kind = "file"           // a missing or stray file, or one of a wrong length
	KindCheckpoint Kind = "checkpoint"     // the checkpoint contradicts the log
	KindDangling   Kind = "entry-dangling" // an entry that points behind the end of the log
	KindNoRecord   Kind = "entry-record"   // an entry that points to no intact record
	KindWrong      Kind = "entry-wrong"    // an entry that points to another message's record
	KindSize       Kind = "entry-size"     // an entry with another size than its record
	KindTag        Kind = "entry-tag"      // an entry with another tag hash than its record
	KindHole       Kind = "entry-hole"     // an entry that was never filled

	// About the key index. A missing key is told of its record, in the log.
	KindIndexMissing Kind = "index-missing" // keys of records that the index does not have
	KindIndexHeader  Kind = "index-header"  // a header that the entries contradict
	KindIndexSlot    Kind = "index-slot"    // a slot that does not name the newest entry of its chain
	KindIndexChain   Kind = "index-chain"   // an entry that does not name the one before it in its chain
	KindIndexHash    Kind = "index-hash"    // an entry with another hash than its record's key
	KindIndexRecord  Kind = "index-record"  // an entry that names no record with such a key
	KindIndexTime    Kind = "index-time"    // an entry with another time than its record
	KindIndexEntry   Kind = "index-entry"   // entries as a whole

	KindTimeIndex Kind = "time-index" // an entry of Stele's time index that does not fit its record
)

// Finding is one thing that is wrong with a store, or that is worth a Note.
type Finding struct {
	Kind Kind
	// Note says that it is no damage: what a kill leaves behind by design, or a
	// clock that was set back.
	Note bool
	// File is the file that it is in; "" when there is none.
	File string
	// Offset is the physical offset in the log for a finding in the log, and the
	// position in the file in bytes for any other; -1 when there is none.
	Offset int64
	// Detail says what was expected and what was found.
	Detail string
	// Topic, QueueID and QueueOffset are set if Queued.
	Queued      bool
	Topic       string
	QueueID     int32
	QueueOffset message.QueueOffset
}

// AppendJSON appends the finding as a JSON object with the fields kind, file,
// offset, detail, topic, queueId and queueOffset; what does not apply is null.
func (f *Finding) AppendJSON(dst []byte) []byte {
	dst = appendText(append(dst, `{"kind":`...), string(f.Kind))
	dst = append(dst, `,"file":`...)
	if f.File == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendText(dst, f.File)
	}
	dst = append(dst, `,"offset":`...)
	if f.Offset < 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, f.Offset, 10)
	}
	dst = appendText(append(dst, `,"detail":`...), f.Detail)
	if !f.Queued {
		return append(dst, `,"topic":null,"queueId":null,"queueOffset":null}`...)
	}
	dst = appendText(append(dst, `,"topic":`...), f.Topic)
	dst = strconv.AppendInt(append(dst, `,"queueId":`...), int64(f.QueueID), 10)
	dst = strconv.AppendInt(append(dst, `,"queueOffset":`...), int64(f.QueueOffset), 10)
	return append(dst, '}')
}

// findingOf turns an error that is about the store into a Finding, and reports
// whether it is one.
func findingOf(err error) (Finding, bool) {
	var damage *DamageError
	var corrupt *commitlog.CorruptError
	var file *mappedfile.FileError
	switch {
	case errors.As(err, &damage):
		return Finding{Kind: KindRecord, File: damage.Corrupt.Path, Offset: int64(damage.Corrupt.Offset), Detail: damage.detail()}, true
	case errors.As(err, &corrupt):
		return Finding{Kind: KindRecord, File: corrupt.Path, Offset: int64(corrupt.Offset), Detail: corrupt.Cause.Error()}, true
	case errors.As(err, &file):
		return Finding{Kind: KindFile, File: file.Path, Offset: -1, Detail: file.Error()}, true
	}
	return Finding{}, false
}

// detail is the error without the place.
func (e *DamageError) detail() string {
	if e.Skipped == 0 {
		return e.Corrupt.Cause.Error() + "; no intact record follows"
	}
	return e.Corrupt.Cause.Error() + "; " + strconv.FormatInt(e.Skipped, 10) + " bytes skipped, the next intact record is at offset " +
		strconv.FormatInt(int64(e.Corrupt.Offset)+e.Skipped, 10)
}
