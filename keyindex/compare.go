// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"bytes"
	"math"

	"github.com/stelelog/stele/message"
)

// AppendHashes appends the hashes of a record's keys to dst, in the order of
// their entries: that of its UNIQ_KEY and of each word of its KEYS. A rollback has
// no entries.
func AppendHashes(dst []int32, m *message.Message) []int32 {
	_, uniq, keys := m.Properties.Indexed()
	return AppendHashesOf(dst, m, uniq, keys)
}

// AppendHashesOf is AppendHashes for who has the values of the record's UNIQ_KEY and
// KEYS at hand, nil for none.
func AppendHashesOf(dst []int32, m *message.Message, uniq, keys []byte) []int32 {
	if len(uniq) == 0 && len(keys) == 0 || m.SysFlag.Transaction() == message.TransactionRollback {
		return dst
	}
	topic := message.HashOn(message.HashString(m.Topic), sharp)
	if len(uniq) > 0 {
		dst = append(dst, positive(message.HashOn(topic, uniq)))
	}
	for len(keys) > 0 {
		var key []byte
		if key, keys, _ = bytes.Cut(keys, space); len(key) > 0 {
			dst = append(dst, positive(message.HashOn(topic, key)))
		}
	}
	return dst
}

var sharp = []byte{'#'}

// Seconds is how far a store time lies behind the begin of a file, as an entry of
// the file has it; both are in milliseconds.
func Seconds(begin, storeTime int64) int32 {
	if begin <= 0 {
		return 0
	}
	return int32(min(max((storeTime-begin)/1000, 0), math.MaxInt32))
}

// Drop unmaps the file; its next use maps it again. It must not run beside any
// other use of the file: it is for who goes through many files, one by one.
func (f *File) Drop() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.region
	if r == nil || f.refs.Load() != 1 {
		return nil
	}
	f.data.Store(nil)
	f.region = nil
	return r.Close()
}
