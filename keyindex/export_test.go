// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import "github.com/stelelog/stele/message"

// PutHash puts an entry by its hash.
func (s *Set) PutHash(hash int32, off message.Offset, storeTime int64) error {
	s.lastOffset, s.lastCount = off, 1
	return s.tail.put(s.image, hash, off, storeTime)
}
