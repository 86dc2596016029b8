// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/internal/marks"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/topicmeta"
)

// Open opens the store in dir for appending and reading, and makes a new one in
// a directory that is missing or empty. After a crash it recovers: see the
// package comment.
//
// It fails at once, with ErrLocked, when a broker or another Store has the
// directory open. ErrNotStore, ErrUnsupportedLayout, ErrStrayFile, ErrFileSize,
// ErrMissingFile and ErrOptions say what is wrong with the directory or the
// options; none of these has changed anything in it, but for the `lock` file, and
// an empty file at the end of log or queue whose making a crash interrupted.
func Open(dir string, o Options) (*Store, error) { return openStore(dir, o, nil) }

// openStore is Open. before, unless it is nil, is called when the lock is held and
// nothing is changed; its error is returned.
func openStore(dir string, o Options, before func(*Store) error) (*Store, error) {
	start := time.Now()
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	fresh, err := checkDir(dir, &o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, o: o,
		encoder:     message.Encoder{PropertyCRC: o.PropertyCRC == CRCWhole, MaxBodyLen: o.MaxBodyLen},
		table:       newQueueTable(),
		checkpoints: make(chan chan error), checkpointerDone: make(chan struct{}),
	}
	// Before anything is looked at that a running broker may be changing, and
	// before anything is changed.
	if fresh {
		if err := makeRoot(o.Disk, dir); err != nil {
			return nil, err
		}
	}
	if s.lock, err = o.Disk.Lock(s.path(layout.Lock)); err != nil {
		return nil, err
	}
	if before != nil {
		if err := before(s); err != nil {
			return nil, errors.Join(err, s.lock.Close())
		}
	}
	// The recovery reads and writes mappings throughout.
	if err := mappedfile.Guard(func() error { return s.open(fresh, start) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), s.abandon())
	}
	return s, nil
}

