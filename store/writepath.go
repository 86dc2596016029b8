// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/warmup"
)

// WritePath is how a message gets into the log's files.
//
//	            acknowledged without a flush    can be read       a kill takes
//	WriteMmap   in the page cache               at once           nothing
//	WriteFile   in the page cache               at once           nothing
//	WritePool   in a locked buffer              once committed    what is not committed
//
// With FlushSync an acknowledged message is on disk, whatever the path.
type WritePath = commitlog.WritePath

const (
	// WriteDefault is DefaultWritePath of the other options.
	WriteDefault = commitlog.WriteDefault
	// WriteMmap copies the message into the mapping of the file.
	WriteMmap = commitlog.WriteMmap
	// WritePool copies it into a buffer in locked memory, from which it is
	// written into the file in the background: RocketMQ's transient store pool.
	// An append never meets a cold page, or one that is being written back. With
	// FlushAsync the death of the process takes what was not committed yet.
	WritePool = commitlog.WritePool
	// WriteFile writes it through the file's descriptor, together with what others
	// append at the same time, and with FlushSync once for each flush.
	WriteFile = commitlog.WriteFile
)

// DefaultWritePath is the write path of a store with the given options that does
// not set one: WriteFile with FlushSync, where it is the fastest (a flush
// write-protects the pages of a mapping, and each is a fault for the next
// append), unless warm-up is asked for, which is for mappings; else WriteMmap.
func DefaultWritePath(mode FlushMode, w WarmupOptions) WritePath {
	asked := w.Lock || w.Require || w.Window > 0 || w.Mode == warmup.Touch || w.Mode == warmup.Populate
	if mode == FlushSync && !asked {
		return WriteFile
	}
	return WriteMmap
}

// ParseWritePath returns the write path with the given name: "default", "mmap",
// "pool" or "file". The error wraps ErrOptions.
func ParseWritePath(name string) (WritePath, error) {
	p, err := commitlog.ParseWritePath(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return p, nil
}

// PoolStats says how the buffers of WritePool are doing; zeros with another path.
type PoolStats struct {
	Buffers     int   // how many there are
	Free        int   // how many of them no file has borrowed
	BufferSize  int64 // bytes of each
	LockedBytes int64 // bytes of all of them that are locked in memory
	// Fallbacks counts the files that had to be written through their mapping,
	// because no buffer was free.
	Fallbacks int64
	// LockRefused is why the memory is not locked, or not all of it; nil if it is.
	LockRefused error
}

func (s *Store) poolStats() PoolStats {
	p := s.log.PoolStats()
	return PoolStats{
		Buffers: p.Buffers, Free: p.Free, BufferSize: p.BufferSize,
		LockedBytes: p.LockedBytes, Fallbacks: p.Empty, LockRefused: p.Refused,
	}
}

func (s *Store) onPoolEmpty(info commitlog.PoolInfo) {
	s.o.Logger.Warn("no buffer of the pool is free; a file is written through its mapping",
		"file", info.Path, "buffers", info.Stats.Buffers)
	if f := s.o.Events.PoolEmpty; f != nil {
		f(info)
	}
}

func (s *Store) onLockRefused(err error) {
	s.o.Logger.Warn("the memory of the pool is not locked and can be paged out", "error", err)
	if f := s.o.Events.LockRefused; f != nil {
		f(err)
	}
}
