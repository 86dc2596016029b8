// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package marks keeps what Stele knows about a store beyond RocketMQ's own
// files, in `stele/marks`: how far log and queues are known to be good, and who
// had the store open. It is what makes opening take milliseconds.
//
//	   0  magic, version
//	 512  slot A ┐ a State with its own CRC-32, written in turn and flushed
//	1024  slot B ┘ (the newer intact one counts)
//	2048  live: session, turn, two Positions written in turn, whether a flush
//	      failed; never flushed
//	4096
//
// The State in a slot holds after anything: it was written when what it says
// was durable already. The live Position is written on the go, by plain stores
// into the mapping. It holds after the death of the process as long as the
// kernel lives, because stores to a shared mapping are in the page cache in
// program order; the boot id in the State tells whether that is so. Two copies
// and a turn make sure that a kill between two stores leaves one whole.
//
// All integers are big-endian. Nothing in this file is needed to read the
// store: without it, or when it does not fit the log, RocketMQ's rule applies.
package marks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// FileName is the file's name in Stele's own directory.
const FileName = "marks"

const (
	fileSize = 4096
	slotA    = 512
	slotB    = 1024
	slotLen  = 512
	liveAt   = 2048

	magic   = "STELEMRK"
	version = 1
)

// ErrVersion is returned for a file that a newer Stele wrote, or none did.
var ErrVersion = errors.New("unknown version of the marks file")

// Position is a point in the log, and what was true of the queues when the
// dispatcher stood there. It is enough to tell later whether the files still
// are the ones that it speaks of.
type Position struct {
	// Offset is the point: every record below it is in its queue.
	Offset message.Offset
	// Last is where the last record below Offset begins; its store time is
	// LastTime, in milliseconds. With no such record both are -1.
	Last     message.Offset
	LastTime int64
	// Entries is the sum of the maximum offsets of all queues.
	Entries int64
}

// State is what a slot holds.
type State struct {
	// Clean says that the store was closed in order at Safe, and nothing was
	// appended since.
	Clean bool
	// Safe is the point below which log and queues are durable.
	Safe Position
	// Flushed is the offset below which the log is durable; not below Safe. It
	// is the largest offset there is while a log is recovered of which that is
	// not known, and of which nothing readable is to be given up.
	Flushed message.Offset
	// PID and BootID name the process that has, or had, the store open, and
	// the run of its kernel.
	PID    int
	BootID string
	// Before is the process that the `abort` file still named when this State
	// was first saved, if that was one of Stele's; else 0. A crash may have come
	// before PID took its place.
	Before int
	// Session is new for each opening. The live Position belongs to it.
	Session uint64
}

// File is the mapped file. It is not safe for concurrent use, but for
// SetLive, which one goroutine may call beside the others.
type File struct {
	path   string
	region mappedfile.Region
	seq    uint64 // of the newest slot
	slot   int    // where the next one goes
	state  State
	ok     bool // state came from the file
}

