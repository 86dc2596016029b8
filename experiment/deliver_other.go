// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package experiment

import (
	"context"
	"errors"
	"fmt"
)

// errNotHere is returned where an experiment needs Linux.
var errNotHere = fmt.Errorf("experiment: only Linux has what this measures: %w", errors.ErrUnsupported)

// Deliver needs Linux.
func Deliver(context.Context, DeliverConfig) (*Report, error) { return nil, errNotHere }

// Receive needs Linux.
func Receive(context.Context, string, int) error { return errNotHere }
