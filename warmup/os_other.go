// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package warmup

import (
	"errors"
	"fmt"
)

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, errors.ErrUnsupported) }

func populate([]byte) error { return CanPopulate() }

// CanPopulate says why the kernel has no MADV_POPULATE_WRITE.
func CanPopulate() error { return unsupported("MADV_POPULATE_WRITE") }

// Advise is for Linux.
func Advise([]byte, Advice) error { return unsupported("madvise") }

// Lock is for Linux.
func Lock([]byte) error { return unsupported("mlock") }

// Unlock is for Linux.
func Unlock([]byte) error { return unsupported("munlock") }

// CanLock says why n bytes can't be locked: this system has no support here.
func CanLock(n int64) error { return &LimitError{Need: n, Limit: -1, Cause: unsupported("mlock")} }

// Residency is for Linux.
func Residency([]byte) ([]byte, error) { return nil, unsupported("mincore") }

func faults() (minor, major int64) { return 0, 0 }
