// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
)

// log dumps the records of a commit log file.
func (d *dumper) log() error {
	dec := message.Decoder{Check: message.CheckAll}
	var m message.Message
	at := d.o.From
	if here, err := d.beginsRecord(at); err != nil {
		return err
	} else if at > 0 && !here {
		if at, err = d.nextRecord(&dec, at); err != nil {
			return err
		}
	}
	for at < d.file.size {
		b, size, kind, err := d.recordBytes(at)
		if err != nil {
			return err
		}
		switch kind {
		case message.KindEmpty:
			return d.rest(at, "not written yet")
		case message.KindFiller:
			if err := d.filler(at, size); err != nil {
				return err
			}
			at += max(min(int64(size), d.file.size-at), message.FillerSize)
			continue
		}
		if err := d.item(); err != nil {
			return err
		}
		broken := d.decode(&dec, b, at, &m)
		end := at + int64(size)
		if broken != nil {
			if end, err = d.behind(&dec, at, size); err != nil {
				return err
			}
		}
		if err := d.record(at, end, broken); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// beginsRecord reports whether a record begins at a position, be it damaged: it says
// that it stands there, or what is behind its length is a record, too.
func (d *dumper) beginsRecord(at int64) (bool, error) {
	b, err := d.file.bytes(at, message.MinRecordSize)
	if err != nil || len(b) < message.MinRecordSize {
		return false, err
	}
	size, kind, _ := message.Peek(b)
	if d.base >= 0 && be64(b[28:]) == d.base+at && d.base+at > 0 {
		return true, nil
	}
	if kind != message.KindMessage || at+int64(size) > d.file.size {
		return false, nil
	}
	_, _, kind, err = d.recordBytes(at + int64(size))
	return kind != message.KindInvalid, err
}

// recordBytes returns the record at a position as far as its size can be believed.
func (d *dumper) recordBytes(at int64) (b []byte, size int, kind message.Kind, err error) {
	b, err = d.file.bytes(at, message.FillerSize)
	if err != nil {
		return nil, 0, 0, err
	}
	size, kind, _ = message.Peek(b)
	if kind == message.KindMessage {
		b, err = d.file.bytes(at, int64(size))
	}
	return b, size, kind, err
}

// decode checks the record at a position.
func (d *dumper) decode(dec *message.Decoder, b []byte, at int64, m *message.Message) error {
	err := dec.Decode(b, m)
	switch {
	case err != nil:
		return err
	case commitlog.Torn(m):
		return commitlog.ErrTorn
	case d.base >= 0 && int64(m.PhysicalOffset) != d.base+at:
		return &message.DecodeError{Kind: commitlog.ErrPosition, Field: "PHYSICALOFFSET", At: 28, Want: d.base + at, Got: int64(m.PhysicalOffset)}
	}
	return nil
}

// behind returns where a damaged record ends: where the next intact one begins, or
// the filler, or, at the end, the zeros.
func (d *dumper) behind(dec *message.Decoder, at int64, size int) (int64, error) {
	if size >= message.MinRecordSize && at+int64(size) <= d.file.size {
		_, _, kind, err := d.recordBytes(at + int64(size))
		if err != nil || kind != message.KindInvalid {
			return at + int64(size), err // its length, at least, fits
		}
	}
	return d.nextRecord(dec, at+1)
}

// nextRecord returns where the first intact record begins, or the first filler, at
// or behind a position; the end of what is written when there is none.
func (d *dumper) nextRecord(dec *message.Decoder, from int64) (int64, error) {
	var m message.Message
	last := from // behind the last byte that is not zero
	for at := from; at < d.file.size; {
		if d.ctx.Err() != nil {
			return 0, d.ctx.Err()
		}
		b, err := d.file.bytes(at, windowSize)
		if err != nil || len(b) == 0 {
			return last, err
		}
		if used := len(bytes.TrimRight(b, "\x00")); used > 0 {
			last = at + int64(used)
		}
		starts := candidates(b)
		for _, i := range starts {
			r, size, kind, err := d.recordBytes(at + i)
			if err != nil {
				return 0, err
			}
			if kind == message.KindFiller && at+i+int64(size) == d.file.size || kind == message.KindMessage && d.decode(dec, r, at+i, &m) == nil {
				return at + i, nil
			}
		}
		if int64(len(b)) < windowSize {
			return last, nil
		}
		at += int64(len(b)) - message.FillerSize + 1
	}
	return last, nil
}

// candidates are the positions where a magic number stands behind four bytes.
func candidates(b []byte) (starts []int64) {
	for i := 0; i+message.FillerSize <= len(b); i++ {
		switch binary.BigEndian.Uint32(b[i+4:]) {
		case message.MagicV1, message.MagicV2, message.MagicFiller:
			starts = append(starts, int64(i))
		}
	}
	return starts
}

func (d *dumper) filler(at int64, size int) error {
	var wrong error
	if left := d.file.size - at; int64(size) != left {
		wrong = fmt.Errorf("%d bytes are left in the file", left)
	}
	if err := d.put("filler", "size", at, 4, strconv.Itoa(size), wrong); err != nil {
		return err
	}
	if err := d.put("", "magic", at+4, 4, "filler: the file ends here", nil); err != nil || wrong != nil {
		return err
	}
	if at += message.FillerSize; at == d.file.size {
		return nil
	}
	// RocketMQ leaves there what a buffer held before.
	return d.put("", "behind the filler", at, d.file.size-at, "means nothing", nil)
}

// record dumps the fields of a record in [at, end). broken is what is wrong with
// it: it is told at the field that it names, else at the end of the fields.
func (d *dumper) record(at, end int64, broken error) error {
	b, err := d.file.bytes(at, end-at)
	if err != nil {
		return err
	}
	// A copy: put moves the window, and a record is what is dumped at a time.
	r := &recordDump{d: d, at: at, b: bytes.Clone(b), broken: broken}
	errors.As(broken, &r.decode)
	r.fields()
	r.rest()
	return r.err
}
