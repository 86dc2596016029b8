// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/message"
)

const brokerTopics = `{
	"dataVersion":{
		"counter":41,
		"stateVersion":2,
		"timestamp":1700000000000
	},
	"topicConfigTable":{
		"DefaultCluster":{
			"attributes":{},
			"order":false,
			"perm":7,
			"readQueueNums":16,
			"topicFilterType":"SINGLE_TAG",
			"topicName":"DefaultCluster",
			"topicSysFlag":0,
			"writeQueueNums":16
		},
		"broker.local":{
			"attributes":{},
			"order":false,
			"perm":7,
			"readQueueNums":1,
			"topicFilterType":"SINGLE_TAG",
			"topicName":"broker.local",
			"topicSysFlag":0,
			"writeQueueNums":1
		},
		"orders":{
			"attributes":{
				"message.type":"FIFO"
			},
			"newField":{"a":[1]},
			"order":true,
			"perm":6,
			"readQueueNums":4,
			"topicFilterType":"MULTI_TAG",
			"topicName":"orders",
			"topicSysFlag":1,
			"writeQueueNums":8
		}
	}
}`

const brokerOffsets = `{
	"dataVersion":{
		"counter":9,
		"stateVersion":0,
		"timestamp":1700000000000
	},
	"groupTopicMap":{
		"billing":["%RETRY%billing","orders"]
	},
	"lmqOffsetTable":{},
	"offsetTable":{
		"%RETRY%billing@billing":{0:0
		},
		"orders@billing":{0:15,1:12
		},
		"orders@billing@broadcast":{0:3
		}
	}
}`

const brokerDelays = `{
	"dataVersion":{
		"counter":5,
		"stateVersion":0,
		"timestamp":1700000000000
	},
	"offsetTable":{1:100,18:3
	}
}`

func brokerDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		brokerconfig.TopicsFile: brokerTopics, brokerconfig.ConsumerOffsetsFile: brokerOffsets,
		brokerconfig.DelayOffsetsFile: brokerDelays,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func clock() time.Time { return time.UnixMilli(1800000000000) }

// A broker's directory goes in, and comes out with nothing but new data
// versions.
func TestImportExportRoundTrip(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, "meta", Options{FS: mem, Now: clock})
	dir := brokerDir(t)
	report, err := s.ImportDir(dir, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportCount{Added: 3}, report.Topics)
	require.Equal(t, ImportCount{Added: 3}, report.Offsets)
	require.Equal(t, ImportCount{Added: 2}, report.Delays)
	require.Len(t, report.Sources, 3)
	require.Len(t, report.Skipped, 2, "%v", report.Skipped)
	require.Equal(t, `field "lmqOffsetTable" of the consumer offsets`, report.Skipped[0].What)
	require.Equal(t, `offsets of "orders@billing@broadcast"`, report.Skipped[1].What)

	// It is durable without a Sync.
	s = open(t, "meta", Options{FS: mem, ReadOnly: true, Now: clock})
	require.Equal(t, Topic{
		Name: "orders", ReadQueues: 4, WriteQueues: 8, Perm: PermRead | PermWrite, FilterType: MultiTag,
		SysFlag: 1, Order: true, Attributes: map[string]string{"message.type": "FIFO"},
		Extra: map[string]json.RawMessage{"newField": json.RawMessage(`{"a":[1]}`)},
	}, topicOf(t, s, "orders"))
	require.EqualValues(t, 12, offsetOf(t, s, "billing", "orders", 1))
	delays, err := s.DelayOffsets()
	require.NoError(t, err)
	require.Equal(t, map[int]message.QueueOffset{1: 100, 18: 3}, delays)

	require.NoError(t, s.ExportDir(dir))
	next := func(text, counter, newCounter string) string {
		const head = "{\n\t\"dataVersion\":{\n\t\t\"counter\":"
		rest, ok := strings.CutPrefix(text, head+counter)
		require.True(t, ok)
		return head + newCounter + strings.Replace(rest, "1700000000000", "1800000000000", 1)
	}
	for name, want := range map[string]string{
		brokerconfig.TopicsFile:          next(brokerTopics, "41", "42"),
		brokerconfig.ConsumerOffsetsFile: next(brokerOffsets, "9", "10"),
		brokerconfig.DelayOffsetsFile:    next(brokerDelays, "5", "6"),
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	bak, err := os.ReadFile(filepath.Join(dir, brokerconfig.TopicsFile+".bak"))
	require.NoError(t, err)
	require.Equal(t, brokerTopics, string(bak))
}

