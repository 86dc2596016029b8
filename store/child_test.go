// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

func runChild(string) int { return 0 }
