// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package fusefs

import "time"

// Main does nothing: there is no server on this system.
func Main() {}

// Now is the time since some moment in nanoseconds.
func Now() int64 { return int64(time.Since(start)) }

var start = time.Now()