// Open maps the file in dir, and makes it when it is missing, dir included. A
// file that holds no intact State is not an error: State then returns false.
func Open(disk mappedfile.Disk, dir string) (*File, error) {
	path := filepath.Join(dir, FileName)
	r, err := disk.Open(path, mappedfile.Mapping{})
	if err == nil && len(r.Bytes()) != fileSize {
		// Nothing in it is needed, so a broken one makes room for a new one.
		err = errors.Join(r.Close(), disk.Remove(path))
		if err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, mappedfile.ErrFileSize) { // an empty file
		if err = disk.Remove(path); err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		r, err = create(disk, dir, path)
	}
	if err != nil {
		return nil, err
	}
	f := &File{path: path, region: r, slot: slotA}
	if !hasState(r.Bytes()) {
		// Whoever made the file may have been killed before its name was durable,
		// or its blocks were there. It was both when a State was saved.
		err = errors.Join(r.Reserve(0, fileSize), disk.SyncDir(dir))
	}
	if err == nil {
		err = f.load()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return f, nil
}

// Look reads the file in dir as it is now, and changes nothing. A file that is
// missing, or of another length, is one without a State. Only what reads may be
// called on the result.
func Look(disk mappedfile.Disk, dir string) (*File, error) {
	path := filepath.Join(dir, FileName)
	b, err := disk.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(b) != fileSize {
		b = make([]byte, fileSize)
	}
	f := &File{path: path, region: image{b: b}}
	return f, f.load()
}

// image is a copy of the file's bytes.
type image struct {
	mappedfile.Region
	b []byte
}

func (i image) Bytes() []byte { return i.b }
func (i image) Close() error  { return nil }

// Reached returns how far the file in dir says that the log came, without opening
// or changing it; false when it is missing or holds no intact State.
func Reached(disk mappedfile.Disk, dir string) (message.Offset, bool) {
	b, err := disk.ReadFile(filepath.Join(dir, FileName))
	if err != nil || len(b) != fileSize || string(b[:len(magic)]) != magic {
		return 0, false
	}
	var newest State
	var last uint64
	for _, at := range []int{slotA, slotB} {
		if seq, st, ok := decodeSlot(b[at : at+slotLen]); ok && seq > last {
			last, newest = seq, st
		}
	}
	off := newest.Flushed
	if live, ok := readLive(b, newest.Session); ok {
		off = max(off, live.Offset)
	}
	return off, last > 0
}

func create(disk mappedfile.Disk, dir, path string) (mappedfile.Region, error) {
	if err := disk.MkdirAll(dir); err != nil {
		return nil, err
	}
	r, err := disk.Create(path, fileSize, mappedfile.Mapping{})
	if err != nil {
		return nil, err
	}
	// Blocks before bytes: a page of a full disk must not be touched.
	err = r.Reserve(0, fileSize)
	if err == nil {
		copy(r.Bytes(), magic)
		binary.BigEndian.PutUint32(r.Bytes()[len(magic):], version)
		err = r.Flush(0, fileSize)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close(), disk.Remove(path))
	}
	return r, nil
}

// hasState reports whether a slot is intact.
func hasState(b []byte) bool {
	_, _, ok := decodeSlot(b[slotA:slotB])
	_, _, other := decodeSlot(b[slotB : slotB+slotLen])
	return ok || other
}

