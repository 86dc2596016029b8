// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"context"

	"github.com/stelelog/stele/warmup"
)

// Warm is what File.Warm looks for.
func (r *osRegion) Warm(ctx context.Context, p warmup.Plan, from, to int64) (warmup.Result, error) {
	if p.Mode == warmup.Touch || p.Mode == warmup.Populate {
		r.warm.Store(true) // before the first page is dirty
	}
	return p.Run(ctx, r.data[from:to])
}

// Unlock is what File.Unlock looks for.
func (r *osRegion) Unlock(from, to int64) error { return warmup.Unlock(r.data[from:to]) }
