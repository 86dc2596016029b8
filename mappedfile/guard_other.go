// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package mappedfile

// mappedAt returns the path of the file that is mapped at an address, or "".
func mappedAt(uintptr) string { return "" }
