// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The golden texts are what RemotingSerializable.toJson(obj, true) writes with
// fastjson 1.2.83.
const goldenTopics = `{
	"dataVersion":{
		"counter":2,
		"stateVersion":0,
		"timestamp":1700000000000
	},
	"topicConfigTable":{
		"%RETRY%groupA":{
			"attributes":{},
			"order":false,
			"perm":6,
			"readQueueNums":1,
			"topicFilterType":"SINGLE_TAG",
			"topicName":"%RETRY%groupA",
			"topicSysFlag":0,
			"writeQueueNums":1
		},
		"TopicTest":{
			"attributes":{
				"message.type":"FIFO",
				"queue.type":"SimpleCQ"
			},
			"order":true,
			"perm":4,
			"readQueueNums":4,
			"topicFilterType":"MULTI_TAG",
			"topicName":"TopicTest",
			"topicSysFlag":1,
			"writeQueueNums":8
		}
	}
}`

const goldenConsumerOffsets = `{
	"dataVersion":{
		"counter":1448,
		"stateVersion":0,
		"timestamp":1700000000000
	},
	"groupTopicMap":{
		"groupA":["%RETRY%groupA","TopicTest"],
		"groupB":["TopicTest"]
	},
	"offsetTable":{
		"%RETRY%groupA@groupA":{0:0
		},
		"TopicTest@groupA":{0:15,1:12
		},
		"TopicTest@groupB":{}
	}
}`

const goldenDelayOffsets = `{
	"dataVersion":{
		"counter":7,
		"stateVersion":0,
		"timestamp":1700000000000
	},
	"offsetTable":{1:100,2:57,18:3
	}
}`

func version(counter int64) DataVersion {
	return DataVersion{Counter: counter, Timestamp: 1700000000000}
}

func sampleTopics() Topics {
	return Topics{
		DataVersion: version(2),
		Table: map[string]Topic{
			"TopicTest": {
				Name: "TopicTest", ReadQueues: 4, WriteQueues: 8, Perm: 4, FilterType: "MULTI_TAG",
				SysFlag: 1, Order: true,
				Attributes: map[string]string{"message.type": "FIFO", "queue.type": "SimpleCQ"},
			},
			"%RETRY%groupA": {
				Name: "%RETRY%groupA", ReadQueues: 1, WriteQueues: 1, Perm: 6, FilterType: "SINGLE_TAG",
				Attributes: map[string]string{},
			},
		},
	}
}

func sampleConsumerOffsets() ConsumerOffsets {
	return ConsumerOffsets{
		DataVersion: version(1448),
		Table: map[GroupTopic]map[int32]int64{
			{Group: "groupA", Topic: "TopicTest"}:     {0: 15, 1: 12},
			{Group: "groupA", Topic: "%RETRY%groupA"}: {0: 0},
			{Group: "groupB", Topic: "TopicTest"}:     {},
		},
	}
}

func TestGoldenTopics(t *testing.T) {
	t.Parallel()
	got, err := DecodeTopics([]byte(goldenTopics))
	require.NoError(t, err)
	require.Equal(t, sampleTopics(), got)
	require.Equal(t, goldenTopics, string(sampleTopics().Encode()))
}

func TestGoldenConsumerOffsets(t *testing.T) {
	t.Parallel()
	got, err := DecodeConsumerOffsets([]byte(goldenConsumerOffsets))
	require.NoError(t, err)
	require.Equal(t, sampleConsumerOffsets(), got)
	require.Equal(t, goldenConsumerOffsets, string(sampleConsumerOffsets().Encode()))
}

func TestGoldenDelayOffsets(t *testing.T) {
	t.Parallel()
	want := DelayOffsets{DataVersion: version(7), Table: map[int32]int64{1: 100, 2: 57, 18: 3}}
	got, err := DecodeDelayOffsets([]byte(goldenDelayOffsets))
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, goldenDelayOffsets, string(want.Encode()))
}

func TestEmptyTables(t *testing.T) {
	t.Parallel()
	const head = "{\n\t\"dataVersion\":{\n\t\t\"counter\":0,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":0\n\t},\n"
	require.Equal(t, head+"\t\"topicConfigTable\":{}\n}", string(Topics{}.Encode()))
	require.Equal(t, head+"\t\"groupTopicMap\":{},\n\t\"offsetTable\":{}\n}", string(ConsumerOffsets{}.Encode()))
	require.Equal(t, head+"\t\"offsetTable\":{}\n}", string(DelayOffsets{}.Encode()))
}

