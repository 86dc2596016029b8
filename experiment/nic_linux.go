// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The questions of SIOCETHTOOL, from linux/ethtool.h.
const (
	ethtoolGetTxChecksum    = 0x16
	ethtoolGetScatterGather = 0x18
)

// lookAtInterface fills in what a network interface can do for sendfile. What it
// does not tell counts as not offered.
func (e *Environment) lookAtInterface(name string) {
	e.Interface = name
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	e.ScatterGather = offers(fd, name, ethtoolGetScatterGather)
	e.ChecksumOffload = offers(fd, name, ethtoolGetTxChecksum)
	_ = unix.Close(fd) // nothing was written
}

// offers asks one question. Its answer is a struct ethtool_value, to which a struct
// ifreq points: x/sys has neither.
func offers(fd int, name string, question uint32) bool {
	value := struct{ command, data uint32 }{command: question}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	return errno == 0 && value.data != 0
}
