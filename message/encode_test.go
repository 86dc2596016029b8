// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEncoderLimits(t *testing.T) {
	t.Parallel()
	// block returns a property block of n bytes that is one pair.
	block := func(n int) Properties { return NewProperties("a", strings.Repeat("x", n-3)) }
	topic := func(s string) func(*Message) { return func(m *Message) { m.Topic = s } }
	property := func(pairs ...string) func(*Message) {
		return func(m *Message) { m.Properties = NewProperties(pairs...) }
	}
	both := func(fs ...func(*Message)) func(*Message) {
		return func(m *Message) {
			for _, f := range fs {
				f(m)
			}
		}
	}
	inner := func(m *Message) { m.SysFlag |= InnerBatch }
	for _, c := range []struct {
		name    string
		encoder Encoder
		change  func(m *Message)
		err     error
		text    string // part of the error's text
	}{
		{name: "as it is", change: func(m *Message) {}},
		{name: "nil body", change: func(m *Message) { m.Body = nil }},
		{name: "empty topic", change: topic(""), err: ErrEmptyTopic},
		{name: "topic of 127", change: topic(strings.Repeat("a", 127))},
		{name: "topic of 128", change: topic(strings.Repeat("a", 128)), err: ErrTopicTooLong, text: "128 bytes, limit 127"},
		{name: "retry topic of 255", change: topic("%RETRY%" + strings.Repeat("a", 248))},
		{name: "retry topic of 256", change: topic("%RETRY%" + strings.Repeat("a", 249)), err: ErrTopicTooLong, text: "256 bytes, limit 255"},
		{name: "dead-letter topic of 255", change: topic("%DLQ%" + strings.Repeat("a", 250))},
		{name: "dead-letter topic of 256", change: topic("%DLQ%" + strings.Repeat("a", 251)), err: ErrTopicTooLong},
		{name: "every allowed character", change: topic("%|azAZ09_-")},
		{name: "topic with a slash", change: topic("../etc"), err: ErrTopicChars, text: "0x2e at 0"},
		{name: "topic with a space", change: topic("a b"), err: ErrTopicChars, text: "0x20 at 1"},
		{name: "topic with a dot", change: topic("a.b"), err: ErrTopicChars},
		{name: "topic with a zero", change: topic("a\x00"), err: ErrTopicChars},
		{name: "topic beyond ASCII", change: topic("中文"), err: ErrTopicChars},
		{name: "characters next to letters", change: topic("@"), err: ErrTopicChars},
		{name: "characters next to letters, upper", change: topic("["), err: ErrTopicChars},
		{name: "characters next to letters, lower", change: topic("{"), err: ErrTopicChars},
		{name: "characters next to letters, quote", change: topic("`"), err: ErrTopicChars},
		{name: "highest queue", change: func(m *Message) { m.QueueID = MaxQueueID }},
		{name: "queue -1", change: func(m *Message) { m.QueueID = -1 }, err: ErrNegativeQueue, text: "-1"},
		{name: "body at the default limit", change: func(m *Message) { m.Body = make([]byte, DefaultMaxBodyLen) }},
		{name: "body above the default limit", change: func(m *Message) { m.Body = make([]byte, DefaultMaxBodyLen+1) }, err: ErrBodyTooLarge, text: "4194305 bytes, limit 4194304"},
		{name: "body at a limit", encoder: Encoder{MaxBodyLen: 5}, change: func(m *Message) {}},
		{name: "body above a limit", encoder: Encoder{MaxBodyLen: 4}, change: func(m *Message) {}, err: ErrBodyTooLarge, text: "5 bytes, limit 4"},
		{name: "properties at the limit", change: func(m *Message) { m.Properties = block(MaxPropertiesLen) }},
		{name: "properties above the limit", change: func(m *Message) { m.Properties = block(MaxPropertiesLen + 1) }, err: ErrPropertiesTooLarge, text: "32768 bytes, limit 32767"},
		{name: "properties and CRC at the limit", encoder: Encoder{PropertyCRC: true}, change: func(m *Message) { m.Properties = block(MaxPropertiesLen - PropertyCRCLen) }},
		{name: "properties and CRC above the limit", encoder: Encoder{PropertyCRC: true}, change: func(m *Message) { m.Properties = block(MaxPropertiesLen - PropertyCRCLen + 1) }, err: ErrPropertiesTooLarge},
		{
			name: "the separator counts", encoder: Encoder{PropertyCRC: true}, err: ErrPropertiesTooLarge,
			change: func(m *Message) {
				full := block(MaxPropertiesLen - PropertyCRCLen + 1).block
				m.Properties = PropertiesFromEncoded(full[:len(full)-1])
			},
		},
		{
			name: "an old CRC does not count", encoder: Encoder{PropertyCRC: true},
			change: func(m *Message) {
				m.Properties = block(MaxPropertiesLen - PropertyCRCLen)
				m.Properties.Set(PropertyCRC32, "0123456789")
			},
		},
		{name: "bad property", change: property("", "x"), err: ErrBadProperty, text: "empty name"},
		{name: "delay level", change: property("DELAY", "-3")},
		{name: "delay level that is no number", change: property("DELAY", "x"), err: ErrBadProperty, text: `DELAY is "x"`},
		{name: "delay level above 32 bits", change: property("DELAY", "2147483648"), err: ErrBadProperty},
		{name: "delay level with a space", change: property("DELAY", " 1"), err: ErrBadProperty},
		{name: "a bad delay level that a later one hides", change: property("DELAY", "x", "DELAY", "1"), err: ErrBadProperty},
		{name: "inner batch", change: both(inner, property("INNER_NUM", "32767", "INNER_BASE", "9223372036854775807"))},
		{name: "inner number without the flag", change: property("INNER_NUM", "1"), err: ErrBadProperty, text: "no inner batch"},
		{name: "inner number that is no number", change: both(inner, property("INNER_NUM", "1x")), err: ErrBadProperty},
		{name: "inner number above 16 bits", change: both(inner, property("INNER_NUM", "32768")), err: ErrBadProperty},
		{name: "inner base that is no number", change: property("INNER_BASE", "ten"), err: ErrBadProperty},
		{name: "inner base above 64 bits", change: property("INNER_BASE", "9223372036854775808"), err: ErrBadProperty},
		{name: "a name without a value", change: func(m *Message) { m.Properties = PropertiesFromEncoded([]byte("DELAY\x02INNER_NUM\x01\x02")) }},
		{name: "names that begin alike", change: property("DELAYED", "x", "INNER_NUMBER", "x", "D", "x", "I", "x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := goldenMessage()
			c.change(m)
			n, lenErr := c.encoder.EncodedLen(m)
			dst := []byte("dst")
			out, err := c.encoder.Append(dst, m)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				require.ErrorContains(t, err, c.text)
				require.ErrorIs(t, c.encoder.Validate(m), c.err)
				require.ErrorIs(t, lenErr, c.err)
				require.Equal(t, "dst", string(out), "an error must leave dst alone")
				return
			}
			require.NoError(t, err)
			require.NoError(t, lenErr)
			require.NoError(t, c.encoder.Validate(m))
			require.Len(t, out, len(dst)+n)

			r := Record(out[len(dst):])
			r.Seal()
			var got Message
			require.NoError(t, (&Decoder{Check: CheckAll}).Decode(r, &got))
			require.Equal(t, m.Topic, got.Topic)
			require.True(t, bytes.Equal(m.Body, got.Body))
		})
	}
}

