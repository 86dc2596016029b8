// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import "context"

// VerifyInStrips is Verify with strips of another length.
func (d *Dir) VerifyInStrips(ctx context.Context, size int64, report func(*Finding) error) (Verified, error) {
	v := newVerifier(ctx, d, report)
	v.strip = size
	err := v.run()
	return v.sum, err
}
