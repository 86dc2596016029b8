// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"encoding/binary"
	"errors"

	"github.com/stelelog/stele/message"
)

// The first byte of a key says what the entry is. See docs/format/topicmeta.md.
const (
	kindTopic  = 0x01
	kindOffset = 0x02
	kindDelay  = 0x03
	kindTimer  = 0x04
	kindEnd    = 0x05 // above all of them

	offsetSize = 8              // bytes of an offset value
	timerSize  = 5 * offsetSize // bytes of the value of kindTimer
)

var (
	errKey    = errors.New("unknown or short key")
	errOffset = errors.New("offset is not 8 bytes, or negative")
	errTimer  = errors.New("progress of timers is not 40 bytes, or negative")
)

// queueKey names a queue.
type queueKey struct {
	topic string
	queue int32
}

// offsetKey names one group's progress on one queue.
type offsetKey struct {
	group string
	queueKey
}

// appendName appends a name with its length in front. checkName keeps names
// within one byte of length.
func appendName(dst []byte, name string) []byte {
	return append(append(dst, byte(len(name))), name...)
}

func appendTopicKey(dst []byte, name string) []byte {
	return appendName(append(dst, kindTopic), name)
}

func appendOffsetKey(dst []byte, k offsetKey) []byte {
	dst = appendName(append(dst, kindOffset), k.group)
	dst = appendName(dst, k.topic)
	return binary.BigEndian.AppendUint32(dst, uint32(k.queue))
}

func appendDelayKey(dst []byte, level int32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, kindDelay), uint32(level))
}

func appendOffset(dst []byte, off message.QueueOffset) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(off))
}

// cutName reads a name. If it equals last, last is returned: names come in runs.
func cutName(key []byte, last string) (name string, rest []byte, ok bool) {
	if len(key) == 0 || len(key)-1 < int(key[0]) {
		return "", nil, false
	}
	n := int(key[0])
	if string(key[1:1+n]) == last {
		return last, key[1+n:], true
	}
	return string(key[1 : 1+n]), key[1+n:], true
}

// cutID reads a queue id or delay level, which ends a key.
func cutID(key []byte) (int32, bool) {
	if len(key) != 4 {
		return 0, false
	}
	id := int32(binary.BigEndian.Uint32(key))
	return id, id >= 0
}

// The decoders of keys take the key without its first byte.

func decodeTopicKey(key []byte) (string, error) {
	name, rest, ok := cutName(key, "")
	if !ok || len(rest) != 0 {
		return "", errKey
	}
	return name, checkName("topic", name)
}

// decodeOffsetKey shares its names with the key before, which was valid.
func decodeOffsetKey(key []byte, last offsetKey) (offsetKey, error) {
	group, rest, ok1 := cutName(key, last.group)
	topic, rest, ok2 := cutName(rest, last.topic)
	queue, ok3 := cutID(rest)
	if !ok1 || !ok2 || !ok3 {
		return offsetKey{}, errKey
	}
	k := offsetKey{group, queueKey{topic, queue}}
	if group == last.group && topic == last.topic {
		return k, nil
	}
	return k, errors.Join(checkName("group", group), checkName("topic", topic))
}

func decodeDelayKey(key []byte) (int32, error) {
	level, ok := cutID(key)
	if !ok || level == 0 {
		return 0, errKey
	}
	return level, nil
}

func decodeOffset(value []byte) (message.QueueOffset, error) {
	if len(value) != offsetSize {
		return 0, errOffset
	}
	off := message.QueueOffset(binary.BigEndian.Uint64(value))
	if off < 0 {
		return 0, errOffset
	}
	return off, nil
}
