// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"math"
	"runtime"
	"sync"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// stripSize is how much of the log one goroutine reads at a time: so much that
// handing it over costs nothing, so little that what was seen of it is in the
// processor's caches still when it is compared.
const stripSize = 1 << 20

// maxReaders bounds the goroutines that read strips. One goroutine compares what
// they saw, in order, and more of them would only wait for it.
const maxReaders = 8

// strip is a piece of one file of the log, read by somebody who does not know
// what lies before it. It is believed only where that turns out to fit.
type strip struct {
	from, to message.Offset // the records that begin here are its
	file     *mappedfile.File
	hollow   bool // the file system knows that nothing was written there or behind it

	first message.Offset // where the first intact record begins, -1 without one
	end   message.Offset // behind the last one of those that follow each other from there on
	// ended says why there were no more.
	ended commitlog.StopKind
	// bare says that no intact record begins behind end, or in all of the strip if it
	// has no first one.
	bare bool

	seen   []sighting
	hashes []int32
	done   chan struct{} // gets one value when the strip was read
}

// sighting is what the queues and the indexes are compared with of one record.
// It borrows nothing.
type sighting struct {
	topic         string
	offset        message.Offset
	queueOffset   message.QueueOffset
	stored, born  int64
	tags          int64 // of its entry
	size, queueID int32
	flag          int32
	bodyCRC       uint32
	sysFlag       message.SysFlag
	keys          int32     // how many of the hashes are its
	queue         *rawQueue // where its entry was found to be right already, or nil
}

// message fills in what a sighting has of a message.
func (s *sighting) message(m *message.Message) {
	m.Topic, m.QueueID, m.QueueOffset = s.topic, s.queueID, s.queueOffset
	m.PhysicalOffset, m.Size = s.offset, s.size
	m.StoreTimestamp, m.BornTimestamp = s.stored, s.born
	m.Flag, m.BodyCRC, m.SysFlag = s.flag, s.bodyCRC, s.sysFlag
}

// see adds a record.
func (s *strip) see(m *message.Message, withKeys bool) {
	before := len(s.hashes)
	tags, uniq, keys := m.Properties.Indexed()
	if withKeys {
		s.hashes = keyindex.AppendHashesOf(s.hashes, m, uniq, keys)
	}
	s.seen = append(s.seen, sighting{
		topic: m.Topic, queueID: m.QueueID, queueOffset: m.QueueOffset,
		offset: m.PhysicalOffset, size: m.Size,
		stored: m.StoreTimestamp, born: m.BornTimestamp,
		flag: m.Flag, bodyCRC: m.BodyCRC, sysFlag: m.SysFlag,
		tags: consumequeue.EntryWith(m, tags, nil).TagsCode, keys: int32(len(s.hashes) - before),
	})
}

// read looks for the first record and goes on from there.
func (s *strip) read(log *commitlog.Log, withKeys bool) {
	s.seen, s.hashes = s.seen[:0], s.hashes[:0]
	s.first, s.end, s.bare = -1, s.from, false
	if s.hollow {
		s.ended, s.bare = commitlog.StopEmpty, true
		return
	}
	found, err := s.scan(log, s.from, withKeys)
	if err != nil || found {
		return
	}
	// Nobody needs to look here again if this is the end of the log.
	begin := log.Scan(s.from, s.to, commitlog.ScanOptions{})
	defer begin.Close()
	if begin.Next() {
		return
	}
	s.ended, s.bare = begin.Stop().Kind, true
}

// scan reads from the first intact record at or behind an offset to the end, and
// reports whether there was one.
func (s *strip) scan(log *commitlog.Log, from message.Offset, withKeys bool) (found bool, err error) {
	scan := log.Scan(from, s.to, commitlog.ScanOptions{Check: message.CheckAll})
	defer scan.Close()
	if found, err = scan.Seek(); err != nil || !found {
		return found, err
	}
	s.first = scan.Offset()
	scan.Each(func(it *commitlog.ScanItem) {
		if it.Kind == commitlog.ItemRecord {
			s.see(it.Message, withKeys)
		}
	})
	s.end, s.ended = scan.Offset(), scan.Stop().Kind
	if s.ended == commitlog.StopEmpty {
		rest := log.Scan(s.end, s.to, commitlog.ScanOptions{})
		defer rest.Close()
		more, err := rest.Seek()
		s.bare = err == nil && !more
	}
	return true, nil
}

// strips reads the log ahead, in several goroutines, and hands its pieces out in
// order. Its methods are for one goroutine.
type strips struct {
	log      *commitlog.Log
	withKeys bool
	size     int64
	jobs     chan *strip
	readers  sync.WaitGroup

	file   int   // of the next strip, in log.Files()
	at     int64 // where that begins in it
	hollow int64 // from there on that file is a hole
	ahead  []*strip
	free   []*strip
	behind *strip // the one that was handed out last
}

// newStrips begins to read a log, which must be nobody else's until close.
func newStrips(log *commitlog.Log, size int64, withKeys bool) *strips {
	n := min(runtime.GOMAXPROCS(0), maxReaders)
	s := &strips{log: log, size: size, withKeys: withKeys, jobs: make(chan *strip, 2*n)}
	for range 2 * n {
		s.free = append(s.free, &strip{done: make(chan struct{}, 1)})
	}
	for range n {
		s.readers.Go(func() {
			for one := range s.jobs {
				one.read(log, withKeys)
				one.done <- struct{}{}
			}
		})
	}
	return s
}

// next returns the next strip, nil behind the last one. It is valid until the
// call after. Strips that end at or below skip are left out.
func (s *strips) next(ctx context.Context, skip message.Offset) (*strip, error) {
	for {
		s.giveBack()
		s.refill(skip)
		if len(s.ahead) == 0 {
			return nil, nil
		}
		one := s.ahead[0]
		select {
		case <-one.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		s.ahead = append(s.ahead[:0], s.ahead[1:]...)
		s.behind = one
		if one.to > skip {
			return one, nil
		}
	}
}

// giveBack takes the last strip back, and unmaps files that are done with.
func (s *strips) giveBack() {
	one := s.behind
	if one == nil {
		return
	}
	s.behind = nil
	s.free = append(s.free, one)
	if int64(one.to) == one.file.End() {
		_ = one.file.Drop() // what can't be unmapped now is when the log is closed
	}
	one.file = nil
}

// refill has strips read as far ahead as there are free ones.
func (s *strips) refill(skip message.Offset) {
	files := s.log.Files().Files()
	for len(s.free) > 0 && s.file < len(files) {
		f := files[s.file]
		if s.at == 0 {
			s.hollow = f.HoleAt(0, s.size) // before anything of it is read
		}
		from := f.Base() + s.at
		hollow := s.at >= s.hollow
		to := min(from+s.size, f.End())
		if s.at += s.size; to == f.End() {
			s.file, s.at = s.file+1, 0
		}
		if message.Offset(to) <= skip {
			continue
		}
		one := s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		one.from, one.to, one.file = message.Offset(from), message.Offset(to), f
		one.hollow = hollow
		s.ahead = append(s.ahead, one)
		s.jobs <- one // it has room for all of them
	}
}

// close ends the reading. The log can be closed then.
func (s *strips) close() {
	close(s.jobs)
	s.readers.Wait()
}

// endless is behind the end of any log.
const endless = message.Offset(math.MaxInt64)
