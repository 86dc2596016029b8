// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"io/fs"
	"syscall"

	"github.com/stelelog/stele/mappedfile"
)

// memory is plain memory: what is in it is in no clone.
type memory struct {
	disk *Disk
	data []byte
}

// Memory implements mappedfile.Disk.
func (d *Disk) Memory(size int64) (mappedfile.Memory, error) {
	err := d.begin(OpMemory, "")
	defer d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if size <= 0 {
		return nil, syscall.EINVAL
	}
	return &memory{disk: d, data: make([]byte, size)}, nil
}

// Bytes implements mappedfile.Memory.
func (m *memory) Bytes() []byte { return m.data }

// Lock implements mappedfile.Memory.
func (m *memory) Lock(off, n int64) error {
	err := m.disk.begin(OpLockMemory, "")
	defer m.disk.mu.Unlock()
	if err == nil && (off < 0 || n < 0 || off > int64(len(m.data))-n) {
		return syscall.ENOMEM
	}
	return err
}

// Free implements mappedfile.Memory. The bytes are overwritten, so that a use
// after it is found.
func (m *memory) Free() error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.data == nil {
		return fs.ErrClosed
	}
	for i := range m.data {
		m.data[i] = 0xDB
	}
	m.data = nil
	return nil
}
