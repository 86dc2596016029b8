// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"errors"
	"fmt"
	"math"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// ItemKind says what a Scanner came upon.
type ItemKind uint8

const (
	// ItemRecord is a record whose lengths, position and checksums hold.
	ItemRecord ItemKind = iota + 1
	// ItemFiller closes a file; the next item is in the next file.
	ItemFiller
	// ItemDamage is a stretch that is no record, with a record behind it.
	ItemDamage
)

// ScanItem is one thing in the log. Record and Message are set for an ItemRecord;
// they alias the file and are valid until the next call of Next or Close.
type ScanItem struct {
	Kind    ItemKind
	Offset  message.Offset
	Size    int64 // bytes, up to the next item
	Record  message.Record
	Message *message.Message
	Err     *CorruptError // for ItemDamage
}

// StopKind says why a scan ended.
type StopKind uint8

const (
	// StopEnd is the end that the scan was given, or the end of the last file.
	StopEnd StopKind = iota + 1
	// StopEmpty is a place where nothing was written: the end of the log, as
	// far as the files can tell.
	StopEmpty
	// StopDamaged is a place that holds something, but no intact record; what
	// is behind it was not looked at, or holds no intact record either.
	StopDamaged
	// StopError is a file that could not be read.
	StopError
)

// Stop is the end of a scan.
type Stop struct {
	Kind   StopKind
	Offset message.Offset // behind the last record, filler or damage
	Err    error          // a *CorruptError for StopDamaged
}

// ScanOptions says how to scan.
type ScanOptions struct {
	Check message.Check
	// Resync is the offset below which a scan goes on behind a damaged record
	// when an intact one is found further on; ResyncAlways has no bound. At
	// damage elsewhere the scan ends.
	//
	// What is found further on may be older than the damage: truncation in
	// RocketMQ leaves the old tail in place. So a record counts only if its
	// store time is not below that of the last one before the damage.
	Resync message.Offset

	whole bool // RecoverOptions.Whole
}

// ResyncAlways steps over damage anywhere.
const ResyncAlways = message.Offset(math.MaxInt64)

// Scanner walks the log forward, record by record. It is not safe for
// concurrent use. It holds a reference to the file that it is in until Close.
type Scanner struct {
	log  *Log
	o    ScanOptions
	pos  int64 // of the next item
	to   int64
	time int64 // store time of the last record
	torn int64 // from here on a record may have lost its end, see classify

	view mappedfile.View // the rest of the file, from viewAt on
	at   int64
	dec  message.Decoder
	msg  message.Message
	item ScanItem
	stop Stop
}

// Scan starts at from, which must be the beginning of a record, and ends at to
// at the latest. The log need not be started; beyond Committed nothing is known
// about the bytes, and a scan may meet a record that is being written.
func (l *Log) Scan(from, to message.Offset, o ScanOptions) *Scanner {
	return &Scanner{log: l, o: o, pos: int64(from), to: int64(to), torn: math.MaxInt64, dec: message.Decoder{Check: o.Check}}
}

// Next moves on and reports whether there is an item. A fault in the file's
// mapping ends the scan with StopError.
func (s *Scanner) Next() (more bool) {
	if s.stop.Kind != 0 {
		return false
	}
	err := mappedfile.Guard(func() error {
		more = s.next()
		return nil
	})
	if err != nil {
		return s.end(StopError, err)
	}
	return more
}

// Each calls do for each item that Next would come upon, until the scan ends. All of
// it is one guard against faults in mapped memory, where Next takes one for each
// item: so do may touch the item's bytes, and must not hold what a fault would leave
// locked.
func (s *Scanner) Each(do func(*ScanItem)) {
	if s.stop.Kind != 0 {
		return
	}
	err := mappedfile.Guard(func() error {
		for s.next() {
			do(&s.item)
		}
		return nil
	})
	if err != nil {
		s.end(StopError, err)
	}
}

func (s *Scanner) next() bool {
	for {
		if s.pos >= s.to {
			return s.end(StopEnd, nil)
		}
		if err := s.load(); err != nil {
			if errors.Is(err, ErrOutOfRange) {
				return s.end(StopEnd, nil)
			}
			if errors.Is(err, mappedfile.ErrMissingFile) || errors.Is(err, mappedfile.ErrFileSize) {
				return s.hole(err)
			}
			return s.end(StopError, err)
		}
		kind, size, err := s.classify(s.view.Bytes()[s.pos-s.at:], s.pos, &s.msg)
		switch {
		case err != nil || kind == message.KindEmpty:
			return s.broken(kind, err)
		case kind == message.KindFiller:
			return s.found(ItemFiller, size, nil)
		default:
			s.time = s.msg.StoreTimestamp
			return s.found(ItemRecord, size, nil)
		}
	}
}

