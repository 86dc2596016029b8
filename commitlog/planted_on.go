// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build plantedbug

package commitlog

import "os"

// PlantedBugEnv is the environment variable that names the bug that is planted.
const PlantedBugEnv = "STELE_PLANTED_BUG"

// The bugs that store's histories must catch, each within so many histories. No
// binary that anybody uses is built with this tag.
const (
	plantedAck  = plant("ack")  // acknowledge before the flush
	plantedCRC  = plant("crc")  // no checksums on recovery
	plantedTail = plant("tail") // what stands behind the end is not zeroed
)

type plant string

func (p plant) on() bool { return os.Getenv(PlantedBugEnv) == string(p) }
