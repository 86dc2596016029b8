// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"os"
	"syscall"
)

// allocated is how much of the disk a file takes, in bytes.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
