// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package inspect

// fileSystemOf knows none here.
func fileSystemOf(string) fileSystem {
	return fileSystem{name: "a file system that is not known here", level: LevelNote, advice: "find out whether mappings and flushes are reliable there"}
}

func maxMapCount() (int64, bool) { return 0, false }

func limitsOf(int) (limits, bool) { return limits{}, false }
