// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

// Resident is resident, for tests that evict pages.
var Resident = resident