func TestImportKeepsOrReplaces(t *testing.T) {
	t.Parallel()
	mine := Topic{Name: "orders", ReadQueues: 1, WriteQueues: 1, Perm: PermRead}
	for _, overwrite := range []bool{false, true} {
		s := open(t, "meta", Options{FS: vfs.NewMem()})
		require.NoError(t, s.Put(mine))
		require.NoError(t, s.Put(Topic{Name: "mine"}))
		require.NoError(t, s.CommitOffset("billing", "orders", 0, 1000))
		require.NoError(t, s.CommitOffset("billing", "orders", 1, 12)) // the same as theirs
		require.NoError(t, s.SetDelayOffset(1, 7))
		dir := brokerDir(t)
		report, err := s.ImportDir(dir, ImportOptions{Overwrite: overwrite})
		require.NoError(t, err)
		if overwrite {
			require.Equal(t, ImportCount{Added: 2, Replaced: 1}, report.Topics)
			require.Equal(t, ImportCount{Added: 1, Replaced: 1, Kept: 1}, report.Offsets)
			require.Equal(t, ImportCount{Added: 1, Replaced: 1}, report.Delays)
			require.EqualValues(t, 4, topicOf(t, s, "orders").ReadQueues)
			require.EqualValues(t, 15, offsetOf(t, s, "billing", "orders", 0))
		} else {
			require.Equal(t, ImportCount{Added: 2, Kept: 1}, report.Topics)
			require.Equal(t, ImportCount{Added: 1, Kept: 2}, report.Offsets)
			require.Equal(t, ImportCount{Added: 1, Kept: 1}, report.Delays)
			require.Equal(t, mine, topicOf(t, s, "orders"))
			require.EqualValues(t, 1000, offsetOf(t, s, "billing", "orders", 0))
		}
		topicOf(t, s, "mine")
		again, err := s.ImportDir(dir, ImportOptions{Overwrite: overwrite})
		require.NoError(t, err)
		require.Equal(t, ImportCount{Kept: 3}, again.Topics)
		require.Equal(t, ImportCount{Kept: 3}, again.Offsets)
		require.Equal(t, ImportCount{Kept: 2}, again.Delays)
	}
}

func TestImportSkips(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	good := brokerconfig.Topic{ReadQueues: 1, WriteQueues: 1, Perm: 6, FilterType: "SINGLE_TAG"}
	with := func(change func(*brokerconfig.Topic)) brokerconfig.Topic {
		c := good
		change(&c)
		return c
	}
	report, err := s.ImportTopics(brokerconfig.Topics{Table: map[string]brokerconfig.Topic{
		"good": good,
		"a/b":  good,
		"perm": with(func(t *brokerconfig.Topic) { t.Perm = 256 + 6 }),
		"neg":  with(func(t *brokerconfig.Topic) { t.Perm = -1 }),
		"many": with(func(t *brokerconfig.Topic) { t.WriteQueues = MaxQueues + 1 }),
		"type": with(func(t *brokerconfig.Topic) { t.FilterType = "NO_TAG" }),
	}, Extra: map[string]json.RawMessage{"x": json.RawMessage("1")}}, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportCount{Added: 1}, report.Topics)
	require.Len(t, report.Skipped, 6)
	for _, skipped := range report.Skipped {
		require.ErrorIs(t, skipped.Reason, ErrInvalid, skipped.What)
	}

	report, err = s.ImportOffsets(brokerconfig.ConsumerOffsets{Table: map[brokerconfig.GroupTopic]map[int32]int64{
		{Group: "g", Topic: "t"}:   {0: 1, -1: 1, 2: -1},
		{Group: "g/h", Topic: "t"}: {0: 1},
	}}, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportCount{Added: 1}, report.Offsets)
	require.Len(t, report.Skipped, 3)

	report, err = s.ImportDelayOffsets(brokerconfig.DelayOffsets{
		Table: map[int32]int64{0: 1, 1: -1, 2: 1}, Extra: map[string]json.RawMessage{"x": nil}}, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportCount{Added: 1}, report.Delays)
	require.Len(t, report.Skipped, 3)
}

func TestImportDirErrors(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem()})
	report, err := s.ImportDir(filepath.Join(t.TempDir(), "none"), ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportReport{}, report)

	// One torn file: nothing of the others is imported.
	dir := brokerDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, brokerconfig.DelayOffsetsFile), []byte("{"), 0o644))
	_, err = s.ImportDir(dir, ImportOptions{})
	require.ErrorIs(t, err, brokerconfig.ErrMalformed)
	topics, err := s.Topics()
	require.NoError(t, err)
	require.Empty(t, topics)

	// With a .bak it works, and the report says so.
	require.NoError(t, os.WriteFile(filepath.Join(dir, brokerconfig.DelayOffsetsFile+".bak"), []byte(brokerDelays), 0o644))
	report, err = s.ImportDir(dir, ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ImportCount{Added: 2}, report.Delays)
	require.ErrorIs(t, report.Sources[2].Passed, brokerconfig.ErrMalformed)
}

func TestExportIntoAFreshOrTornDirectory(t *testing.T) {
	t.Parallel()
	s := open(t, "meta", Options{FS: vfs.NewMem(), Now: clock})
	require.NoError(t, s.Put(sampleTopic("t")))
	require.NoError(t, s.CommitOffset("g", "t", 0, 5))
	require.NoError(t, s.SetDelayOffset(3, 9))
	dir := filepath.Join(t.TempDir(), "config")
	require.NoError(t, s.ExportDir(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, brokerconfig.TopicsFile), []byte("{"), 0o644))
	require.NoError(t, s.ExportDir(dir))
	topics, source, err := brokerconfig.ReadTopics(dir)
	require.NoError(t, err)
	require.NoError(t, source.Passed)
	want, err := s.ExportTopics()
	require.NoError(t, err)
	require.Equal(t, want, topics)
	offsets, _, err := brokerconfig.ReadConsumerOffsets(dir)
	require.NoError(t, err)
	require.Equal(t, brokerconfig.DataVersion{Counter: 2, Timestamp: 1800000000000}, offsets.DataVersion)
	require.Equal(t, map[brokerconfig.GroupTopic]map[int32]int64{{Group: "g", Topic: "t"}: {0: 5}}, offsets.Table)
	delays, _, err := brokerconfig.ReadDelayOffsets(dir)
	require.NoError(t, err)
	require.Equal(t, map[int32]int64{3: 9}, delays.Table)

	require.Error(t, s.ExportDir(filepath.Join(dir, brokerconfig.TopicsFile))) // a file
}
