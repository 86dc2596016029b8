// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package crashdisk

const raceEnabled = false
