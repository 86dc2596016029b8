// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

// spec is a message as both sides are told to append it. Batch says that Body is
// a client batch.
type spec struct {
	Topic                     string `json:"topic"`
	QueueID                   int32  `json:"queueId"`
	Flag                      int32  `json:"flag"`
	SysFlag                   int32  `json:"sysFlag"`
	BornTimestamp             int64  `json:"bornTimestamp"`
	BornHost                  string `json:"bornHost"`
	StoreHost                 string `json:"storeHost"`
	ReconsumeTimes            int32  `json:"reconsumeTimes"`
	PreparedTransactionOffset int64  `json:"preparedTransactionOffset"`
	Body                      []byte `json:"body"`
	Properties                []byte `json:"properties"`
	// StoreTimestamp is what the clock says when it is appended; 0 is the present.
	StoreTimestamp int64 `json:"storeTimestamp"`
	Batch          bool  `json:"batch"`
}

func (s spec) message(t testing.TB) *message.Message {
	t.Helper()
	born, err := netip.ParseAddrPort(s.BornHost)
	require.NoError(t, err)
	stored, err := netip.ParseAddrPort(s.StoreHost)
	require.NoError(t, err)
	return &message.Message{
		Topic: s.Topic, QueueID: s.QueueID, Flag: s.Flag, SysFlag: message.SysFlag(s.SysFlag),
		BornTimestamp: s.BornTimestamp, BornHost: born, StoreHost: stored, ReconsumeTimes: s.ReconsumeTimes,
		PreparedTransactionOffset: message.Offset(s.PreparedTransactionOffset),
		Body:                      s.Body, Properties: message.PropertiesFromEncoded(s.Properties),
	}
}

func split(t testing.TB, m *message.Message) []*message.Message {
	t.Helper()
	all, err := message.SplitBatch(m)
	require.NoError(t, err)
	return all
}

// firstTime is the store time of the first message: a round number.
const firstTime = 1_700_000_000_000

// maker makes messages of every kind, the same ones for the same seed.
type maker struct {
	t   testing.TB
	rnd *rand.Rand
	n   int
	now int64
	// unit is roughly how long the longest bodies are.
	unit int
	// pace is how many milliseconds may pass between two messages.
	pace int64
}

func newMaker(t testing.TB, seed uint64, l layout) *maker {
	m := &maker{t: t, rnd: rand.New(rand.NewPCG(seed, 8)), now: firstTime, unit: 1500, pace: 2000}
	if l.fileSize == tiny.fileSize {
		m.unit = 300
	}
	return m
}

// topics are those that messages go to. The last has a name so long that its
// records are of version 2.
var topics = []string{
	"orders", "payments", "A-b_c|%9", "%DLQ%billing", "%RETRY%" + strings.Repeat("long", 31),
}

// hosts are of both families.
var hosts = []string{
	"10.1.2.3:34567", "127.0.0.1:10911", "0.0.0.0:0", "255.255.255.255:65535",
	"[1050::5:600:300c:326b]:10911", "[::1]:10912", "[2001:db8::1]:1",
}

// make makes n messages. The last one goes into a queue: see TestKeysTwice.
func (m *maker) make(n int) []spec {
	all := make([]spec, 0, n)
	for range n - 1 {
		all = append(all, m.one())
	}
	return append(all, m.plain())
}

func (m *maker) one() spec {
	s := m.plain()
	switch m.rnd.IntN(16) {
	case 0, 1, 2:
		m.compress(&s)
	case 3:
		s.SysFlag |= int32(message.TransactionPrepared)
	case 4:
		s.SysFlag |= int32(message.TransactionCommit)
		s.PreparedTransactionOffset = m.rnd.Int64N(1 << 40)
	case 5:
		s.SysFlag |= int32(message.TransactionRollback)
	case 6:
		s.SysFlag |= int32(message.MultiTags)
	case 7:
		m.batch(&s)
	}
	return s
}

// plain is a message with random fields.
func (m *maker) plain() spec {
	m.n++
	if m.rnd.IntN(3) > 0 {
		m.now += m.rnd.Int64N(m.pace)
	}
	return spec{
		Topic: topics[m.rnd.IntN(len(topics))], QueueID: m.rnd.Int32N(3),
		Flag: m.rnd.Int32() - m.rnd.Int32(), BornTimestamp: m.now - m.rnd.Int64N(50),
		BornHost: hosts[m.rnd.IntN(len(hosts))], StoreHost: hosts[m.rnd.IntN(len(hosts))],
		ReconsumeTimes: m.rnd.Int32N(4), Body: m.body(), Properties: m.properties(), StoreTimestamp: m.now,
	}
}

func (m *maker) body() []byte {
	switch m.rnd.IntN(12) {
	case 0:
		return []byte{} // RocketMQ takes an empty body, but not none.
	case 1:
		return []byte("中文, and a \x00")
	}
	body := make([]byte, m.rnd.IntN(m.unit))
	for i := range body[:len(body)/2] {
		body[i] = byte(m.rnd.Uint32())
	}
	return body
}

