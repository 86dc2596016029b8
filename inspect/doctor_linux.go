// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What is said about kinds of file systems.
const (
	overNetwork = ", which is on another machine"
	localDisk   = "put the store on a local disk: neither mappings nor locks are reliable over a network, and a flush may not reach the disk"
	copies      = ", which writes each block to a new place"
	copyAdvice  = "leave room: blocks that were reserved do not keep a write from failing on a full disk there"
)

// fileSystems has the numbers of statfs(2).
var fileSystems = map[int64]fileSystem{
	unix.EXT4_SUPER_MAGIC:  {name: "ext4", level: LevelOK},
	unix.XFS_SUPER_MAGIC:   {name: "xfs", level: LevelOK},
	unix.F2FS_SUPER_MAGIC:  {name: "f2fs", level: LevelOK},
	unix.BTRFS_SUPER_MAGIC: {name: "btrfs", level: LevelNote, why: copies, advice: copyAdvice + "; chattr +C for a new directory turns it off"},
	0x2fc12fc1:             {name: "zfs", level: LevelNote, why: copies, advice: copyAdvice},
	unix.TMPFS_MAGIC:       {name: "tmpfs", level: LevelNote, why: ", which is memory", advice: "know that nothing there survives a reboot"},
	unix.RAMFS_MAGIC:       {name: "ramfs", level: LevelNote, why: ", which is memory", advice: "know that nothing there survives a reboot"},
	unix.OVERLAYFS_SUPER_MAGIC: {
		name: "overlayfs", level: LevelNote, why: ", the layers of a container",
		advice: "mount a volume for the store: what is in a layer goes with the container",
	},
	unix.FUSE_SUPER_MAGIC:  {name: "fuse", level: LevelNote, why: ", a program's own", advice: "find out what it keeps of mappings and flushes, or put the store on a local disk"},
	unix.NFS_SUPER_MAGIC:   {name: "nfs", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.SMB_SUPER_MAGIC:   {name: "smb", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.SMB2_SUPER_MAGIC:  {name: "smb2", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.CIFS_SUPER_MAGIC:  {name: "cifs", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.V9FS_MAGIC:        {name: "9p", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.CEPH_SUPER_MAGIC:  {name: "ceph", level: LevelProblem, why: overNetwork, advice: localDisk},
	unix.MSDOS_SUPER_MAGIC: {name: "vfat", level: LevelProblem, why: ", which has no holes and no rights", advice: "put the store on ext4 or xfs"},
}

// fileSystemOf looks up what a directory is on.
func fileSystemOf(dir string) fileSystem {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fileSystem{name: "a file system that does not tell what it is", level: LevelNote, advice: err.Error()}
	}
	kind := int64(st.Type) //nolint:unconvert // its type differs by platform
	if k, ok := fileSystems[kind]; ok {
		return k
	}
	return fileSystem{name: fmt.Sprintf("a file system of type %#x", kind), level: LevelNote, advice: "find out whether mappings and flushes are reliable there: it is none of those that are known here"}
}

// maxMapCount is how many mappings the kernel lets a process have.
func maxMapCount() (int64, bool) {
	b, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// limitsOf reads the limits of a process, and false where that is not allowed.
func limitsOf(pid int) (limits, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return limits{}, false
	}
	return parseLimits(b)
}

// parseLimits reads /proc/PID/limits: a table with a name, the soft limit, the
// hard one and a unit in each line.
func parseLimits(b []byte) (l limits, ok bool) {
	found := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		for name, to := range map[string]*int64{"Max open files": &l.files, "Max locked memory": &l.locked} {
			rest, is := strings.CutPrefix(s.Text(), name+" ")
			fields := strings.Fields(rest)
			if !is || len(fields) == 0 {
				continue
			}
			if *to = unlimited; fields[0] != "unlimited" {
				n, err := strconv.ParseInt(fields[0], 10, 64)
				if err != nil {
					return l, false
				}
				*to = n
			}
			found++
		}
	}
	return l, found == 2
}
