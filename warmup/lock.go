// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup

import "fmt"

// LimitError says that memory can't be locked.
type LimitError struct {
	Need  int64 // bytes that were to be locked
	Limit int64 // RLIMIT_MEMLOCK in bytes, -1 for none, or where it can't be told
	Cause error // what the system said
}

// Error names need and limit, and what would help.
func (e *LimitError) Error() string {
	if e.Limit < 0 {
		return fmt.Sprintf("can't lock %d bytes in memory: %v", e.Need, e.Cause)
	}
	return fmt.Sprintf("can't lock %d bytes in memory: the limit is %d bytes (RLIMIT_MEMLOCK: ulimit -l, or LimitMEMLOCK= of a service) "+
		"and the process has no CAP_IPC_LOCK: %v", e.Need, e.Limit, e.Cause)
}

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Cause }

// Resident returns how many bytes of data lie on pages that are in memory.
func Resident(data []byte) (int64, error) {
	pages, err := Residency(data)
	if err != nil || len(pages) == 0 {
		return 0, err
	}
	n := int64(0)
	for _, p := range pages {
		n += int64(p & 1)
	}
	return min(n*int64(pageSize), int64(len(data))), nil
}