// Texts that real brokers of several ages, or people, leave in the files.
func TestDecodeConsumerOffsetsVariants(t *testing.T) {
	t.Parallel()
	gt := GroupTopic{Group: "g", Topic: "t"}
	one := map[GroupTopic]map[int32]int64{gt: {0: 15, 1: 12}}
	for _, tc := range []struct {
		name, text string
		want       ConsumerOffsets
	}{
		{"unquoted keys", `{"offsetTable":{"t@g":{0:15,1:12}}}`, ConsumerOffsets{Table: one}},
		{"quoted keys", `{"offsetTable":{"t@g":{"0":15,"1":12}}}`, ConsumerOffsets{Table: one}},
		{"both", `{"offsetTable":{"t@g":{"0":15,1:12}}}`, ConsumerOffsets{Table: one}},
		{"white space", "\ufeff {\r\n \"offsetTable\" : { \"t@g\" : { 0 : 15 , 1 : 12 } } } \n", ConsumerOffsets{Table: one}},
		{"a 4.x broker: no state version", `{"dataVersion":{"counter":5,"timestamp":9},"offsetTable":{"t@g":{0:15,1:12` + "\n\t\t}}}",
			ConsumerOffsets{DataVersion: DataVersion{Counter: 5, Timestamp: 9}, Table: one}},
		{"no table", `{}`, ConsumerOffsets{Table: map[GroupTopic]map[int32]int64{}}},
		{"version is null", `{"dataVersion":null,"offsetTable":{"t@g":{0:15,1:12}}}`, ConsumerOffsets{Table: one}},
		{"unknown fields of the version are dropped", `{"dataVersion":{"x":{1:[2]}},"offsetTable":{"t@g":{0:15,1:12}}}`,
			ConsumerOffsets{Table: one}},
		{"unknown fields are kept", `{"lmqOffsetTable":{"x":{0:1}},"offsetTable":{"t@g":{0:15,1:12}}}`,
			ConsumerOffsets{Table: one, Extra: map[string]json.RawMessage{"lmqOffsetTable": json.RawMessage(`{"x":{"0":1}}`)}}},
		{"keys of three parts, of one, and half empty", `{"offsetTable":{"t@g@broadcast":{0:1},"t":{0:2},"@g":{0:3},"t@":{0:4},"t@g":{0:15,1:12}}}`,
			ConsumerOffsets{Table: one, Other: map[string]map[int32]int64{
				"t@g@broadcast": {0: 1}, "t": {0: 2}, "@g": {0: 3}, "t@": {0: 4}}}},
		{"extremes", `{"offsetTable":{"t@g":{2147483647:9223372036854775807,-1:-9223372036854775808}}}`,
			ConsumerOffsets{Table: map[GroupTopic]map[int32]int64{gt: {1<<31 - 1: 1<<63 - 1, -1: -1 << 63}}}},
		{"escapes in a name", `{"offsetTable":{"\u0074@g":{0:15,1:12}}}`, ConsumerOffsets{Table: one}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeConsumerOffsets([]byte(tc.text))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			again, err := DecodeConsumerOffsets(got.Encode())
			require.NoError(t, err)
			require.Equal(t, got, again)
		})
	}
}

func TestDecodeTopicDefaults(t *testing.T) {
	t.Parallel()
	got, err := DecodeTopics([]byte(`{"topicConfigTable":{"a":{},"b":{"attributes":null,"perm":null,"topicName":"x","newField":[1,{2:3.5e1}]}}}`))
	require.NoError(t, err)
	want := Topic{Name: "a", ReadQueues: 16, WriteQueues: 16, Perm: 6, FilterType: "SINGLE_TAG"}
	require.Equal(t, want, got.Table["a"])
	want.Name = "b"
	want.Extra = map[string]json.RawMessage{"newField": json.RawMessage(`[1,{"2":3.5e1}]`)}
	require.Equal(t, want, got.Table["b"])
	require.Contains(t, string(got.Encode()), "\t\t\t\"attributes\":{},\n\t\t\t\"newField\":[1,{\"2\":3.5e1}],\n\t\t\t\"order\":false,")
}