// makeRoot makes the directory of a new store. When it is there already, whoever
// made it may have been killed before its name was durable, and all that will be
// in it would be lost with the name. A parent that may not be read is its
// owner's business.
func makeRoot(disk mappedfile.Disk, dir string) error {
	if err := disk.MkdirAll(dir); err != nil {
		return err
	}
	if err := disk.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// checkDir reports whether dir is to become a new store.
func checkDir(dir string, o *Options) (fresh bool, err error) {
	err = layout.Check(o.Disk, dir, "")
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrEmpty)
	if missing && !o.MustExist {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, layout.CheckBatchQueues(o.Disk, dir)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// open does the rest under the lock. What it opened is in s when it fails.
func (s *Store) open(fresh bool, start time.Time) error {
	if err := s.openFiles(); err != nil {
		return err
	}
	if err := s.checkLost(); err != nil {
		return err
	}
	was, err := s.lookBack(fresh)
	if err != nil {
		return err
	}
	// Pebble waits for the disk a dozen times. So do others from here on, and none
	// for the other.
	s.opening, err = topicmeta.Start(filepath.Join(s.path(layout.Stele), layout.Meta), topicmeta.Options{
		FS: s.o.MetaFS, Logger: s.o.Logger, Now: s.o.Clock,
	})
	if err != nil {
		return metaError(err)
	}
	if err := s.announce(was); err != nil {
		return err
	}
	d, err := s.recover(was)
	if err != nil {
		return err
	}
	s.recovery.Took = time.Since(start)
	s.o.Logger.Info("store opened", "dir", s.dir, "kind", s.recovery.Kind.String(),
		"end", s.recovery.End, "records", s.recovery.Records, "queues filled", len(s.recovery.Filled), "took", s.recovery.Took)
	if f := s.o.Events.Recovered; f != nil {
		f(s.recovery)
	}
	s.startRetention()
	if err := s.startDelay(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.dispatchLoop(ctx, d) })
	s.background.Go(func() { s.checkpointLoop(ctx) })
	s.background.Go(func() { s.retentionLoop(ctx) })
	if s.log.Flushed() < s.recovery.End {
		s.log.KickFlush() // last: whoever opens a store need not share the disk with it
	}
	return nil
}

// openFiles opens what only looks at names and lengths.
func (s *Store) openFiles() error {
	o := &s.o
	_, ours := marks.Reached(o.Disk, s.path(layout.Stele))
	log, err := commitlog.Open(commitlog.Options{
		Dir: s.path(layout.CommitLog), FileSize: o.FileSize, Disk: o.Disk, Ours: ours,
		PropertyCRC: o.PropertyCRC == CRCWhole,
		WritePath:   o.WritePath, PoolBuffers: o.PoolBuffers, CommitOnFlush: o.Flush == FlushSync,
		OnPoolEmpty: s.onPoolEmpty, OnLockRefused: s.onLockRefused,
		FlushInterval: o.FlushInterval, FlushLeastPages: o.FlushLeastPages,
		FlushThoroughInterval: o.FlushThoroughInterval,
		Clock:                 o.clock.Given(), Warm: s.warmOptions(), OnFlush: s.onFlush, OnRoll: s.onRoll, OnPoison: s.poison,
	})
	if err != nil {
		return err
	}
	s.log = log
	if err := s.settleWarmUp(); err != nil {
		return err
	}
	s.queues, err = consumequeue.OpenSet(consumequeue.Options{
		Dir: s.path(layout.ConsumeQueue), Disk: o.Disk, FileSize: o.QueueFileSize, StoreTime: s.storeTime,
	})
	if err != nil {
		return err
	}
	if path := s.log.Files().Unfinished(); path != "" {
		s.recovery.Unfinished = append(s.recovery.Unfinished, path)
	}
	s.recovery.Unfinished = append(s.recovery.Unfinished, s.queues.Unfinished()...)
	if err := s.openIndex(false); err != nil {
		return err
	}
	if n := len(s.recovery.Unfinished); n > 0 {
		s.o.Logger.Warn("files that a crash left unfinished were removed", "files", n, "first", s.recovery.Unfinished[0])
	}
	return s.openTimeIndex()
}

// awaitMeta returns once the metadata that open began to open are there.
func (s *Store) awaitMeta() (err error) {
	if s.opening == nil {
		return nil
	}
	s.meta, err = s.opening.Wait()
	s.opening = nil
	return metaError(err)
}

// storeTime returns when a record was stored, for searches by time.
func (s *Store) storeTime(off message.Offset, size int32) (int64, error) {
	if size < message.MinRecordSize {
		return 0, &commitlog.CorruptError{Offset: off, Cause: fmt.Errorf("%w: an entry of %d bytes", ErrWrongRecord, size)}
	}
	v, err := s.log.ViewRecord(off)
	if err != nil {
		if errors.Is(err, commitlog.ErrExpired) {
			err = fmt.Errorf("%w: %w", mappedfile.ErrExpired, err)
		}
		return 0, err
	}
	defer v.Release()
	var ms int64
	err = mappedfile.Guard(func() error {
		ms = message.Record(v.Bytes()).StoreTimestamp()
		return nil
	})
	return ms, err
}

// past is what the directory says about its last owner.
type past struct {
	fresh    bool
	abort    bool // the owner did not close it
	abortPID string
	// abortText is all that the file says.
	abortText []byte
	state     marks.State
	marked    bool // state is from the file
	bootID    string
}

// owner returns the process that `abort` names, if it was one of ours by what
// the marks say, else 0. A file that a crash left half written, or empty, counts
// as ours: it was about to name us.
func (p *past) owner() int {
	if !p.marked || !p.abort {
		return 0
	}
	for _, pid := range []int{p.state.PID, p.state.Before} {
		if pid > 0 && strings.HasPrefix(strconv.Itoa(pid), p.abortPID) {
			return pid
		}
	}
	return 0
}

// lookBack reads what the last owner left, and opens marks and checkpoint.
func (s *Store) lookBack(fresh bool) (past, error) {
	was := past{fresh: fresh}
	err := s.readAbort(&was)
	if err != nil {
		return was, err
	}
	if s.marks, err = marks.Open(s.o.Disk, s.path(layout.Stele)); err != nil {
		return was, err
	}
	was.state, was.marked = s.marks.State()
	if s.checkpoint, err = openCheckpoint(s.o.Disk, s.dir); err != nil {
		return was, err
	}
	// Without a boot id every crash counts as a power cut.
	was.bootID, _ = s.o.Disk.BootID()
	return was, nil
}

func (s *Store) readAbort(was *past) error {
	text, err := s.o.Disk.ReadFile(s.path(layout.Abort))
	switch {
	case err == nil:
		was.abort, was.abortText = true, text
		// A power cut can leave the length of the file and not its bytes.
		was.abortPID = strings.Trim(string(text), "\x00 \t\r\n")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// announce writes down that this process has the store open, before it changes
// anything else: a crash from here on is a crash of its own.
func (s *Store) announce(was past) error {
	s.session = marks.State{PID: os.Getpid(), Before: was.owner(), BootID: was.bootID, Session: newSession()}
	if was.marked {
		// What the last owner knew to be safe stays safe.
		s.session.Safe, s.session.Flushed = was.state.Safe, was.state.Flushed
		if err := s.marks.Save(s.session); err != nil {
			return err
		}
	}
	return s.o.Disk.WriteFile(s.path(layout.Abort), []byte(strconv.Itoa(os.Getpid())))
}

// withdraw takes back what announce has written, when nothing else was changed
// since: the next opening finds what this one found. A crash in the midst of it is
// one between the two steps of announce.
func (s *Store) withdraw(was past) error {
	var err error
	if was.abort {
		err = s.o.Disk.WriteFile(s.path(layout.Abort), was.abortText)
	} else {
		err = s.removeAbort()
	}
	if err == nil && was.marked {
		err = s.marks.Save(was.state)
	}
	return err
}

// newSession returns a number that no other opening has. It is not 0.
func newSession() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:]) | 1
}

// abandon releases what a failed open holds, and changes nothing more.
func (s *Store) abandon() error {
	errs := []error{s.awaitMeta()} // which may say more than a fault in a mapping does
	if s.meta != nil {
		errs = append(errs, s.meta.Close())
	}
	errs = append(errs, s.closeDerived())
	if s.queues != nil {
		errs = append(errs, s.queues.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.checkpoint != nil {
		errs = append(errs, s.checkpoint.close())
	}
	if s.marks != nil {
		errs = append(errs, s.marks.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

func (s *Store) onFlush(i commitlog.FlushInfo) {
	s.counters.flushes.Add(1)
	if i.StoreTime > 0 {
		s.lastFlushTime.Store(i.StoreTime)
	}
	if f := s.o.Events.Flushed; f != nil {
		f(i)
	}
}

func (s *Store) onRoll(i commitlog.RollInfo) {
	s.counters.rolls.Add(1)
	if i.Waited {
		s.counters.rollsWaited.Add(1)
	}
	s.kickRetention()
	if f := s.o.Events.Rolled; f != nil {
		f(i)
	}
}
