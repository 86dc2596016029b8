// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"

	"github.com/stelelog/stele/message"
)

// Same reports whether b is a copy of a: equal in all that a copy keeps. The
// checksum over the record, a separator at the end of the properties, the bits
// that tell the form of the hosts, and the unset born host of a message that never
// was in a store may differ.
func Same(a, b *message.Message) bool {
	const hosts = message.BornHostV6 | message.StoreHostV6
	return a.Topic == b.Topic && a.QueueID == b.QueueID && a.Flag == b.Flag && a.SysFlag&^hosts == b.SysFlag&^hosts &&
		a.BornTimestamp == b.BornTimestamp && a.BornHost == b.BornHost && a.ReconsumeTimes == b.ReconsumeTimes &&
		a.PreparedTransactionOffset == b.PreparedTransactionOffset &&
		bytes.Equal(a.Body, b.Body) && samePairs(a.Properties.Encoded(), b.Properties.Encoded())
}

// samePairs compares two blocks of properties piece by piece.
func samePairs(a, b []byte) bool {
	for {
		var x, y []byte
		x, a = nextPair(a)
		y, b = nextPair(b)
		if !bytes.Equal(x, y) {
			return false
		}
		if x == nil && y == nil {
			return true
		}
	}
}

// nextPair cuts the first piece off a block; nil when none is left. The pseudo
// property of the record's checksum, and what is empty, is passed over.
func nextPair(block []byte) (pair, rest []byte) {
	for len(block) > 0 {
		pair, block, _ = bytes.Cut(block, []byte{0x02})
		if len(pair) > 0 && !bytes.HasPrefix(pair, []byte("__CRC32#\x01")) {
			return pair, block
		}
	}
	return nil, nil
}
