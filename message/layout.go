// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"net/netip"
)

// The magic numbers at byte 4 of a record.
const (
	MagicV1     uint32 = 0xDAA320A7 // topic length in one byte
	MagicV2     uint32 = 0xDAA320AB // topic length in two bytes
	MagicFiller uint32 = 0xCBD43194 // closes a full file
)

// Limits of the format, in bytes unless they say otherwise.
const (
	// FillerSize is the length of the filler that closes a full file.
	FillerSize = 8
	// MinRecordSize is the shortest record: IPv4 hosts, a topic of one byte, nothing else.
	MinRecordSize = headerLen + 2*hostLenV4 + afterHosts + 4 + 1 + 1 + 2
	// MaxTopicLen is the longest ordinary topic name.
	MaxTopicLen = 127
	// MaxRetryTopicLen is the longest name that begins with %RETRY% or %DLQ%.
	MaxRetryTopicLen = 255
	// MaxPropertiesLen is the longest property block, the property CRC included.
	MaxPropertiesLen = 1<<15 - 1
	// PropertyCRCLen is what the property CRC adds to a record.
	PropertyCRCLen = len(PropertyCRC32) + 1 + crcDigits + 1
	// DefaultMaxBodyLen is the limit of a body unless an Encoder says otherwise
	// (maxMessageSize in MessageStoreConfig.java).
	DefaultMaxBodyLen = 4 << 20
	// MaxQueueID is the highest queue id that the record can hold.
	MaxQueueID = 1<<31 - 1
)

// Where the fields before the hosts start; what follows depends on the hosts' lengths.
const (
	atSize           = 0
	atMagic          = 4
	atBodyCRC        = 8
	atQueueID        = 12
	atFlag           = 16
	atQueueOffset    = 20
	atPhysicalOffset = 28
	atSysFlag        = 36
	atBornTimestamp  = 40
	atBornHost       = 48

	// headerLen counts every field before the body but the hosts and what follows the second.
	headerLen  = atBornHost + 8 // with STORETIMESTAMP, which lies between the hosts
	afterHosts = 4 + 8          // RECONSUMETIMES, PREPAREDTRANSACTIONOFFSET

	hostLenV4 = 4 + 4
	hostLenV6 = 16 + 4
	maxPort   = 1<<16 - 1
	maxSize   = 1<<31 - 1

	crcMask   = 1<<31 - 1
	crcDigits = 10
	crcStart  = PropertyCRC32 + "\x01" // what the property CRC begins with
)

// hostLen returns how many bytes a host takes: bit is BornHostV6 or StoreHostV6.
func hostLen(f, bit SysFlag) int {
	if f&bit != 0 {
		return hostLenV6
	}
	return hostLenV4
}

// hostIsV4 reports whether h is stored in four bytes: an IPv4-mapped address is, and an
// invalid host, as 0.0.0.0:0.
func hostIsV4(h *netip.AddrPort) bool {
	a := h.Addr()
	return !a.Is6() || a.Is4In6()
}

func appendHost(b []byte, h *netip.AddrPort, v4 bool) []byte {
	switch {
	case !h.IsValid():
		return append(b, make([]byte, hostLenV4)...)
	case v4:
		a := h.Addr().As4()
		b = append(b, a[:]...)
	default:
		a := h.Addr().As16()
		b = append(b, a[:]...)
	}
	return binary.BigEndian.AppendUint32(b, uint32(h.Port()))
}

// endsInCRC reports whether a property block ends in a property CRC of its own. The pair
// must start where a pair can: another pair's value may look like it.
func endsInCRC(block []byte) bool {
	start := len(block) - PropertyCRCLen
	if start < 0 || block[len(block)-1] != valueEnd || string(block[start:start+len(crcStart)]) != crcStart {
		return false
	}
	return start == 0 || block[start-1] == valueEnd
}

// putDigits writes v in decimal, least significant digit first, filled up with zeros.
// That is how RocketMQ writes the property CRC.
func putDigits(b []byte, v uint32) {
	_ = b[crcDigits-1]
	// By twos: each division by 100 waits for the one before it.
	for i := 0; i < crcDigits; i += 2 {
		q := v / 100
		two := v - 100*q
		b[i], b[i+1] = '0'+byte(two%10), '0'+byte(two/10)
		v = q
	}
}

// readDigits reads what putDigits wrote; ok is false when one is not a digit.
func readDigits(b []byte) (v int64, ok bool) {
	for i := crcDigits - 1; i >= 0; i-- {
		if b[i] < '0' || b[i] > '9' {
			return 0, false
		}
		v = 10*v + int64(b[i]-'0')
	}
	return v, true
}
