// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// span returns the whole pages that data lies on.
func span(data []byte) (addr, n uintptr) {
	page := uintptr(pageSize)
	addr = uintptr(unsafe.Pointer(&data[0]))
	end := (addr + uintptr(len(data)) + page - 1) &^ (page - 1)
	addr &^= page - 1
	return addr, end - addr
}

// onPages calls one of the system calls that take a range of pages.
func onPages(call uintptr, data []byte, arg uintptr) error {
	if len(data) == 0 {
		return nil
	}
	addr, n := span(data)
	for {
		_, _, errno := unix.Syscall(call, addr, n, arg)
		runtime.KeepAlive(data)
		switch errno {
		case 0:
			return nil
		case unix.EINTR, unix.EAGAIN:
			// A signal, or a page that moves just now.
		default:
			return errno
		}
	}
}

// populate makes pages present for writing, as if each had been written to.
func populate(data []byte) error {
	err := onPages(unix.SYS_MADVISE, data, unix.MADV_POPULATE_WRITE)
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("MADV_POPULATE_WRITE (Linux 5.14): %w: %w", errors.ErrUnsupported, err)
	case err != nil:
		return fmt.Errorf("%w: MADV_POPULATE_WRITE: %w", ErrGone, err)
	}
	return nil
}

// CanPopulate says why the kernel has no MADV_POPULATE_WRITE, or returns nil.
func CanPopulate() error {
	data, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	return errors.Join(populate(data), unix.Munmap(data))
}

var advices = [...]uintptr{
	WillNeed: unix.MADV_WILLNEED, Random: unix.MADV_RANDOM, Sequential: unix.MADV_SEQUENTIAL,
	DontNeed: unix.MADV_DONTNEED, Cold: unix.MADV_COLD,
}

// Advise tells the kernel how the pages that data lies on will be used. data
// must be a mapping of a file: DontNeed would clear any other memory.
func Advise(data []byte, a Advice) error {
	if a == NoAdvice || int(a) >= len(advices) {
		return nil
	}
	if err := onPages(unix.SYS_MADVISE, data, advices[a]); err != nil {
		return fmt.Errorf("madvise: %w", err)
	}
	return nil
}

// Lock keeps the pages that data lies on in memory, and has those read that are
// not there. An error is mostly a *LimitError.
func Lock(data []byte) error {
	if err := onPages(unix.SYS_MLOCK, data, 0); err != nil {
		return limitError(int64(len(data)), err)
	}
	return nil
}

// Unlock ends Lock. Locks don't nest: once is enough, also for a part of what
// was locked.
func Unlock(data []byte) error {
	if err := onPages(unix.SYS_MUNLOCK, data, 0); err != nil {
		return fmt.Errorf("munlock: %w", err)
	}
	return nil
}

// CanLock returns nil when n more bytes could be locked now, else a *LimitError.
// It asks the kernel, with memory that it reserves, never uses and gives back.
func CanLock(n int64) error {
	if n <= 0 {
		return nil
	}
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	data, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ, flags)
	if err != nil {
		return limitError(n, err)
	}
	// On fault, so that no page is made: the limit is looked at all the same.
	err = onPages(unix.SYS_MLOCK2, data, unix.MLOCK_ONFAULT)
	if err != nil {
		err = limitError(n, err)
	}
	return errors.Join(err, unix.Munmap(data))
}

func limitError(n int64, cause error) error {
	e := &LimitError{Need: n, Limit: -1, Cause: cause}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur < 1<<63 {
		e.Limit = int64(limit.Cur)
	}
	return e
}

// Residency returns a byte for each page that data lies on, whose lowest bit
// says whether the page is in memory. For a file that the process could not
// write, the kernel says that all are.
func Residency(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, nil
	}
	addr, n := span(data)
	pages := make([]byte, n/uintptr(pageSize))
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, addr, n, uintptr(unsafe.Pointer(&pages[0])))
	runtime.KeepAlive(data)
	if errno != 0 {
		return nil, fmt.Errorf("mincore: %w", errno)
	}
	return pages, nil
}

// faults returns the page faults of this thread since it began.
func faults() (minor, major int64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0, 0
	}
	return int64(u.Minflt), int64(u.Majflt) //nolint:unconvert // 32 bits wide on some platforms
}