// Item returns what Next came upon.
func (s *Scanner) Item() *ScanItem { return &s.item }

// Stop says why and where Next returned false.
func (s *Scanner) Stop() Stop { return s.stop }

// Offset is where the next item begins.
func (s *Scanner) Offset() message.Offset { return message.Offset(s.pos) }

// Extend lets a scan that ended at its given end go on to a later one.
func (s *Scanner) Extend(to message.Offset) {
	s.to = max(s.to, int64(to))
	if s.stop.Kind == StopEnd {
		s.stop = Stop{}
	}
}

// Close gives up the file.
func (s *Scanner) Close() {
	s.view.Release()
	s.item = ScanItem{}
	if s.stop.Kind == 0 {
		s.end(StopEnd, nil)
	}
}

func (s *Scanner) end(kind StopKind, err error) bool {
	s.stop = Stop{Kind: kind, Offset: message.Offset(s.pos), Err: err}
	return false
}

func (s *Scanner) found(kind ItemKind, size int64, damage *CorruptError) bool {
	s.item = ScanItem{Kind: kind, Offset: message.Offset(s.pos), Size: size, Err: damage}
	if kind == ItemRecord {
		from := s.pos - s.at
		s.item.Record = message.Record(s.view.Bytes()[from : from+size : from+size])
		s.item.Message = &s.msg
	}
	s.pos += size
	return true
}

// load makes sure that the view covers pos.
func (s *Scanner) load() error {
	if f := s.view.File(); f != nil && s.pos < f.End() {
		return nil
	}
	s.view.Release()
	first, err := s.log.files.View(s.pos, 0)
	if err != nil {
		return s.log.noBytes(err)
	}
	f := first.File()
	s.view, err = f.View(s.pos-f.Base(), f.End()-s.pos)
	first.Release()
	s.at = s.pos
	return s.log.noBytes(err)
}

// hole handles a place that lies in no file of a Tolerant log.
func (s *Scanner) hole(cause error) bool {
	f := s.log.files.Next(s.pos)
	var file *mappedfile.FileError
	if f == nil || f.Base() <= s.pos || !errors.As(cause, &file) {
		return s.end(StopError, cause)
	}
	damage := &CorruptError{Path: file.Path, Offset: message.Offset(s.pos), Cause: cause}
	if s.pos >= int64(s.o.Resync) {
		return s.end(StopDamaged, damage)
	}
	return s.found(ItemDamage, f.Base()-s.pos, damage)
}

// classify looks at b, the rest of a file, which stands at pos. It trusts no
// length and accepts a record only if it claims to stand at pos.
func (s *Scanner) classify(b []byte, pos int64, m *message.Message) (message.Kind, int64, error) {
	if len(b) < message.FillerSize {
		// A file ends in a filler of at least 8 bytes, but nothing is lost by
		// reading on where one does not.
		return message.KindFiller, int64(len(b)), nil
	}
	size, kind, err := message.Peek(b)
	if err != nil {
		return kind, 0, err
	}
	switch kind {
	case message.KindEmpty:
		return kind, 0, nil
	case message.KindFiller:
		if size != len(b) {
			return kind, 0, fmt.Errorf("%w: it says %d bytes, the file has %d left", ErrFiller, size, len(b))
		}
		return kind, int64(size), nil
	}
	if err := s.dec.Decode(b, m); err != nil {
		return kind, 0, err
	}
	if int64(m.PhysicalOffset) != pos {
		return kind, 0, fmt.Errorf("%w: it says %d", ErrPosition, m.PhysicalOffset)
	}
	// A power cut can take the page that a record ends in. If only properties
	// were there, no checksum notices: the property CRC is lost with them, and
	// a record need not have one. But every encoder ends the block in 0x02 or
	// in text, and what was lost reads as zeros.
	if s.lostEnd(m, pos) {
		return kind, 0, ErrTorn
	}
	return kind, int64(size), nil
}

// lostEnd reports whether a record that was decoded, at pos, lost its end.
func (s *Scanner) lostEnd(m *message.Message, pos int64) bool {
	return Torn(m) || pos >= s.torn && zerosAtEnd(m) > 0
}

// broken handles a place without an intact record.
func (s *Scanner) broken(kind message.Kind, cause error) bool {
	if cause == nil {
		cause = ErrEmpty
	}
	damage := &CorruptError{Path: s.view.File().Path(), Offset: message.Offset(s.pos), Cause: cause}
	if s.pos < int64(s.o.Resync) || s.o.whole && kind != message.KindEmpty {
		next, err := s.resync()
		if err != nil {
			return s.end(StopError, err)
		}
		if next > s.pos {
			return s.found(ItemDamage, next-s.pos, damage)
		}
	}
	if kind == message.KindEmpty {
		return s.end(StopEmpty, nil)
	}
	return s.end(StopDamaged, damage)
}
