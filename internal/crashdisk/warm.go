// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"context"

	"github.com/stelelog/stele/warmup"
)

// Warm touches the pages of a range beside whoever writes to them: the interface
// that mappedfile.File.Warm looks for. It is no operation of the disk, changes
// no byte and makes nothing durable. It locks nothing and advises nothing,
// because the pages are Go's. Under the race detector it does nothing: that takes
// a touch beside a plain write for a race, which it is not to a processor.
func (r *region) Warm(ctx context.Context, p warmup.Plan, from, to int64) (warmup.Result, error) {
	p.Lock, p.Advise = false, warmup.NoAdvice
	if p.Mode == warmup.Populate {
		p.Mode = warmup.Touch
	}
	if raceEnabled {
		return warmup.Result{Mode: p.Mode, Bytes: to - from}, nil
	}
	return p.Run(ctx, r.data[from:to])
}
