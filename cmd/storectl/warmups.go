// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// warmupMode is what is warmed up, as a flag. store.WarmupOptions say it with
// two fields.
type warmupMode string

const warmupUsage = "what is warmed up: off, touch, populate (whole files), window (ahead of the write position)"

func (m *warmupMode) String() string { return string(*m) }
func (m *warmupMode) Type() string   { return "WARMUP" }

func (m *warmupMode) Set(s string) error {
	switch s {
	case "off", "touch", "populate", "window":
		*m = warmupMode(s)
		return nil
	}
	return errors.New("must be off, touch, populate or window")
}

// options is what the store is told. What is off has neither lock nor advice.
func (m warmupMode) options(lock bool, advise warmup.Advice) store.WarmupOptions {
	o := store.WarmupOptions{Lock: lock, Advise: advise}
	switch m {
	case "off":
		return store.WarmupOptions{Mode: warmup.Off}
	case "touch":
		o.Mode = warmup.Touch
	case "populate":
		o.Mode = warmup.Populate
	case "window":
		o.Mode = warmup.Default
	}
	return o
}
