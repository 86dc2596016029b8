// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package rebuild

import (
	"errors"
	"os"
)

func clone(_, _ *os.File) error { return errors.ErrUnsupported }

func nextData(_ *os.File, at int64) int64 { return at }

func exchange(_, _ string) error { return errors.ErrUnsupported }