// properties are some of those that the store or a broker interprets, and some
// of the user's own.
func (m *maker) properties() []byte {
	p := message.NewProperties(message.PropertyUniqKey, fmt.Sprintf("0A01020300002A9F%08X", m.n))
	set := func(chance int, name string, values ...string) {
		if m.rnd.IntN(100) < chance {
			p.Set(name, values[m.rnd.IntN(len(values))])
		}
	}
	set(70, message.PropertyTags, "TagA", "TagB", "polygenelubricants", "标签", "a || b")
	set(60, message.PropertyKeys, "k1", "k2 k3", "order-"+fmt.Sprint(m.n), "ключ k"+fmt.Sprint(m.n%50))
	set(30, message.PropertyWait, "true", "false", "TRUE")
	set(10, message.PropertyShardingKey, "shard 7")
	set(10, message.PropertyCluster, "DefaultCluster")
	set(10, message.PropertyMsgRegion, "DefaultRegion")
	set(10, message.PropertyTraceOn, "true")
	set(10, message.PropertyMsgType, "0")
	set(10, message.PropertyInstanceID, "instance")
	set(10, message.PropertyBornHost, "10.0.0.1")
	set(10, message.PropertyBornTimestamp, "1700000000000")
	set(10, message.PropertyRetryTopic, "orders")
	set(10, message.PropertyOriginMessageID, "0A01020300002A9F0000000000000000")
	set(10, message.PropertyReconsumeTime, "2")
	set(10, message.PropertyMaxReconsumeTimes, "16")
	set(10, message.PropertyDLQOriginTopic, "payments")
	set(10, message.PropertyRealTopic, "orders")
	set(10, message.PropertyRealQueueID, "1")
	set(10, message.PropertyProducerGroup, "producers")
	set(10, message.PropertyTransactionPrepared, "true")
	set(10, message.PropertyTransactionID, "tx")
	set(10, message.PropertyTransactionCheckTimes, "1")
	set(10, message.PropertyDupInfo, "1_2")
	set(10, message.PropertyExtendUniqInfo, "x")
	set(20, "имя", "значение", "v\x01with the other separator")
	return append([]byte{}, p.Encoded()...)
}

func (m *maker) compress(s *spec) {
	m.t.Helper()
	kinds := []message.Compression{message.CompressionLZ4, message.CompressionZSTD, message.CompressionZLIB}
	one := s.message(m.t)
	one.Body = append(one.Body, strings.Repeat("all the same ", 1+m.rnd.IntN(20))...)
	require.NoError(m.t, one.CompressBody(kinds[m.rnd.IntN(len(kinds))]))
	if one.SysFlag.Compression() == message.CompressionZLIB && m.n%2 == 0 {
		one.SysFlag &^= message.CompressionMask // as clients did when there was nothing else
	}
	s.Body, s.SysFlag = one.Body, int32(one.SysFlag)
}

// batch makes it a client batch of a few messages.
func (m *maker) batch(s *spec) {
	m.t.Helper()
	var elements []*message.Message
	for range 1 + m.rnd.IntN(5) {
		e := m.plain()
		e.Topic, e.QueueID = s.Topic, s.QueueID
		elements = append(elements, e.message(m.t))
	}
	body, err := message.EncodeBatch(elements)
	require.NoError(m.t, err)
	s.Batch, s.Body, s.Properties, s.StoreTimestamp = true, body, []byte{}, m.now
}

// TestMaker: among the messages are those that docs/interop.md speaks of, by the
// seed of TestSameBytes.
func TestMaker(t *testing.T) {
	for _, l := range []layout{tiny, small} { // they differ in the length of bodies
		t.Run(l.name, func(t *testing.T) {
			kinds := map[string]int{}
			note := func(kind string, is bool) {
				if is {
					kinds[kind]++
				}
			}
			batches := map[bool]int{}
			specs := newMaker(t, 1, l).make(300)
			for _, s := range specs {
				batches[s.Batch]++
			}
			require.Positive(t, batches[true])
			require.Positive(t, batches[false])
			for _, s := range expand(t, specs) {
				m := s.message(t)
				note("topic of version 2", len(m.Topic) > 127)
				note("born host of version 6", m.BornHost.Addr().Is6())
				note("store host of version 6", m.StoreHost.Addr().Is6())
				note("both of version 4", m.BornHost.Addr().Is4() && m.StoreHost.Addr().Is4())
				note("empty body", len(m.Body) == 0)
				note("several tags", m.SysFlag&message.MultiTags != 0)
				for name, bits := range map[string]message.SysFlag{
					"half message": message.TransactionPrepared, "commit": message.TransactionCommit,
					"rollback": message.TransactionRollback,
				} {
					note(name, m.SysFlag&message.TransactionMask == bits)
				}
				note("body with "+m.SysFlag.Compression().String(), true)
				note("zlib of an old client", m.SysFlag&(message.Compressed|message.CompressionMask) == message.Compressed)
				_, tags := m.Properties.Get(message.PropertyTags)
				note("no tags", !tags)
				keys, _ := m.Properties.Get(message.PropertyKeys)
				note("several keys", len(strings.Fields(keys)) > 1)
				for name := range m.Properties.All() {
					kinds[name]++
				}
			}
			for _, kind := range []string{
				"topic of version 2", "born host of version 6", "store host of version 6", "both of version 4", "empty body",
				"several tags", "zlib of an old client", "half message", "commit", "rollback", "no tags", "several keys", "имя",
				"body with " + message.CompressionLZ4.String(), "body with " + message.CompressionZSTD.String(),
				"body with " + message.CompressionZLIB.String(),
				message.PropertyTags, message.PropertyKeys, message.PropertyUniqKey, message.PropertyWait,
				message.PropertyShardingKey, message.PropertyRealTopic, message.PropertyRealQueueID,
				message.PropertyTransactionPrepared, message.PropertyProducerGroup, message.PropertyDupInfo,
				message.PropertyExtendUniqInfo, message.PropertyRetryTopic, message.PropertyReconsumeTime,
			} {
				require.Positive(t, kinds[kind], kind)
			}
		})
	}
}