func TestVersionFollowsTheTopic(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]Version{8: V1, 127: V1, 128: V2, 255: V2} {
		m := goldenMessage()
		m.Topic = RetryTopicPrefix + strings.Repeat("a", n-len(RetryTopicPrefix))
		var got Message
		require.NoError(t, new(Decoder).Decode(encode(t, Encoder{}, m), &got))
		require.Equal(t, want, got.Version, n)
		require.Equal(t, m.Topic, got.Topic)
	}
}

func TestHostsInARecord(t *testing.T) {
	t.Parallel()
	zero := netip.MustParseAddrPort("0.0.0.0:0")
	for _, c := range []struct {
		name        string
		born, store netip.AddrPort
		flags       SysFlag // of the caller, stale
		wantBorn    netip.AddrPort
		wantStore   netip.AddrPort
		wantFlags   SysFlag
	}{
		{name: "no hosts", wantBorn: zero, wantStore: zero},
		{name: "no hosts, stale bits", flags: BornHostV6 | StoreHostV6 | MultiTags, wantBorn: zero, wantStore: zero, wantFlags: MultiTags},
		{
			name: "mapped", born: netip.MustParseAddrPort("[::ffff:1.2.3.4]:5"), wantBorn: netip.MustParseAddrPort("1.2.3.4:5"),
			wantStore: zero,
		},
		{
			name: "IPv6 born", born: netip.MustParseAddrPort("[2001:db8::1]:65535"), wantBorn: netip.MustParseAddrPort("[2001:db8::1]:65535"),
			wantStore: zero, wantFlags: BornHostV6,
		},
		{
			name: "IPv6 store with a zone", store: netip.MustParseAddrPort("[fe80::1%eth0]:1"), wantStore: netip.MustParseAddrPort("[fe80::1]:1"),
			wantBorn: zero, wantFlags: StoreHostV6,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := goldenMessage()
			m.BornHost, m.StoreHost, m.SysFlag, m.StoreTimestamp = c.born, c.store, c.flags, 99
			var got Message
			require.NoError(t, new(Decoder).Decode(encode(t, Encoder{}, m), &got))
			require.Equal(t, c.wantBorn, got.BornHost)
			require.Equal(t, c.wantStore, got.StoreHost)
			require.Equal(t, c.wantFlags, got.SysFlag)
			require.EqualValues(t, 99, got.StoreTimestamp)
			require.Equal(t, FormatID(c.store, 0), got.ID())
		})
	}
}

