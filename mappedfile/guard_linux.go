// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// mappedAt returns the path of the file that is mapped at an address, or "".
// The kernel knows it, so nobody else has to keep a table.
func mappedAt(addr uintptr) string {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n != 2 || addr < from || addr >= to {
			continue
		}
		// Five fields and blanks come before the path.
		if i := strings.IndexByte(lines.Text(), '/'); i >= 0 {
			return strings.TrimSuffix(lines.Text()[i:], " (deleted)")
		}
		return ""
	}
	return ""
}
