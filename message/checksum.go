// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"hash/crc32"
)

// checksum is the CRC of the format: CRC-32 (IEEE) without its sign bit.
func checksum(b []byte) uint32 { return crc(b) & crcMask }

// block is what hash/crc32 takes in one step of the processor's instruction for it.
const block = 16

// crc is crc32.ChecksumIEEE, which goes over what is left behind the last whole
// block byte by byte: up to 15 bytes that cost as much as half of a body of 1 KiB.
// Here that takes two steps and up to three bytes.
func crc(b []byte) uint32 {
	whole := len(b) &^ (block - 1)
	sum := ^crc32.ChecksumIEEE(b[:whole])
	rest := b[whole:]
	if len(rest) >= 8 {
		low := sum ^ binary.LittleEndian.Uint32(rest)
		high := binary.LittleEndian.Uint32(rest[4:])
		sum = slices8[7][byte(low)] ^ slices8[6][byte(low>>8)] ^ slices8[5][byte(low>>16)] ^ slices8[4][low>>24] ^
			slices8[3][byte(high)] ^ slices8[2][byte(high>>8)] ^ slices8[1][byte(high>>16)] ^ slices8[0][high>>24]
		rest = rest[8:]
	}
	if len(rest) >= 4 {
		low := sum ^ binary.LittleEndian.Uint32(rest)
		sum = slices8[3][byte(low)] ^ slices8[2][byte(low>>8)] ^ slices8[1][byte(low>>16)] ^ slices8[0][low>>24]
		rest = rest[4:]
	}
	for _, c := range rest {
		sum = slices8[0][byte(sum)^c] ^ sum>>8
	}
	return ^sum
}

// slices8 are the tables of slicing by 8 (Kounavis and Berry, "Novel Table
// Lookup-Based Algorithms for High-Performance CRC Generation", 2008): entry c of
// table n is the CRC of the byte c with n zeros behind it.
var slices8 = func() (t [8][256]uint32) {
	t[0] = *crc32.IEEETable
	for c := range 256 {
		for n := 1; n < 8; n++ {
			before := t[n-1][c]
			t[n][c] = t[0][byte(before)] ^ before>>8
		}
	}
	return t
}()
