// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import "unicode/utf8"

// HashString is Java's String.hashCode: h = 31*h + c over UTF-16 units with 32-bit
// wrap-around. Bytes that are not UTF-8 count as U+FFFD, grouped as Java's UTF-8 decoder
// groups them.
func HashString(s string) int32 {
	var h int32
	for len(s) >= 4 && s[0]|s[1]|s[2]|s[3] < utf8.RuneSelf { // as in HashOn
		h = 31*31*31*31*h + 31*31*31*int32(s[0]) + 31*31*int32(s[1]) + 31*int32(s[2]) + int32(s[3])
		s = s[4:]
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return hashUTF8(h, []byte(s[i:]))
		}
		h = 31*h + int32(s[i])
	}
	return h
}

// HashBytes is HashString of the text in b.
func HashBytes(b []byte) int32 { return HashOn(0, b) }

// HashOn goes on with the hash h of a text whose rest is b: HashOn(HashString(a), b)
// is HashString(a + b), where a ends a character.
func HashOn(h int32, b []byte) int32 {
	// Four steps of h = 31*h + c in one: each step by itself waits for the one before.
	for len(b) >= 4 && b[0]|b[1]|b[2]|b[3] < utf8.RuneSelf {
		h = 31*31*31*31*h + 31*31*31*int32(b[0]) + 31*31*int32(b[1]) + 31*int32(b[2]) + int32(b[3])
		b = b[4:]
	}
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return hashUTF8(h, b[i:])
		}
		h = 31*h + int32(c)
	}
	return h
}

// TagsCode is the number that a consume queue entry carries for the TAGS property: 0
// without a tag, else the Java hash of the whole value, sign-extended.
func TagsCode(tags []byte) int64 { return int64(HashBytes(tags)) }

func hashUTF8(h int32, b []byte) int32 {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = replacedByJava(b)
		}
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + (0xD800 + r>>10)
			r = 0xDC00 + r&0x3FF
		}
		h = 31*h + r
		b = b[n:]
	}
	return h
}

// replacedByJava returns how many bytes of b, which starts with an invalid sequence,
// Java's decoder replaces by one U+FFFD: the longest start of a valid sequence, and all
// three bytes of an encoded surrogate. (Go replaces each byte by itself.)
func replacedByJava(b []byte) int {
	lead := b[0]
	if lead < 0xE0 || lead > 0xF4 || len(b) < 2 || !continues(b[1]) {
		return 1
	}
	tooLow := lead == 0xE0 && b[1] < 0xA0 || lead == 0xF0 && b[1] < 0x90
	tooHigh := lead == 0xF4 && b[1] > 0x8F
	if tooLow || tooHigh {
		return 1
	}
	surrogate := lead == 0xED && b[1] >= 0xA0
	if (surrogate || lead >= 0xF0) && len(b) > 2 && continues(b[2]) {
		return 3
	}
	return 2
}

func continues(c byte) bool { return c&0xC0 == 0x80 }
