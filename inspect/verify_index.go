// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// keyCheck compares the key index with the log while that is read. Entries stand
// in the order of their records, from file to file, so both are gone through side
// by side, and each is met once. The chains of one file are made anew meanwhile,
// as whoever put the entries made them: a number for each slot is all that is
// kept.
//
// An entry that does not fit is believed about its key rather by the record whose
// place it has than by its own bytes: so one damaged entry is one finding.
type keyCheck struct {
	v     *verifier
	set   *keyindex.Set
	files []*keyFile
	whole bool // Stele's own note says that the index lacks nothing

	cur     int // the file at hand
	k       int // the number of the entry at hand in it
	chunk   []keyindex.Entry
	chunkAt int     // the number of chunk[0]
	heads   []int32 // of the file at hand: by slot the newest entry of its chain
	used    int32   // how many chains that are
	own     verdict // on the entry at hand

	hashes  []int32 // of the keys of the record at hand, borrowed
	fetched int32   // nothing, but the compiler must not know
	last    message.Offset
	missing keyRun
	tail    keyRun
	repeats int64
	msg     message.Message
}

// keyFile is an index file as it was before the log was read.
type keyFile struct {
	*keyindex.File
	sizes  keyindex.Sizes
	header keyindex.Header
	n      int   // entries that are there
	begin  int64 // the time from which entries count, ms
	gone   bool  // the owner expired it
	// What the first and the last entry say, by their records.
	first, final message.Offset
	finalTime    int64 // 0 when it is not known
	findings     int
}

// keyRun is a sequence of records whose keys the index lacks.
type keyRun struct {
	keys, records int64
	first         Finding
	last          message.Offset
}

// verdict is what the record that an entry names says about it.
type verdict int

const (
	notAsked verdict = iota
	ownRecord
	noRecord
	unknown // the record has expired, or is damaged, which is told of the log
)

// maxKeyFindings bounds the findings of one index file: one of noise has millions.
const maxKeyFindings = 1000

// keyChunk is how many entries are copied at a time.
const keyChunk = 4096

// begin makes the first file the one at hand, or the next one.
func (x *keyCheck) begin() {
	x.k, x.used, x.chunk, x.own = 1, 0, x.chunk[:0], notAsked
	if x.cur >= len(x.files) {
		x.heads = nil
		return
	}
	s := x.files[x.cur]
	if cap(x.heads) < s.sizes.Slots {
		x.heads = make([]int32, s.sizes.Slots)
	}
	x.heads = x.heads[:s.sizes.Slots]
	clear(x.heads)
}

// peek returns the entry at hand; ok is false behind the last one.
func (x *keyCheck) peek() (e keyindex.Entry, ok bool, err error) {
	for x.cur < len(x.files) {
		if i := x.k - x.chunkAt; i < len(x.chunk) && len(x.chunk) > 0 {
			return x.chunk[i], true, nil
		}
		s := x.files[x.cur]
		if x.k <= s.n {
			if err := x.fill(s); err != nil {
				return e, false, err
			}
			continue
		}
		if err := x.finish(s); err != nil {
			return e, false, err
		}
		x.cur++
		x.begin()
	}
	return e, false, nil
}

// fill copies the entries from the one at hand on.
func (x *keyCheck) fill(s *keyFile) error {
	if x.v.ctx.Err() != nil {
		return x.v.ctx.Err()
	}
	x.chunk, x.chunkAt = x.chunk[:0], x.k
	err := s.Read(func(m keyindex.Image) error {
		for k := x.k; k <= min(s.n, x.k+keyChunk-1); k++ {
			x.chunk = append(x.chunk, m.Entry(k))
		}
		return nil
	})
	if expired(err) {
		s.n, s.gone, err = x.k-1, true, nil
		x.chunk = x.chunk[:0]
	}
	return unreadable(err)
}

// fetch reads what is known of the slots of some hashes. The reads depend on
// nothing, so the processor waits for many at a time, where chain would wait for
// each.
func (x *keyCheck) fetch(hashes []int32) {
	if len(x.heads) == 0 {
		return
	}
	n := uint32(len(x.heads))
	for _, h := range hashes {
		x.fetched += x.heads[uint32(h)%n]
	}
}

// follow goes over the entries at hand while they are those of a record, by all that
// take looks at, and returns how many of its keys that were.
func (x *keyCheck) follow(r *sighting, hashes []int32) (n int) {
	if x.cur >= len(x.files) || x.own != notAsked {
		return 0
	}
	s := x.files[x.cur]
	seconds := keyindex.Seconds(s.begin, r.stored)
	for n < len(hashes) {
		i := x.k - x.chunkAt
		if x.k == 1 || x.k == s.n || i >= len(x.chunk) {
			break // take has more to say of the first and the last one
		}
		e, hash := &x.chunk[i], hashes[n]
		if e.Offset != r.offset || e.Hash != hash || e.Seconds != seconds && r.stored > 0 {
			break
		}
		head := &x.heads[uint32(hash)%uint32(len(x.heads))]
		if e.Prev != *head {
			break
		}
		if *head == 0 {
			x.used++
		}
		*head = int32(x.k)
		x.last = max(x.last, r.offset)
		x.k++
		n++
	}
	return n
}