// The caller's own __CRC32# never reaches a record, and the separator goes where
// MessageExtEncoder.java puts it.
func TestPropertyCRCPlacement(t *testing.T) {
	t.Parallel()
	const zeros = "__CRC32#\x010000000000\x02"
	for _, c := range []struct {
		name, block, without, with string
	}{
		{"no properties", "", "", zeros},
		{"closed", "a\x01b\x02", "a\x01b\x02", "a\x01b\x02" + zeros},
		{"not closed", "a\x01b", "a\x01b", "a\x01b\x02" + zeros},
		{"old CRC at the end", "a\x01b\x02__CRC32#\x019730346100\x02", "a\x01b\x02", "a\x01b\x02" + zeros},
		{"old CRC at the end, not closed", "a\x01b\x02__CRC32#\x019730346100", "a\x01b\x02", "a\x01b\x02" + zeros},
		{"old CRC in front", "__CRC32#\x01x\x02a\x01b", "a\x01b", "a\x01b\x02" + zeros},
		{"two old CRCs", "__CRC32#\x011\x02a\x01b\x02__CRC32#\x01\x02", "a\x01b\x02", "a\x01b\x02" + zeros},
		{"only an old CRC", "__CRC32#\x011\x02", "", zeros},
		{"no pair", "__CRC32#", "__CRC32#", "__CRC32#\x02" + zeros},
		{"a longer name", "__CRC32#2\x01x\x02", "__CRC32#2\x01x\x02", "__CRC32#2\x01x\x02" + zeros},
		{"empty segments stay", "\x02\x02a\x01b\x02", "\x02\x02a\x01b\x02", "\x02\x02a\x01b\x02" + zeros},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := goldenMessage()
			m.Properties = PropertiesFromEncoded([]byte(c.block))
			for want, e := range map[string]Encoder{c.without: {}, c.with: {PropertyCRC: true}} {
				b, err := e.Append(nil, m)
				require.NoError(t, err)
				require.Equal(t, want, string(Record(b).properties()))
				n, err := e.EncodedLen(m)
				require.NoError(t, err)
				require.Len(t, b, n)
				Record(b).Seal()
				require.NoError(t, (&Decoder{Check: CheckAll}).Decode(b, new(Message)))
			}
		})
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags SysFlag
		queue QueueOffset
	}{
		{TransactionNone, 77}, {TransactionCommit, 77}, {TransactionPrepared, 0}, {TransactionRollback, 0},
	} {
		m := goldenMessage()
		m.SysFlag, m.QueueOffset = c.flags, 5
		m.BornHost = netip.MustParseAddrPort("[::2]:1")
		b, err := Encoder{PropertyCRC: true}.Append(nil, m)
		require.NoError(t, err)
		r := Record(b)
		require.Equal(t, min(5, c.queue), r.QueueOffset(), "Append follows the same rule")
		r.Patch(math.MaxInt64, 77, -1)
		require.Equal(t, c.queue, r.QueueOffset())
		require.EqualValues(t, -1, r.StoreTimestamp())

		d := Decoder{Check: CheckAll}
		var got Message
		require.ErrorIs(t, d.Decode(r, &got), ErrPropertyCRC, "not sealed yet")
		r.Seal()
		require.NoError(t, d.Decode(r, &got))
		require.Equal(t, Offset(math.MaxInt64), got.PhysicalOffset)
		require.Equal(t, c.queue, got.QueueOffset)
		require.EqualValues(t, -1, got.StoreTimestamp)
		require.EqualValues(t, math.MaxInt64, r.PhysicalOffset())

		r.Patch(1, 77, 1)
		require.ErrorIs(t, d.Decode(r, &got), ErrPropertyCRC, "a patch breaks the seal")
	}
}

// A body and a topic can together look like the pair that Seal fills in.
func TestSealLeavesOtherRecordsAlone(t *testing.T) {
	t.Parallel()
	lookalikeBody := goldenMessage()
	lookalikeBody.Topic = "a"
	lookalikeBody.Body = []byte("body__CRC32#")
	lookalikeBody.Properties = NewProperties("abcde", "f") // 8 bytes and a 0x02 at the end
	lookalikeValue := goldenMessage()
	lookalikeValue.Properties = NewProperties("a", "__CRC32#\x010123456789")

	for name, m := range map[string]*Message{"body": lookalikeBody, "value": lookalikeValue} {
		b, err := Encoder{}.Append(nil, m)
		require.NoError(t, err)
		tail := string(b[len(b)-PropertyCRCLen:])
		require.True(t, strings.HasPrefix(tail, crcStart) && strings.HasSuffix(tail, "\x02"), "%s: %q is no lookalike", name, tail)
		before := bytes.Clone(b)
		Record(b).Seal()
		require.Equal(t, before, b, name)
		require.NoError(t, (&Decoder{Check: CheckAll}).Decode(b, new(Message)), name)
	}
}
