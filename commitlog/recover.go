// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"fmt"

	"github.com/stelelog/stele/message"
)

// RecoverOptions says what is known about a log before it is looked at.
type RecoverOptions struct {
	// From is where to begin: the start of a record, or the end of the log.
	From message.Offset
	// Durable is the offset below which everything is known to have been
	// written. Damage there is damage: it is stepped over, and the records
	// behind it are kept. Damage at or above it is a torn tail: the log ends
	// there.
	Durable message.Offset
	// Whole says that the page cache outlived the process that wrote the log:
	// then all that it wrote is there, in order, and what is no record with one
	// behind it is damage wherever it lies. Zeros are still the end.
	Whole bool
	// Queued, unless it is 0, is behind the last record that some queue names,
	// in a log that RocketMQ wrote. RocketMQ leaves an old tail in place when it
	// cuts a log, and new records can end where one of the old begins. So behind
	// Queued a record that is older than the one before it by more than three
	// seconds is such a tail, and the log ends before it: ErrStale. (Below, or
	// with a smaller step, a clock that was set back is the likelier reason; a
	// broker takes longer than that to start again.)
	Queued message.Offset
	// Time is the store time of the record before From, if known.
	Time int64
	// Visit, unless it is nil, is called for each record, in order. m and r are
	// valid during the call. An error ends the recovery.
	Visit func(r message.Record, m *message.Message) error
}

// Recovery is what Recover found.
type Recovery struct {
	End      message.Offset // where the next record goes
	LastTime int64          // store time of the newest record, or RecoverOptions.Time
	Records  int64
	Damage   []*CorruptError // stretches that were stepped over
	// Stop says why the scan ended. An end below RecoverOptions.Durable is a
	// loss: what stood between can't be read any more.
	Stop Stop
}

// staleBy is by how many milliseconds a record must be older than the one before
// it to be taken for an old tail: the margin that RocketMQ itself allows its
// clock (StoreCheckpoint.getMinTimestamp).
const staleBy = 3000

// Recover finds the end of the log: it walks the records from o.From on, with
// their checksums, until nothing more is there. It changes nothing on disk.
func (l *Log) Recover(o RecoverOptions) (Recovery, error) {
	res := Recovery{End: o.From, LastTime: o.Time}
	check := message.CheckAll
	if plantedCRC.on() {
		check = message.CheckNone
	}
	s := l.Scan(o.From, message.Offset(l.files.End()), ScanOptions{Check: check, Resync: o.Durable})
	s.time, s.torn, s.o.whole = o.Time, int64(o.Durable), o.Whole
	before := o.Time
	defer s.Close()
	for s.Next() {
		it := s.Item()
		switch it.Kind {
		case ItemRecord:
			at := it.Message.StoreTimestamp
			if o.Queued > 0 && it.Offset >= o.Queued && at < before-staleBy {
				res.End = it.Offset
				res.Stop = Stop{Kind: StopDamaged, Offset: it.Offset, Err: &CorruptError{
					Path: s.view.File().Path(), Offset: it.Offset,
					Cause: fmt.Errorf("%w: stored at %d, the one before it at %d", ErrStale, at, before),
				}}
				return res, nil
			}
			before = at
			if o.Visit != nil {
				if err := o.Visit(it.Record, it.Message); err != nil {
					return res, err
				}
			}
			res.Records++
			res.LastTime = max(res.LastTime, it.Message.StoreTimestamp)
		case ItemDamage:
			res.Damage = append(res.Damage, it.Err)
		case ItemFiller:
		}
	}
	res.Stop = s.Stop()
	if res.Stop.Kind == StopError {
		return res, res.Stop.Err
	}
	res.End = res.Stop.Offset
	return res, nil
}