// record looks the keys of a record up from the one of number i on. It is given the
// hashes of all of them.
func (x *keyCheck) record(m *message.Message, hashes []int32, i int) error {
	x.hashes = hashes
	lacking := 0
	for i < len(x.hashes) {
		e, ok, err := x.peek()
		if err != nil {
			return err
		}
		if !ok {
			x.tail.add(x.v, m, len(x.hashes)-i)
			break
		}
		if e.Offset == m.PhysicalOffset && e.Hash == x.hashes[i] {
			err = x.take(e, e.Hash, m)
			i++
		} else {
			var lacks bool
			if lacks, i, err = x.differs(e, m, i); lacks {
				lacking++
			}
		}
		if err != nil {
			return err
		}
	}
	if lacking > 0 {
		x.missing.add(x.v, m, lacking)
	} else if len(x.hashes) > 0 && x.missing.keys > 0 {
		return x.endRun()
	}
	return nil
}

// differs is for an entry that is not the one of key i of a record. It returns
// which key is next, and whether the index lacks this one.
func (x *keyCheck) differs(e keyindex.Entry, m *message.Message, i int) (lacks bool, next int, err error) {
	want := x.hashes[i]
	if e.Offset == m.PhysicalOffset {
		for _, h := range x.hashes[i+1:] {
			if h == e.Hash {
				return true, i + 1, nil
			}
		}
		err = x.entry(KindIndexHash, m, fmt.Sprintf("it has hash %#x, the key of its record has %#x", uint32(e.Hash), uint32(want)))
		if err == nil {
			err = x.take(e, want, m)
		}
		return false, i + 1, err
	}
	switch x.ask(e) {
	case ownRecord:
		if e.Offset > m.PhysicalOffset {
			return true, i + 1, nil
		}
		return false, i, x.extra(e)
	case unknown:
		if e.Hash != want {
			return false, i, x.take(e, e.Hash, nil)
		}
	}
	// Nothing speaks for it but its place, and that is this record's.
	detail := fmt.Sprintf("it names offset %d, where no record has a key of its hash %#x; here the record at %d belongs, with %#x",
		e.Offset, uint32(e.Hash), m.PhysicalOffset, uint32(want))
	if e.Hash == want {
		detail = fmt.Sprintf("it names offset %d, the record of its key is at %d", e.Offset, m.PhysicalOffset)
	}
	if err := x.entry(KindIndexRecord, m, detail); err != nil {
		return false, i, err
	}
	return false, i + 1, x.take(e, want, m)
}

// ask looks at the record that the entry at hand names.
func (x *keyCheck) ask(e keyindex.Entry) verdict {
	if x.own != notAsked {
		return x.own
	}
	x.own = noRecord
	if e.Offset < x.v.log.Min() || x.v.damaged(e.Offset) {
		x.own = unknown
		return x.own
	}
	err := x.v.records.readAt(e.Offset, &x.msg)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, mappedfile.ErrExpired) {
		x.own = unknown
		return x.own
	}
	if err == nil {
		for _, h := range keyindex.AppendHashes(nil, &x.msg) {
			if h == e.Hash {
				x.own = ownRecord
			}
		}
	}
	return x.own
}

// extra is for an entry of a record that has its entries already.
func (x *keyCheck) extra(e keyindex.Entry) error {
	if e.Offset == x.last {
		x.repeats++ // RocketMQ dispatches the last record once more
	} else if err := x.entry(KindIndexRecord, &x.msg, fmt.Sprintf("it names the record at %d, behind entries of the one at %d", e.Offset, x.last)); err != nil {
		return err
	}
	return x.take(e, e.Hash, nil)
}

// take goes on behind the entry at hand, which has a hash by right. m is its
// record, nil when that is not known.
func (x *keyCheck) take(e keyindex.Entry, hash int32, m *message.Message) error {
	s := x.files[x.cur]
	off, stored := e.Offset, int64(0)
	if m != nil {
		off, stored = m.PhysicalOffset, m.StoreTimestamp
	}
	x.last = max(x.last, off)
	if x.k == 1 {
		s.first = off
		if stored > 0 && stored != s.begin {
			if err := x.header(s, false, fmt.Sprintf("it begins with time %d, the record of its first entry is of %d", s.begin, stored)); err != nil {
				return err
			}
			s.begin = stored
		}
	}
	if x.k == s.n {
		s.final, s.finalTime = off, stored
	}
	// The first entry counts from the end of the file before, which may be gone.
	if want := keyindex.Seconds(s.begin, stored); stored > 0 && x.k > 1 && e.Seconds != want {
		if err := x.entry(KindIndexTime, m, fmt.Sprintf("it says %d s after the file's begin, its record is of %d s", e.Seconds, want)); err != nil {
			return err
		}
	}
	return x.chain(e, hash)
}
