// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/stelelog/stele/message"
)

// recordDump goes through a record as far as its lengths lead.
type recordDump struct {
	d      *dumper
	at     int64
	b      []byte
	pos    int
	broken error
	decode *message.DecodeError // broken, if it names a field
	begun  bool
	err    error
}

// take dumps the next n bytes as a field; false when there are not so many.
func (r *recordDump) take(name string, n int, value func(b []byte) string) bool {
	if r.err != nil || n < 0 || r.pos+n > len(r.b) {
		return false
	}
	b := r.b[r.pos : r.pos+n]
	item := ""
	if !r.begun {
		item, r.begun = "record", true
		if r.d.base >= 0 {
			item = fmt.Sprintf("record at offset %d", r.d.base+r.at)
		}
	}
	var wrong error
	if r.decode != nil && r.decode.At >= r.pos && r.decode.At < r.pos+max(n, 1) {
		wrong, r.broken = r.decode, nil
	}
	r.err = r.d.put(item, name, r.at+int64(r.pos), int64(n), value(b), wrong)
	r.pos += n
	return r.err == nil
}

// rest dumps what no field could be made of, and damage that names none.
func (r *recordDump) rest() {
	switch {
	case r.err != nil:
	case r.pos < len(r.b):
		wrong := r.broken
		if wrong == nil {
			wrong = errors.New("bytes of no field")
		}
		r.err = r.d.put("", "no field", r.at+int64(r.pos), int64(len(r.b)-r.pos), "", wrong)
	case r.broken != nil:
		r.err = r.d.put("", "the record", r.at+int64(r.pos), 0, "", r.broken)
	}
}

// number is an integer of 4 or 8 bytes, or of 1 or 2 for lengths.
func number(b []byte) int64 {
	switch len(b) {
	case 1:
		return int64(b[0])
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b)))
	case 4:
		return int64(be32(b))
	default:
		return be64(b)
	}
}

func decimalText(b []byte) string { return strconv.FormatInt(number(b), 10) }
func noText([]byte) string        { return "" }

// length dumps a length and returns it, -1 when it is not there.
func (r *recordDump) length(name string, n int) (value int) {
	value = -1
	r.take(name, n, func(b []byte) string {
		value = int(number(b))
		return decimalText(b)
	})
	return value
}

// fields dumps the fields of a record, as far as its lengths lead. The format is in
// package message.
func (r *recordDump) fields() {
	wide, flags := 1, message.SysFlag(0)
	r.take("size", 4, decimalText)
	r.take("magic", 4, func(b []byte) string {
		switch binary.BigEndian.Uint32(b) {
		case message.MagicV1:
			return "version 1"
		case message.MagicV2:
			wide = 2
			return "version 2"
		}
		return ""
	})
	r.take("CRC of the body", 4, noText)
	r.take("queue id", 4, decimalText)
	r.take("flag", 4, decimalText)
	r.take("queue offset", 8, decimalText)
	r.take("physical offset", 8, decimalText)
	r.take("system flag", 4, func(b []byte) string {
		flags = message.SysFlag(be32(b))
		return flagText(flags)
	})
	r.take("born", 8, func(b []byte) string { return timeText(be64(b)) })
	r.take("born host", hostSize(flags&message.BornHostV6 != 0), hostText)
	r.take("stored", 8, func(b []byte) string { return timeText(be64(b)) })
	r.take("store host", hostSize(flags&message.StoreHostV6 != 0), hostText)
	r.take("reconsume times", 4, decimalText)
	r.take("prepared transaction", 8, decimalText)
	n := r.length("length of the body", 4)
	body := noText
	if n == 0 {
		body = func([]byte) string { return "empty" }
	}
	ok := n >= 0 && r.take("body", n, body)
	if ok {
		n = r.length("length of the topic", wide)
		ok = r.take("topic", n, func(b []byte) string { return string(b) })
	}
	if ok {
		r.properties(r.length("length of the properties", 2))
	}
}

// properties dumps a block of properties, pair by pair.
func (r *recordDump) properties(n int) {
	end := r.pos + n
	if n < 0 || end > len(r.b) {
		return
	}
	for r.err == nil && r.pos < end {
		pair := r.b[r.pos:end]
		if i := bytes.IndexByte(pair, 0x02); i >= 0 {
			pair = pair[:i+1]
		}
		name, value, ok := strings.Cut(strings.TrimSuffix(string(pair), "\x02"), "\x01")
		if !ok || name == "" {
			name, value = "no pair", ""
		}
		r.take("property "+name, len(pair), func([]byte) string { return value })
	}
}

func hostSize(v6 bool) int {
	if v6 {
		return 20
	}
	return 8
}

// hostText is an address and a port.
func hostText(b []byte) string {
	addr, _ := netip.AddrFromSlice(b[:len(b)-4])
	return netip.AddrPortFrom(addr, uint16(be32(b[len(b)-4:]))).String()
}

// flagText names the bits that are set.
func flagText(f message.SysFlag) string {
	words := []string{strconv.Itoa(int(f))}
	for _, bit := range []struct {
		flag message.SysFlag
		name string
	}{
		{message.Compressed, "compressed (" + f.Compression().String() + ")"}, {message.MultiTags, "multiple tags"},
		{message.BornHostV6, "born host IPv6"}, {message.StoreHostV6, "store host IPv6"},
		{message.NeedUnwrap, "to be unwrapped"}, {message.InnerBatch, "inner batch"},
	} {
		if f&bit.flag != 0 {
			words = append(words, bit.name)
		}
	}
	switch f.Transaction() {
	case message.TransactionPrepared:
		words = append(words, "prepared")
	case message.TransactionCommit:
		words = append(words, "committed")
	case message.TransactionRollback:
		words = append(words, "rolled back")
	}
	return strings.Join(words, "  ")
}
