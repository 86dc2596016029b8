// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package fusefs

// Main does nothing: there is no server on this system.
func Main() {}
