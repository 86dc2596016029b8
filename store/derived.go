// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
)

// derived is what the dispatcher feeds from the log beside the queues: an index,
// which can be lost and made again. Open registers each in Store.derived before
// the recovery. All but close is called by whoever dispatches: by Open, then by
// the dispatcher's goroutine; flush by the checkpointer, beside put, and expire
// by the goroutine of the retention, beside both.
type derived interface {
	// recover makes it ready to be fed from offset from on: it forgets what it
	// knows of records there and beyond, which are fed again or are gone. It
	// returns the offset from which it must be fed: from, or a smaller one when
	// it lacks something before that. What has no need to be whole returns
	// from. It is called again, with the log's first byte, when the queues turn
	// out not to fit the log.
	recover(from message.Offset) (message.Offset, error)
	// put takes one record, whatever its kind; records come in the order of the
	// log. m and what it holds are valid until put returns. After an error that
	// wraps ErrDiskFull the same record comes again, once there is space; any
	// other one poisons the store.
	put(m *message.Message) error
	// flush makes durable what was put before the call, the first time also what
	// a killed owner before this one may have left in the page cache. A
	// checkpoint, from which a power cut is recovered, is written afterwards.
	flush() error
	// expire gives up what speaks only of records below offset min, where the log
	// begins from now on; what it keeps of them must not be found any more. It
	// is called when files of the log are gone, durably, by the goroutine that
	// expires them: beside put and flush and whoever reads. It may be called
	// again with the same min. What an error leaves is given up the next time.
	expire(min message.Offset) error
	// close releases everything; nothing else is called afterwards. What was
	// put since the last flush need not become durable.
	close() error
}

// feed hands a record to all that is derived from the log. What an attempt
// before this one has done for the record is not done again.
func (d *dispatcher) feed(m *message.Message) error {
	for d.fed < len(d.s.derived) {
		if err := d.s.derived[d.fed].put(m); err != nil {
			return err
		}
		d.fed++
	}
	d.fed = 0
	return nil
}

// recoverDerived makes everything derived ready for records from offset from on,
// and feeds it what it lacks below that.
func (s *Store) recoverDerived(from message.Offset) error {
	for _, x := range s.derived {
		at, err := x.recover(from)
		if err != nil {
			return err
		}
		if err := s.catchUp(x, max(at, s.log.Min()), from); err != nil {
			return err
		}
	}
	return nil
}

// catchUp feeds one derived thing the records of [at, to). Damage in between was
// reported when it was found, or is when somebody reads it.
func (s *Store) catchUp(x derived, at, to message.Offset) error {
	if at >= to {
		return nil
	}
	s.o.Logger.Info("feeding an index from the log", "from", at, "to", to)
	sc := s.log.Scan(at, to, commitlog.ScanOptions{Resync: commitlog.ResyncAlways})
	defer sc.Close()
	for sc.Next() {
		if it := sc.Item(); it.Kind == commitlog.ItemRecord {
			if err := x.put(it.Message); err != nil {
				return err
			}
		}
	}
	if st := sc.Stop(); st.Kind == commitlog.StopError {
		return fmt.Errorf("feeding an index from offset %d: %w", st.Offset, st.Err)
	}
	return nil
}

func (s *Store) flushDerived() error {
	var errs []error
	for _, x := range s.derived {
		errs = append(errs, x.flush())
	}
	return errors.Join(errs...)
}

func (s *Store) closeDerived() error {
	var errs []error
	for _, x := range s.derived {
		errs = append(errs, x.close())
	}
	return errors.Join(errs...)
}
