// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"fmt"
	"runtime"
)

// Environment is where figures were measured. A text is empty, and a number 0,
// where it could not be found out.
type Environment struct {
	OS         string `json:"os"` // linux/amd64
	Kernel     string `json:"kernel"`
	CPU        string `json:"cpu"` // model
	CPUs       int    `json:"cpus"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	Memory     int64  `json:"memoryBytes"`
	Go         string `json:"go"`
	Dir        string `json:"dir"`
	FileSystem string `json:"fileSystem"` // of Dir: ext4, xfs, tmpfs
	// MemlockBytes is the soft RLIMIT_MEMLOCK: -1 is no limit.
	MemlockBytes int64 `json:"memlockBytes"`
	// Congestion is the TCP congestion control, where sockets were measured.
	Congestion string `json:"congestionControl,omitempty"`
	// Interface is the network interface then, and whether it takes scattered pages
	// and computes checksums: sendfile has to copy where it does not.
	Interface       string `json:"interface,omitempty"`
	ScatterGather   bool   `json:"scatterGather,omitempty"`
	ChecksumOffload bool   `json:"checksumOffload,omitempty"`
}

// Look returns the environment of measurements in dir.
func Look(dir string) Environment {
	e := Environment{
		OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Dir: dir,
		CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
	}
	e.look(dir)
	return e
}

// Facts returns the environment as pairs of name and value, for people.
func (e Environment) Facts() [][2]string {
	facts := [][2]string{
		{"CPU", fmt.Sprintf("%s, %d CPUs, GOMAXPROCS %d", orUnknown(e.CPU), e.CPUs, e.GOMAXPROCS)},
		{"Memory", bytesOrUnknown(e.Memory)},
		{"Kernel", orUnknown(e.Kernel) + ", " + e.OS},
		{"File system", orUnknown(e.FileSystem) + " at " + e.Dir},
		{"Memlock", memlock(e.MemlockBytes)},
		{"Go", e.Go},
	}
	if e.Congestion != "" {
		facts = append(facts, [2]string{"Congestion control", e.Congestion})
	}
	if e.Interface != "" {
		offered := map[bool]string{true: "yes", false: "no"}
		facts = append(facts, [2]string{"Interface", fmt.Sprintf("%s, scatter-gather %s, checksum offload %s",
			e.Interface, offered[e.ScatterGather], offered[e.ChecksumOffload])})
	}
	return facts
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func bytesOrUnknown(n int64) string {
	if n == 0 {
		return "unknown"
	}
	return formatBytes(n)
}

func memlock(n int64) string {
	if n < 0 {
		return "no limit"
	}
	return formatBytes(n)
}

// formatBytes writes a size with the largest binary unit that it fills.
func formatBytes(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d %ciB", int64(v), units[i])
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