func (f *File) load() error {
	b := f.region.Bytes()
	if string(b[:len(magic)]) != magic {
		if !allZero(b) {
			return fmt.Errorf("%s: %w: it begins with %q", f.path, ErrVersion, b[:len(magic)])
		}
		// A power cut took the first flush: begin anew.
		copy(b, magic)
		binary.BigEndian.PutUint32(b[len(magic):], version)
		return nil
	}
	if v := binary.BigEndian.Uint32(b[len(magic):]); v != version {
		return fmt.Errorf("%s: %w: %d, this is version %d", f.path, ErrVersion, v, version)
	}
	for _, at := range []int{slotA, slotB} {
		seq, st, ok := decodeSlot(b[at : at+slotLen])
		if ok && seq > f.seq {
			f.seq, f.state, f.ok = seq, st, true
			f.slot = slotA + slotB - at // the other one is next
		}
	}
	return nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// State returns what was saved last, or false when nothing intact was.
func (f *File) State() (State, bool) { return f.state, f.ok }

// Save makes s durable. Everything that s says must be durable already.
func (f *File) Save(s State) error {
	at := f.slot
	if err := encodeSlot(f.region.Bytes()[at:at+slotLen], f.seq+1, s); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if err := f.region.Flush(int64(at), slotLen); err != nil {
		return err
	}
	f.seq++
	f.slot = slotA + slotB - at
	f.state, f.ok = s, true
	return nil
}

// Close unmaps the file.
func (f *File) Close() error { return f.region.Close() }

// slot: seq 8, crc 4 (over all behind it), then the fields.
const (
	slotCRC    = 8
	slotFields = 12
	bootIDMax  = 64
)

func encodeSlot(b []byte, seq uint64, s State) error {
	if len(s.BootID) > bootIDMax {
		return fmt.Errorf("boot id of %d bytes, at most %d", len(s.BootID), bootIDMax)
	}
	be := binary.BigEndian
	w := make([]byte, 0, slotLen)
	w = append(w, make([]byte, slotFields)...)
	w = append(w, boolByte(s.Clean))
	w = appendPosition(w, s.Safe)
	w = be.AppendUint64(w, uint64(s.Flushed))
	w = be.AppendUint64(w, uint64(s.PID))
	w = be.AppendUint64(w, uint64(s.Before))
	w = be.AppendUint64(w, s.Session)
	w = append(w, byte(len(s.BootID)))
	w = append(w, s.BootID...)
	w = w[:slotLen]
	be.PutUint64(w, seq)
	be.PutUint32(w[slotCRC:], slotSum(w))
	copy(b, w)
	return nil
}

func decodeSlot(b []byte) (uint64, State, bool) {
	be := binary.BigEndian
	if be.Uint32(b[slotCRC:]) != slotSum(b) {
		return 0, State{}, false
	}
	r := b[slotFields:]
	s := State{Clean: r[0] == 1}
	s.Safe, r = readPosition(r[1:])
	s.Flushed = message.Offset(be.Uint64(r))
	s.PID = int(int64(be.Uint64(r[8:])))
	s.Before = int(int64(be.Uint64(r[16:])))
	s.Session = be.Uint64(r[24:])
	n := int(r[32])
	if n > bootIDMax {
		return 0, State{}, false
	}
	s.BootID = string(r[33 : 33+n])
	return be.Uint64(b), s, true
}

// slotSum covers the sequence number and the fields.
func slotSum(b []byte) uint32 {
	sum := crc32.ChecksumIEEE(b[:slotCRC])
	return crc32.Update(sum, crc32.IEEETable, b[slotFields:])
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendPosition(w []byte, p Position) []byte {
	be := binary.BigEndian
	w = be.AppendUint64(w, uint64(p.Offset))
	w = be.AppendUint64(w, uint64(p.Last))
	w = be.AppendUint64(w, uint64(p.LastTime))
	return be.AppendUint64(w, uint64(p.Entries))
}

func readPosition(r []byte) (Position, []byte) {
	be := binary.BigEndian
	return Position{
		Offset:   message.Offset(be.Uint64(r)),
		Last:     message.Offset(be.Uint64(r[8:])),
		LastTime: int64(be.Uint64(r[16:])),
		Entries:  int64(be.Uint64(r[24:])),
	}, r[32:]
}

// live: session 8, turn 8, Position 0, Position 1, failed 1.
const (
	liveTurn      = liveAt + 8
	livePositions = liveAt + 16
	positionLen   = 32
	liveFailed    = livePositions + 2*positionLen
)

// SetFailed notes for whoever opens the store in the same run of the kernel that
// a flush failed: the kernel may hold pages that are on no disk, and take them
// for clean. Only one goroutine may call it at a time.
func (f *File) SetFailed(failed bool) { f.region.Bytes()[liveFailed] = boolByte(failed) }

// Failed reports whether a flush failed. It means something in the run of the
// kernel in which it was set.
func (f *File) Failed() bool { return f.region.Bytes()[liveFailed] != 0 }

// StartLive begins the live Position of a session at p.
func (f *File) StartLive(session uint64, p Position) {
	b := f.region.Bytes()
	binary.BigEndian.PutUint64(b[liveAt:], 0)
	f.SetLive(p)
	f.SetLive(p)
	binary.BigEndian.PutUint64(b[liveAt:], session)
}

// SetLive stores p for whoever opens the store after this process was killed.
// It costs a few stores.
func (f *File) SetLive(p Position) {
	b, be := f.region.Bytes(), binary.BigEndian
	turn := be.Uint64(b[liveTurn:]) + 1
	at := livePositions + int(turn%2)*positionLen
	w := b[at : at+positionLen]
	be.PutUint64(w, uint64(p.Offset))
	be.PutUint64(w[8:], uint64(p.Last))
	be.PutUint64(w[16:], uint64(p.LastTime))
	be.PutUint64(w[24:], uint64(p.Entries))
	be.PutUint64(b[liveTurn:], turn)
}

// Live returns the live Position of a session, or false when the file holds
// that of another.
func (f *File) Live(session uint64) (Position, bool) { return readLive(f.region.Bytes(), session) }

func readLive(b []byte, session uint64) (Position, bool) {
	be := binary.BigEndian
	if be.Uint64(b[liveAt:]) != session || session == 0 {
		return Position{}, false
	}
	p, _ := readPosition(b[livePositions+int(be.Uint64(b[liveTurn:])%2)*positionLen:])
	return p, true
}
