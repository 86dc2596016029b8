// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/mappedfile"
)

// checkpointFile is RocketMQ's checkpoint, mapped.
type checkpointFile struct {
	region mappedfile.Region
	value  checkpoint.Checkpoint
}

// openCheckpoint maps the file and makes it when it is missing. One that is too
// short is like one that is missing, as RocketMQ has it. Its name is made durable
// with that of `abort`, which lies beside it and is written before anything is
// changed.
func openCheckpoint(disk mappedfile.Disk, dir string) (*checkpointFile, error) {
	path := filepath.Join(dir, checkpoint.FileName)
	r, err := disk.Open(path, mappedfile.Mapping{})
	if err == nil && len(r.Bytes()) < checkpoint.Size {
		err = &mappedfile.FileError{Path: path, Cause: mappedfile.ErrFileSize, Want: checkpoint.Size, Got: int64(len(r.Bytes()))}
		err = errors.Join(err, r.Close())
	}
	if errors.Is(err, mappedfile.ErrFileSize) {
		if err = disk.Remove(path); err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		r, err = disk.Create(path, checkpoint.Size, mappedfile.Mapping{})
	}
	if err != nil {
		return nil, err
	}
	// Whoever made the file may not have come as far as its blocks.
	if err := r.Reserve(0, checkpoint.Size); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	c, err := checkpoint.Decode(r.Bytes())
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &checkpointFile{region: r, value: c}, nil
}

func (c *checkpointFile) save() error {
	c.value.Encode(c.region.Bytes())
	return c.region.Flush(0, checkpoint.Size)
}

func (c *checkpointFile) close() error { return c.region.Close() }

// checkpointLoop is the checkpointer's goroutine: it records from where a
// recovery after a power cut has to read, and makes consumer offsets durable.
func (s *Store) checkpointLoop(ctx context.Context) {
	defer close(s.checkpointerDone)
	points := time.NewTicker(s.o.CheckpointInterval)
	defer points.Stop()
	offsets := time.NewTicker(s.o.OffsetInterval)
	defer offsets.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-points.C:
			err = s.saveCheckpoint(false)
		case reply := <-s.checkpoints:
			err = s.saveCheckpoint(false)
			reply <- err
		case <-offsets.C:
			err = s.syncMeta()
		}
		if err != nil && ctx.Err() == nil {
			s.poison(fmt.Errorf("checkpoint: %w", err))
			return
		}
	}
}

// checkpointNow has the checkpointer save one: everything that is dispatched when
// it is called is durable, and a recovery begins there or behind, when it returns
// nil.
func (s *Store) checkpointNow(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case s.checkpoints <- reply:
		return <-reply
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.checkpointerDone:
		return errors.Join(ErrClosed, s.Err())
	}
}

// syncMeta makes consumer offsets durable. While there is no space for them,
// appends are refused; each further try may find some.
func (s *Store) syncMeta() error {
	kept := s.keepDelayProgress()
	err := metaError(s.meta.Sync()) // also after an error: it may end what that came from
	if err == nil && !errors.Is(kept, ErrDiskFull) {
		err = kept
	}
	if errors.Is(err, ErrDiskFull) {
		err = fmt.Errorf("metadata stalled: %w", err)
		if s.unwritten.Swap(&err) == nil {
			s.o.Logger.Warn("metadata waits for space", "error", err)
			s.stallEvent(err)
			s.kickRetention()
		}
		return nil
	}
	if err == nil && s.unwritten.Swap(nil) != nil {
		s.o.Logger.Info("metadata goes on")
		s.stallEvent(nil)
	}
	return err
}

// saveCheckpoint makes log and queues durable up to where the dispatcher is,
// and then says so, in Stele's marks and in RocketMQ's checkpoint. clean is for
// the last one of a store that is closed.
func (s *Store) saveCheckpoint(clean bool) error {
	// The checkpoint and the marks are mapped.
	return mappedfile.Guard(func() error { return s.writeCheckpoint(clean) })
}

func (s *Store) writeCheckpoint(clean bool) error {
	s.posMu.Lock()
	pos := s.pos
	s.posMu.Unlock()
	if pos == s.session.Safe && s.log.Flushed() == s.session.Flushed && !s.flushAllQueues && !clean {
		return nil
	}
	if err := s.log.WaitFlushed(context.Background(), pos.Offset, 0); err != nil {
		return err
	}
	flush := s.queues.Flush
	if s.flushAllQueues {
		flush = s.queues.FlushAll
	}
	if err := errors.Join(flush(), s.flushDerived()); err != nil {
		return err
	}
	s.flushAllQueues = false
	st := s.session
	st.Safe, st.Flushed, st.Clean = pos, s.log.Flushed(), clean
	if err := s.marks.Save(st); err != nil {
		return err
	}
	s.session = st
	c := &s.checkpoint.value
	c.Log = max(c.Log, s.lastFlushTime.Load(), pos.LastTime)
	c.Queues = max(c.Queues, pos.LastTime)
	c.Confirmed = pos.Offset
	if s.index != nil {
		c.Index = max(c.Index, s.index.set.Durable().Time)
	}
	return s.checkpoint.save()
}