func TestUnknownFieldsStayInSortedPlace(t *testing.T) {
	t.Parallel()
	o := sampleConsumerOffsets()
	o.Extra = map[string]json.RawMessage{
		"lmqOffsetTable": json.RawMessage(`{}`),
		"offsetTable":    json.RawMessage(`{"x@y":{}}`), // never hides the real one
		"torn":           json.RawMessage(`{`),
	}
	require.Equal(t, strings.Replace(goldenConsumerOffsets, "\t\"offsetTable\"", "\t\"lmqOffsetTable\":{},\n\t\"offsetTable\"", 1),
		string(o.Encode()))
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	topics := func(s string) error { _, err := DecodeTopics([]byte(s)); return err }
	offsets := func(s string) error { _, err := DecodeConsumerOffsets([]byte(s)); return err }
	delays := func(s string) error { _, err := DecodeDelayOffsets([]byte(s)); return err }
	for _, tc := range []struct {
		name   string
		decode func(string) error
		text   string
		offset int64
		line   int
		reason string
	}{
		{"nothing", topics, "", 0, 1, "expected '{', found the end of the text"},
		{"null", topics, "null", 0, 1, "expected '{', found 'n'"},
		{"an array", topics, "[]", 0, 1, "expected '{', found '['"},
		{"torn in a key", offsets, "{\n\t\"offsetT", 3, 2, "string without an end"},
		{"torn after a value", offsets, `{"offsetTable":{"t@g":{0:1`, 26, 1, "found the end of the text"},
		{"zero bytes after the text", delays, "{}\x00\x00", 2, 1, "expected the end of the text, found '\\x00'"},
		{"two texts", delays, "{}{}", 2, 1, "expected the end of the text"},
		{"word as a key", delays, `{offsetTable:{}}`, 1, 1, "expected a key, found 'o'"},
		{"single quotes", delays, `{'offsetTable':{}}`, 1, 1, "expected a key"},
		{"comma at the end", delays, `{"offsetTable":{1:2,}}`, 20, 1, "expected a key, found '}'"},
		{"no colon", delays, `{"offsetTable" {}}`, 15, 1, "expected ':'"},
		{"no comma", delays, `{"offsetTable":{1:2 3:4}}`, 20, 1, "expected ',' or '}'"},
		{"table is null", delays, `{"offsetTable":null}`, 15, 1, "expected '{'"},
		{"value is null", delays, `{"offsetTable":{1:null}}`, 18, 1, "expected an integer"},
		{"value is a string", delays, `{"offsetTable":{1:"2"}}`, 18, 1, "expected an integer"},
		{"value is a fraction", delays, `{"offsetTable":{1:2.5}}`, 19, 1, "expected ',' or '}'"},
		{"value too large", delays, `{"offsetTable":{1:9223372036854775808}}`, 18, 1, "does not fit into 64 bits"},
		{"key is no integer", delays, "{\"offsetTable\":{\n\"one\":2}}", 17, 2, `key "one" is not a 32-bit integer`},
		{"key too large", delays, `{"offsetTable":{2147483648:2}}`, 16, 1, "not a 32-bit integer"},
		{"leading zero", delays, `{"offsetTable":{01:2}}`, 16, 1, "leading zero"},
		{"bare minus", delays, `{"offsetTable":{-:2}}`, 16, 1, "expected an integer"},
		{"not UTF-8", topics, "{\"topicConfigTable\":{\"\xff\":{}}}", 21, 1, "not UTF-8"},
		{"control character in a name", topics, "{\"topicConfigTable\":{\"a\nb\":{}}}", 23, 1, "control character 0x0a"},
		{"bad escape", topics, `{"topicConfigTable":{"\x41":{}}}`, 21, 1, "string"},
		{"topic without a name", topics, `{"topicConfigTable":{"":{}}}`, 21, 1, "topic without a name"},
		{"topic is null", topics, `{"topicConfigTable":{"a":null}}`, 25, 1, "expected '{'"},
		{"perm is a word", topics, `{"topicConfigTable":{"a":{"perm":RW}}}`, 33, 1, "expected an integer, found 'R'"},
		{"too many queues", topics, `{"topicConfigTable":{"a":{"readQueueNums":4294967296}}}`, 42, 1, "does not fit into 32 bits"},
		{"order is a number", topics, `{"topicConfigTable":{"a":{"order":1}}}`, 34, 1, "expected true or false"},
		{"attribute is a number", topics, `{"topicConfigTable":{"a":{"attributes":{"k":1}}}}`, 44, 1, "expected a string"},
		{"reference", topics, `{"topicConfigTable":{"a":{"attributes":{"$ref":"$.x"}}}}`, 40, 1, "$ref"},
		{"bad unknown value", topics, `{"x":tru}`, 5, 1, "expected a value, found 't'"},
		{"bad unknown number", topics, `{"x":1.}`, 5, 1, `not a number: "1."`},
		{"nested too deep", topics, `{"x":` + strings.Repeat("[", 200), 134, 1, "nested deeper than 128"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.decode(tc.text)
			require.ErrorIs(t, err, ErrMalformed)
			var at *Error
			require.ErrorAs(t, err, &at)
			require.ErrorContains(t, err, tc.reason)
			require.Equal(t, tc.offset, at.Offset, err)
			require.Equal(t, tc.line, at.Line, err)
		})
	}
}

// Every prefix of a valid text is what a torn write can leave.
func TestEveryPrefixIsRefused(t *testing.T) {
	t.Parallel()
	for n := range len(goldenConsumerOffsets) {
		_, err := DecodeConsumerOffsets([]byte(goldenConsumerOffsets[:n]))
		require.ErrorIs(t, err, ErrMalformed, "%d bytes", n)
	}
}

func TestNamesSurviveEncoding(t *testing.T) {
	t.Parallel()
	name := "a\"b\\c\n\r\t\x01\u2028<>&中文😀"
	topics := Topics{Table: map[string]Topic{name: {Name: name, Attributes: map[string]string{name: name}}}}
	got, err := DecodeTopics(topics.Encode())
	require.NoError(t, err)
	require.Equal(t, topics, got)
}
