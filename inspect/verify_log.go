// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
)

// logCheck reads the log from its first byte to its end, for Verify. Strips of it
// are read ahead by several goroutines; one that follows on the strips before it
// without a flaw is all that there is to say. Anything else is read once more by
// the walk that Messages is made of, from where it begins: damage is found, told and
// stepped over in that one place only, whatever the number of goroutines.
type logCheck struct {
	v      *verifier
	strips *strips
	slow   *commitlog.Log // the walk's own: it unmaps files on its way

	at    message.Offset // up to there all is told
	last  message.Offset // of the newest record, or -1
	empty bool           // behind it there were but zeros so far
	one   strip          // of a record that the walk met
	msg   message.Message
	begin message.Offset // of the log
	told  message.Offset // up to there progress knows
}

// readLog goes through the log.
func (v *verifier) readLog() error {
	fast, err := v.d.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = fast.Close() }() // read-only: nothing can be lost
	slow, err := v.d.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = slow.Close() }()
	for _, p := range fast.Files().Problems() {
		if err := v.damageAt(p); err != nil {
			return err
		}
	}
	begin := fast.Min()
	c := &logCheck{v: v, slow: slow, begin: begin, told: begin, at: begin, last: -1}
	c.strips = newStrips(fast, v.strip, v.keys != nil)
	defer c.strips.close()
	if err := c.run(); err != nil {
		return err
	}
	for _, q := range v.order {
		if err := v.endRun(q); err != nil {
			return err
		}
	}
	return nil
}

func (c *logCheck) run() error {
	for {
		s, err := c.strips.next(c.v.ctx, c.at)
		if err != nil || s == nil {
			return err
		}
		c.progress(s.from)
		fits, err := c.take(s)
		if err != nil {
			return err
		}
		if fits {
			continue
		}
		c.empty = false // something follows, so it is damage, or was written meanwhile
		if over, err := c.walk(s.to); over || err != nil {
			return err
		}
	}
}

// take compares the records of a strip if it begins where the one before it ended,
// and reports whether nothing else is to be said of it.
func (c *logCheck) take(s *strip) (bool, error) {
	if c.empty {
		return s.first < 0 && s.bare, nil
	}
	if s.first < 0 {
		// A record may be longer than a strip; else it is the end of the log, or damage.
		c.empty = s.bare && s.from == c.at && s.ended == commitlog.StopEmpty
		return c.empty, nil
	}
	if s.first != c.at {
		return false, nil
	}
	if err := c.records(s); err != nil {
		return false, err
	}
	c.at = s.end
	c.empty = s.bare && s.ended == commitlog.StopEmpty
	return c.empty || s.ended == commitlog.StopEnd, nil
}

// together is how many records are compared with their queues at once. Their places
// in the key index are fetched together then, which are all over the memory.
const together = 256

// records compares what was seen with the queues and the indexes.
func (c *logCheck) records(s *strip) error {
	v, hashes := c.v, s.hashes
	for from := 0; from < len(s.seen); from += together {
		some := s.seen[from:min(from+together, len(s.seen))]
		v.findEntries(some)
		if v.keys != nil {
			n := 0
			for i := range some {
				n += int(some[i].keys)
			}
			v.keys.fetch(hashes[:n])
		}
		for i := range some {
			r := &some[i]
			if err := c.record(r, hashes[:r.keys]); err != nil {
				return err
			}
			hashes = hashes[r.keys:]
		}
	}
	return nil
}

// record compares one. Almost always it is as it should be, which takes few steps.
func (c *logCheck) record(r *sighting, hashes []int32) error {
	v := c.v
	v.sum.Records++
	v.sum.Bytes += int64(r.size)
	v.clock(r)
	known := false
	m := func() *message.Message {
		if !known {
			r.message(&c.msg)
		}
		known = true
		return &c.msg
	}
	if q := r.queue; q != nil && q.run.n == 0 {
		q.found(r.queueOffset)
	} else if err := v.record(m(), r.tags); err != nil {
		return err
	}
	if v.keys != nil && len(hashes) > 0 {
		if n := v.keys.follow(r, hashes); n < len(hashes) || v.keys.missing.keys > 0 {
			if err := v.keys.record(m(), hashes, n); err != nil {
				return err
			}
		}
	}
	if v.times != nil && !v.times.check.Pass(r.offset, r.stored) {
		if err := v.times.record(m()); err != nil {
			return err
		}
	}
	c.last = r.offset
	return nil
}

// walk goes on record by record, to the first one that begins at to or behind. It
// reports whether the log ended before that.
func (c *logCheck) walk(to message.Offset) (over bool, err error) {
	over = true
	w := &walk{
		ctx: c.v.ctx, log: c.slow, match: newMatcher(Filter{}), last: c.last, to: endless,
		progress: func(int64, int64) {},
		yield: func(r Record, failure error) bool {
			if failure != nil {
				err = c.v.damageAt(failure)
				return err == nil
			}
			if r.PhysicalOffset >= to {
				c.at, over = r.PhysicalOffset, false
				return false
			}
			c.progress(r.PhysicalOffset)
			c.one.seen, c.one.hashes = c.one.seen[:0], c.one.hashes[:0]
			c.one.see(r.Message, c.v.keys != nil)
			err = c.records(&c.one)
			return err == nil
		},
	}
	if failure := w.run(c.at); failure != nil && err == nil {
		err = c.v.damageAt(failure)
	}
	return over, err
}

// progress tells who wants to know how far the log is read.
func (c *logCheck) progress(at message.Offset) {
	if at-c.told >= progressEvery {
		c.told = at
		c.v.d.progress(int64(at-c.begin), c.slow.Files().End()-int64(c.begin))
	}
}

// damageAt reports what a walk over the log met instead of a record; any other
// error it returns.
func (v *verifier) damageAt(err error) error {
	f, ok := findingOf(err)
	if !ok {
		return err
	}
	v.remember(err)
	var damage *DamageError
	if v.times != nil && errors.As(err, &damage) {
		v.times.check.Damaged()
	}
	return v.finding(&f)
}
