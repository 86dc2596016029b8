// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPropertiesDecodeRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, block string
		want        map[string]string
	}{
		{"empty", "", map[string]string{}},
		{"one", "a\x01b\x02", map[string]string{"a": "b"}},
		{"last 0x02 missing", "a\x01b\x02c\x01d", map[string]string{"a": "b", "c": "d"}},
		{"later duplicate wins", "a\x01b\x02a\x01c\x02", map[string]string{"a": "c"}},
		{"bad duplicate does not win", "a\x01b\x02a\x01\x02", map[string]string{"a": "b"}},
		{"value holds 0x01", "a\x01b\x01c\x02", map[string]string{"a": "b\x01c"}},
		{"value begins with 0x01", "a\x01\x01\x02", map[string]string{"a": "\x01"}},
		{"empty value", "a\x01\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"empty name", "\x01ab\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"no 0x01", "abc\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"two characters", "a\x01\x02b\x01", map[string]string{}},
		{"empty segments", "\x02\x02a\x01b\x02\x02", map[string]string{"a": "b"}},
		{"beyond ASCII", "名\x01值\x02", map[string]string{"名": "值"}},
		{"not UTF-8", "a\x01\xff\x02", map[string]string{"a": "\xff"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := PropertiesFromEncoded([]byte(c.block))
			require.Equal(t, c.want, maps.Collect(p.All()))
			for name, value := range c.want {
				got, ok := p.Get(name)
				require.True(t, ok)
				require.Equal(t, value, got)
			}
			for _, name := range []string{"", "b", "ab", "a\x01", "a\x01b", "\x01a"} {
				_, ok := p.Get(name)
				require.False(t, ok, "%q", name)
			}
			require.Equal(t, c.block, string(p.Encoded()))
			require.Equal(t, len(c.block), p.Len())
			require.NoError(t, p.Err())
		})
	}
}

// TestPropertiesIndexed compares Indexed with three lookups, in blocks that are put
// together from all that is a pair, or nearly one.
func TestPropertiesIndexed(t *testing.T) {
	t.Parallel()
	parts := []string{
		"TAGS\x01a\x02", "TAGS\x01b\x02", "TAGS\x01\x02", "TAGS\x02", "TAG\x01c\x02", "TAGSX\x01d\x02",
		"KEYS\x01k1 k2\x02", "KEYS\x01k3\x02", "K\x01x\x02", "UNIQ_KEY\x01u\x02", "UNIQ_KEY\x01v\x02", "UNIQ\x01w\x02",
		"\x02", "\x01\x02", "OTHER\x01TAGS\x01e\x02", "KEYS\x01open", "TAGS\x01\x01\x02",
	}
	rng := rand.New(rand.NewPCG(3, 5))
	for range 20_000 {
		var block []byte
		for range rng.IntN(6) {
			block = append(block, parts[rng.IntN(len(parts))]...)
		}
		p := PropertiesFromEncoded(block)
		tags, uniq, keys := p.Indexed()
		for name, got := range map[string][]byte{PropertyTags: tags, PropertyUniqKey: uniq, PropertyKeys: keys} {
			want, ok := p.Lookup(name)
			require.Equal(t, ok, got != nil, "%s in %q", name, block)
			require.Equal(t, string(want), string(got), "%s in %q", name, block)
		}
	}
}

func TestPropertiesChange(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*Properties) {
		return func(p *Properties) { p.Set(name, value) }
	}
	del := func(name string) func(*Properties) { return func(p *Properties) { p.Delete(name) } }
	for _, c := range []struct {
		name, block string
		change      func(*Properties)
		want        string
	}{
		{"first", "", set("a", "b"), "a\x01b\x02"},
		{"append", "a\x01b\x02", set("c", "d"), "a\x01b\x02c\x01d\x02"},
		{"append behind an open pair", "a\x01b", set("c", "d"), "a\x01b\x02c\x01d\x02"},
		{"replace in place", "a\x01b\x02c\x01d\x02", set("a", "xyz"), "a\x01xyz\x02c\x01d\x02"},
		{"replace an open pair", "c\x01d\x02a\x01b", set("a", "x"), "c\x01d\x02a\x01x\x02"},
		{"replace all duplicates", "a\x01b\x02c\x01d\x02a\x01e\x02", set("a", "x"), "a\x01x\x02c\x01d\x02"},
		{"keep what is no pair", "\x02zz\x02a\x01b\x02a\x01\x02", set("a", "x"), "\x02zz\x02a\x01x\x02a\x01\x02"},
		{"a value with 0x01", "", set("a", "\x01"), "a\x01\x01\x02"},
		{"delete", "a\x01b\x02c\x01d\x02", del("a"), "c\x01d\x02"},
		{"delete the last", "a\x01b\x02c\x01d", del("c"), "a\x01b\x02"},
		{"delete duplicates", "a\x01b\x02c\x01d\x02a\x01e", del("a"), "c\x01d\x02"},
		{"delete the only one", "a\x01b\x02", del("a"), ""},
		{"delete what is not there", "a\x01b", del("b"), "a\x01b"},
		{"delete no name", "\x01b\x02", del(""), "\x01b\x02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			block := []byte(c.block)
			p := PropertiesFromEncoded(block)
			before := p
			c.change(&p)
			require.NoError(t, p.Err())
			require.Equal(t, c.want, string(p.Encoded()))
			require.Equal(t, c.block, string(block), "the borrowed block was written to")
			require.Equal(t, c.block, string(before.Encoded()), "a copy saw the change")
		})
	}
}

