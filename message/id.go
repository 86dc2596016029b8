// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

const (
	idLenV4 = 4 + 4 + 8
	idLenV6 = 16 + 4 + 8
)

// FormatID returns the message id that RocketMQ calls offsetMsgId: address, port (4
// bytes) and position in the commit log as upper-case hex; 32 characters for an IPv4
// store host, 56 for IPv6. An IPv4-mapped address counts as IPv4 and an invalid host as
// 0.0.0.0:0, as they do in a record.
func FormatID(host netip.AddrPort, off Offset) string {
	var buf [idLenV6]byte
	b := appendHost(buf[:0], &host, hostIsV4(&host))
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	return strings.ToUpper(hex.EncodeToString(b))
}

// ParseID takes an id of FormatID apart. It accepts lower-case hex, as RocketMQ does.
// The error wraps ErrBadID when the length, a digit, the port or the offset is impossible.
func ParseID(id string) (netip.AddrPort, Offset, error) {
	if len(id) != 2*idLenV4 && len(id) != 2*idLenV6 {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: %d characters, must be %d or %d", ErrBadID, len(id), 2*idLenV4, 2*idLenV6)
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: %w", ErrBadID, err)
	}
	hostLen := len(b) - 8
	port := binary.BigEndian.Uint32(b[hostLen-4:])
	if port > maxPort {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: port %d is above %d", ErrBadID, port, maxPort)
	}
	off := Offset(binary.BigEndian.Uint64(b[hostLen:]))
	if off < 0 {
		return netip.AddrPort{}, 0, fmt.Errorf("%w: offset %d is negative", ErrBadID, off)
	}
	addr, _ := netip.AddrFromSlice(b[:hostLen-4]) // 4 or 16 bytes, so it cannot fail
	return netip.AddrPortFrom(addr, uint16(port)), off, nil
}
