// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// DefaultSlice is how much of a range is worked on between two looks at the
// context, in bytes. It takes about half a millisecond, and is the largest unit
// in which Linux maps a file.
const DefaultSlice = 2 << 20

// Plan says what to do with a range. Its zero value does nothing.
type Plan struct {
	// Mode makes the pages present.
	Mode Mode
	// Advise is given first.
	Advise Advice
	// Lock keeps the pages in memory, until Unlock or until they are unmapped.
	Lock bool
	// Slice is how many bytes are worked on at a time; 0 means DefaultSlice.
	Slice int64
}

// Refusal is something that the system would not do.
type Refusal struct {
	// Step is StepPopulate, StepLock, StepResidency, or the name of the advice.
	Step string
	// Cause is what the system said. It wraps errors.ErrUnsupported where there
	// is no such call.
	Cause error
}

// Error says it in words.
func (r Refusal) Error() string { return fmt.Sprintf("%s: %v", r.Step, r.Cause) }

// Unwrap returns the cause.
func (r Refusal) Unwrap() error { return r.Cause }

// Result says what was done, and what it cost.
type Result struct {
	// Mode is how the pages came to be present: Touch where Populate was refused.
	Mode Mode
	// Bytes were worked on, from the start of the range.
	Bytes int64
	// Locked is how many of them are locked, and Resident how many were in memory
	// afterwards.
	Locked, Resident int64
	// MinorFaults and MajorFaults are those of the thread that did it, where the
	// system counts them. A major one waited for the disk.
	MinorFaults, MajorFaults int64
	Took                     time.Duration
	// Refused has each step that was refused once.
	Refused []Refusal
}

// Add adds what another run did to r.
func (r *Result) Add(o Result) {
	if o.Mode != Default {
		r.Mode = o.Mode
	}
	r.Bytes += o.Bytes
	r.Locked += o.Locked
	r.Resident += o.Resident
	r.MinorFaults += o.MinorFaults
	r.MajorFaults += o.MajorFaults
	r.Took += o.Took
	for _, refused := range o.Refused {
		r.Refuse(refused.Step, refused.Cause)
	}
}

// Refuse notes a refusal, and reports whether it is the first of its step.
func (r *Result) Refuse(step string, cause error) bool {
	for _, known := range r.Refused {
		if known.Step == step {
			return false
		}
	}
	r.Refused = append(r.Refused, Refusal{Step: step, Cause: cause})
	return true
}

func (r *Result) refused(step string) bool {
	for _, known := range r.Refused {
		if known.Step == step {
			return true
		}
	}
	return false
}

// ErrGone says that pages of the range can't be had: its file was cut, or the
// disk is full or failed.
var ErrGone = errors.New("pages of the mapping can't be had")

// Run works on data, slice by slice, and yields the processor in between. It
// returns early with the cause of ctx, or with ErrGone; the Result says how far
// it got. Refusals are in the Result and are no error. Other goroutines may read
// and write data meanwhile. It needs a guard against memory faults when the Mode
// is Touch or may come to that.
func (p Plan) Run(ctx context.Context, data []byte) (Result, error) {
	r := Result{Mode: p.Mode}
	slice := int(p.Slice)
	if slice <= 0 {
		slice = DefaultSlice
	}
	for at := 0; at < len(data); at += slice {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		part := data[at:min(at+slice, len(data))]
		if err := p.step(part, &r); err != nil {
			return r, err
		}
		r.Bytes += int64(len(part))
		runtime.Gosched()
	}
	return r, nil
}

// step works on one slice. The thread is locked meanwhile, because the system
// counts faults by thread.
func (p Plan) step(part []byte, r *Result) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	minor, major := faults()
	defer func() {
		r.Took += time.Since(start)
		m, n := faults()
		r.MinorFaults += m - minor
		r.MajorFaults += n - major
	}()
	if p.Advise != NoAdvice && !r.refused(p.Advise.String()) {
		if err := Advise(part, p.Advise); err != nil {
			r.Refuse(p.Advise.String(), err)
		}
	}
	if err := p.fill(part, r); err != nil {
		return err
	}
	if p.Lock && !r.refused(StepLock) {
		if err := Lock(part); err != nil {
			r.Refuse(StepLock, err)
		} else {
			r.Locked += int64(len(part))
		}
	}
	if !r.refused(StepResidency) {
		if n, err := Resident(part); err != nil {
			r.Refuse(StepResidency, err)
		} else {
			r.Resident += n
		}
	}
	return nil
}

// The steps of a plan that may be refused, beside its advice.
const (
	StepPopulate  = "populate"
	StepLock      = "lock"
	StepResidency = "residency"
)

// fill makes the pages of one slice present.
func (p Plan) fill(part []byte, r *Result) error {
	switch {
	case p.Mode == Populate && !r.refused(StepPopulate):
		err := populate(part)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		r.Refuse(StepPopulate, err)
		r.Mode = Touch
		fallthrough
	case p.Mode == Touch || p.Mode == Populate:
		touch(part)
	}
	return nil
}

var pageSize = os.Getpagesize()

// touch dirties each page of which data has an aligned word.
func touch(data []byte) {
	const word = 4
	for at := 0; at < len(data); {
		addr := uintptr(unsafe.Pointer(&data[at]))
		first := at + int(-addr&(word-1))
		if first+word <= len(data) {
			// The cast is of an aligned word that lies in data as a whole.
			atomic.AddUint32((*uint32)(unsafe.Pointer(&data[first])), 0)
		}
		at += pageSize - int(addr&uintptr(pageSize-1))
	}
}
