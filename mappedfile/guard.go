// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrFault is what a FaultError wraps.
var ErrFault = errors.New("memory fault")

// FaultError says that a mapped page could not be had: another process cut the
// file, or the disk could not deliver it.
type FaultError struct {
	// Path is the file that is mapped at Addr, "" where that can't be told.
	Path string
	Addr uintptr
	// Cause is what the runtime said.
	Cause error
}

// Error implements error.
func (e *FaultError) Error() string {
	path := e.Path
	if path == "" {
		path = "a mapped file"
	}
	return fmt.Sprintf("%s: %v: its bytes at address %#x can't be read or written; was the file cut?", path, ErrFault, e.Addr)
}

// Unwrap returns ErrFault and the cause.
func (e *FaultError) Unwrap() []error { return []error{ErrFault, e.Cause} }

// Guard runs do, which touches mapped bytes, and turns a fault in them into a
// *FaultError. Without it the fault ends the process. Every other panic goes on.
//
// Only what do does on this goroutine is guarded. After a fault whatever do was
// writing is written in part; the locks and references that it held are its own
// to give back, by defer. Guard allocates nothing and takes a few nanoseconds.
func Guard(do func() error) (err error) {
	defer Disarm(Arm(), &err)
	return do()
}

// Arm and Disarm are Guard without a function, for the few places where a
// closure costs too much. From Arm on a fault is a panic; the deferred Disarm
// sets *err to a FaultError if there was one:
//
//	defer mappedfile.Disarm(mappedfile.Arm(), &err)
func Arm() (before bool) { return debug.SetPanicOnFault(true) }

// Disarm ends what Arm began. It must be deferred itself.
func Disarm(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		*err = asFault(r)
	}
}

// asFault is the error for a recovered panic. One that is no fault goes on.
func asFault(r any) error {
	fault, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		panic(r)
	}
	return &FaultError{Path: mappedAt(fault.Addr()), Addr: fault.Addr(), Cause: fault}
}