// Two copies of one value that both change must not share a block.
func TestPropertiesAreAValue(t *testing.T) {
	t.Parallel()
	a := NewProperties("k", "v")
	b := a
	a.Set("x", "1")
	b.Set("y", "2")
	c := a.Clone()
	a.Set("k", "w")
	require.Equal(t, "k\x01w\x02x\x011\x02", string(a.Encoded()))
	require.Equal(t, "k\x01v\x02y\x012\x02", string(b.Encoded()))
	require.Equal(t, "k\x01v\x02x\x011\x02", string(c.Encoded()))
}

func TestPropertiesDoNotLendTheBytesBehind(t *testing.T) {
	t.Parallel()
	b := []byte("a\x01b\x02behind")
	p := PropertiesFromEncoded(b[:4])
	_ = append(p.Encoded(), "XXXXXX"...)
	require.Equal(t, "a\x01b\x02behind", string(b))
}

func TestPropertiesBadPairs(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string][2]string{
		"empty name":    {"", "v"},
		"0x01 in name":  {"a\x01", "v"},
		"0x02 in name":  {"\x02a", "v"},
		"empty value":   {"a", ""},
		"0x02 in value": {"a", "v\x02"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := NewProperties("k", "v")
			p.Set(pair[0], pair[1])
			first := p.Err()
			require.ErrorIs(t, first, ErrBadProperty)
			p.Set("", "another")
			p.Set("good", "pair")
			require.Equal(t, first, p.Err(), "the first error stays")
			clone := p.Clone()
			require.Equal(t, first, clone.Err())
			require.False(t, p.IsZero())

			m := goldenMessage()
			m.Properties = p
			require.ErrorIs(t, Encoder{}.Validate(m), ErrBadProperty)
			_, err := json.Marshal(p)
			require.ErrorIs(t, err, ErrBadProperty)
			_, err = AppendBatchElement(nil, 0, nil, p)
			require.ErrorIs(t, err, ErrBadProperty)

			made := NewProperties("k", "v", pair[0], pair[1])
			require.ErrorIs(t, made.Err(), ErrBadProperty)
			require.Equal(t, "k\x01v\x02", string(made.Encoded()))
		})
	}
	odd := NewProperties("k", "v", "w")
	require.ErrorIs(t, odd.Err(), ErrBadProperty)
}

func TestPropertiesJSON(t *testing.T) {
	t.Parallel()
	p := NewProperties("b", "2", "a", "1", "b", "3")
	data, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"a":"1","b":"3"}`, string(data))
	var q Properties
	require.NoError(t, json.Unmarshal(data, &q))
	require.Equal(t, "a\x011\x02b\x013\x02", string(q.Encoded()))

	require.ErrorIs(t, json.Unmarshal([]byte(`{"a":""}`), &q), ErrBadProperty)
	require.Error(t, json.Unmarshal([]byte(`{"a":1}`), &q))
	require.Equal(t, "a\x011\x02b\x013\x02", string(q.Encoded()), "an error must leave the properties alone")

	data, err = json.Marshal(Properties{})
	require.NoError(t, err)
	require.Equal(t, "{}", string(data))
	require.True(t, Properties{}.IsZero())
}

func TestPropertiesAllStops(t *testing.T) {
	t.Parallel()
	p := NewProperties("a", "1", "b", "2")
	var names strings.Builder
	for name := range p.All() {
		names.WriteString(name)
		break
	}
	require.Equal(t, "a", names.String())
}
