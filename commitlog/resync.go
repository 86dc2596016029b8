// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"bytes"
	"math"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// magicPrefix is what the magic numbers of both record versions begin with.
var magicPrefix = []byte{0xDA, 0xA3, 0x20}

// magicAt is where the magic number stands in a record.
const magicAt = 4

// searchStep is how much is searched before the file system is asked again
// where the next data is. So of a hole no more than this is read, and a page of
// a hole that is read costs a page of memory.
const searchStep = 1 << 20

// Seek moves to the first intact record at or behind the place where the scan
// stands, checksums and all, however old it is, and reports whether one begins
// before the end of the scan. It is for who begins in the middle of the log: what
// looks like a record may be what the body of one holds.
func (s *Scanner) Seek() (found bool, err error) {
	err = mappedfile.Guard(func() error {
		s.time = math.MinInt64
		at, err := s.find(s.pos)
		if found = err == nil && at >= 0; found {
			s.pos = at
		}
		return err
	})
	return found, err
}

// resync looks for the next intact record behind pos. It returns pos when there is
// none.
func (s *Scanner) resync() (int64, error) {
	at, err := s.find(s.pos + 1)
	if err != nil {
		return 0, err
	}
	return max(at, s.pos), nil
}

// find looks for an intact record from an offset on: in the rest of the file, then
// in each later one. It returns -1 when there is none.
func (s *Scanner) find(from int64) (int64, error) {
	for from < s.to {
		f := s.log.files.Next(from)
		if f == nil {
			break
		}
		from = max(from, f.Base())
		v, err := f.View(0, f.Size())
		if err != nil {
			return 0, s.log.noBytes(err)
		}
		at := s.search(v, from, min(s.to, f.End()))
		if at >= 0 {
			return at, nil
		}
		from = f.End()
	}
	return -1, nil
}

// search returns the position of the first intact record that begins in
// [from, to) of the file that v holds, or -1. It releases v.
func (s *Scanner) search(v mappedfile.View, from, to int64) int64 {
	defer v.Release()
	f, data := v.File(), v.Bytes()
	base := f.Base()
	at := from
	for n := 0; ; n++ {
		if n == 1 { // nothing is near
			if to = min(to, base+f.HoleAt(at-base, searchStep)); at >= to {
				return -1
			}
		}
		// The first bytes of a record's size are zeros, and may lie in the hole
		// before the data.
		at = max(at, base+f.NextData(at-base)-magicAt)
		if at >= to {
			return -1
		}
		stop := min(at+searchStep, to)
		// The magic number of a record that begins below stop ends here.
		window := data[at-base : min(stop-base+magicAt+int64(len(magicPrefix))-1, f.Size())]
		for len(window) > magicAt {
			i := bytes.Index(window[magicAt:], magicPrefix)
			if i < 0 {
				break
			}
			at += int64(i)
			if s.intact(data[at-base:], at) {
				return at
			}
			at++
			window = window[i+1:]
		}
		at = stop
	}
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
	return m.StoreTimestamp >= s.time && !s.lostEnd(&m, pos)
}
