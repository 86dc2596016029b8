// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary serve as storectl for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"storectl": main})
}
