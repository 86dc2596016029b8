// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !plantedbug

package commitlog

// The bugs that store's histories must catch: see planted_on.go. Here they are
// constants, and what they would do is not compiled.
const (
	plantedAck  = plant(false)
	plantedCRC  = plant(false)
	plantedTail = plant(false)
)

type plant bool

func (p plant) on() bool { return bool(p) }
