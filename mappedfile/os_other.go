// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package mappedfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// blockUnit is what statfs counts blocks in.
func blockUnit(st *unix.Statfs_t) int64 { return int64(st.Bsize) }

func fdatasync(f *os.File) error { return f.Sync() }

func reserve(f *os.File, data []byte, off, n int64) error { return writeSame(f, data, off, n) }

func zeroRange(f *os.File, data []byte, off, n int64) error { return zeroMapped(f, data, off, n) }

// populate would make the pages of b present; here the first write to each does.
func populate([]byte) {}

// unmapPages would take the pages of b out of the page table.
func unmapPages([]byte) {}
