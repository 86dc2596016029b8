// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"math"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Range is a span of store times in milliseconds, both ends within. An End of 0
// is no end.
type Range struct{ Begin, End int64 }

func (r Range) end() int64 {
	if r.End == 0 {
		return math.MaxInt64
	}
	return r.End
}

// Find yields the places of records that may have a key, newest first, until
// visit returns false: those whose key has the same hash. A record that has it
// twice comes twice. Files whose times lie outside the range are passed over, as
// RocketMQ does; of the others those entries are left out that can't lie in it,
// and the record says whether it does.
//
// The error joins a *DamageError for each chain that is damaged, and what keeps
// a file from being read; the search goes on in the next file. Find may run
// beside everything, and takes no lock. visit may read the log.
func (s *Set) Find(topic, key string, r Range, visit func(message.Offset) bool) error {
	hash := Hash(topic, key)
	var errs []error
	files := s.Files()
	more := true
	for i := len(files) - 1; i >= 0 && more; i-- {
		err := files[i].Read(func(m Image) error {
			if !m.overlaps(r) {
				return nil
			}
			return m.Chain(m.SlotOf(hash), func(k int, e Entry) bool {
				if e.Hash == hash && m.mayLie(k, e, r.Begin, r.end()) {
					more = visit(e.Offset)
				}
				return more
			})
		})
		if err != nil && !errors.Is(err, mappedfile.ErrExpired) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// overlaps reports whether the file may hold records of a range, by its header.
// Where the clock was set back while the file was filled, its end lies before
// its begin, and it may hold anything.
func (m Image) overlaps(r Range) bool {
	h := m.Header()
	return h.EndTime < h.BeginTime || h.BeginTime <= r.end() && h.EndTime >= r.Begin
}
