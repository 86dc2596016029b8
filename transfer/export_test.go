// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import "time"

// SaveOften has a replay save its state after each message.
func (r *Replay) SaveOften() { r.every = time.Nanosecond }
