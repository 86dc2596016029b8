// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/stelelog/stele/message"

// SetUndelivered says, in place of the delivery of delayed messages, where the
// first one lies that is pending. It is called before the first Expire.
func (s *Store) SetUndelivered(f func() (message.Offset, bool)) { s.retainer.undelivered = f }
