// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"bytes"

	"github.com/stelelog/stele/message"
)

// magicPrefix is what the magic numbers of both record versions begin with.
var magicPrefix = []byte{0xDA, 0xA3, 0x20}

// magicAt is where the magic number stands in a record.
const magicAt = 4

// resync looks for the next intact record behind pos: in the rest of the file,
// then at the start of each later file. It returns pos when there is none.
func (s *Scanner) resync() (int64, error) {
	f := s.view.File()
	limit := min(s.to, f.End())
	if at := s.search(s.pos+1, limit); at > 0 {
		return at, nil
	}
	for base := f.End(); base < s.to; {
		next := s.log.files.Find(base)
		if next == nil {
			break
		}
		v, err := next.View(0, next.Size())
		if err != nil {
			return 0, err
		}
		intact := s.intact(v.Bytes(), base)
		v.Release()
		if intact {
			return base, nil
		}
		base = next.End()
	}
	return s.pos, nil
}

// search returns the position of the first intact record in [from, to) of the
// file that the view is in, or 0: no record can follow a damage at 0.
func (s *Scanner) search(from, to int64) int64 {
	f, data := s.view.File(), s.view.Bytes()
	for from < to {
		// Holes are skipped: a new file is a gigabyte of them.
		from = f.Base() + f.NextData(from-f.Base())
		if from >= to {
			return 0
		}
		i := bytes.Index(data[from-s.at:to-s.at], magicPrefix)
		if i < 0 {
			return 0
		}
		if at := from + int64(i) - magicAt; at > s.pos && s.intact(data[at-s.at:], at) {
			return at
		}
		from += int64(i) + 1
	}
	return 0
}

// intact reports whether a record begins b, checksums and all, that stands at
// pos and is no older than what came before the damage.
func (s *Scanner) intact(b []byte, pos int64) bool {
	// The position first: it is cheap, and rules out almost every candidate
	// before a length or a checksum is looked at.
	if len(b) < message.MinRecordSize || int64(message.Record(b).PhysicalOffset()) != pos {
		return false
	}
	dec := message.Decoder{Check: message.CheckAll}
	var m message.Message
	if dec.Decode(b, &m) != nil {
		return false
	}
	return m.StoreTimestamp >= s.time
}
