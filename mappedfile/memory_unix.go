// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// osMemory is anonymous memory of the operating system. No page of it exists
// before it is written or locked.
type osMemory struct{ data mmap.MMap }

func (osDisk) Memory(size int64) (Memory, error) {
	if size <= 0 || size > int64(maxInt) {
		return nil, fmt.Errorf("%d bytes of memory: %w", size, syscall.EINVAL)
	}
	data, err := mmap.MapRegion(nil, int(size), mmap.RDWR, mmap.ANON, 0)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", size, err)
	}
	return &osMemory{data: data}, nil
}

func (m *osMemory) Bytes() []byte { return m.data }

func (m *osMemory) Lock(off, n int64) error {
	b := m.data[off : off+n]
	if err := unix.Mlock(b); err != nil {
		populate(b)
		return fmt.Errorf("lock %d bytes of memory: %w", n, err)
	}
	return nil
}

// Free unmaps it, which unlocks it, too.
func (m *osMemory) Free() error {
	if m.data == nil {
		return errors.New("memory freed twice")
	}
	return m.data.Unmap()
}
