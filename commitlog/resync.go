// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"bytes"

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

// resync looks for the next intact record behind pos: in the rest of the file,
// then in each later one. It returns pos when there is none.
func (s *Scanner) resync() (int64, error) {
	from := s.pos + 1
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
	return s.pos, nil
}

// search returns the position of the first intact record that begins in
// [from, to) of the file that v holds, or -1. It releases v.
func (s *Scanner) search(v mappedfile.View, from, to int64) int64 {
	defer v.Release()
	f, data := v.File(), v.Bytes()
	base := f.Base()
	at := from
	for {
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
