// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/brokerconfig"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/topicmeta"
)

// cluster is RocketMQ as a whole, on loopback: a name server, a broker that comes
// and goes, and clients.
type cluster struct {
	t       *testing.T
	program string
	dir     string // the broker's, which Stele has in between
	temp    string
	client  *jvm
	namesrv string // address
	starts  int    // of servers
}

// process is a JVM that is a server.
type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer  // what it printed; the reader's until done is closed
	up   chan struct{} // closed when it is ready
	done chan struct{} // closed when it has ended
}

// patience is how long a server may take for what takes it seconds on a machine
// that does nothing else. It is counted in pauses, so that a machine that stood
// still has not used it up.
const patience = 5 * time.Minute

// portTaken is what a server prints that ends because somebody took its port.
const portTaken = "Address already in use"

// startServer starts a main class of RocketMQ, which says so when it is ready. It
// gets the ports that config is told; where somebody else is faster to take one, it
// gets others.
func (c *cluster) startServer(class, heap string, config func(port int) []string) (*process, int) {
	c.t.Helper()
	for range 5 {
		c.starts++
		port := freePorts(c.t)
		file := filepath.Join(c.temp, fmt.Sprint("config", c.starts))
		require.NoError(c.t, os.WriteFile(file, []byte(strings.Join(config(port), "\n")), 0o600))
		p := c.launch(class, heap, file)
		if p.ready(c.t) {
			return p, port
		}
		require.Contains(c.t, p.said.String(), portTaken, "%s did not start", class)
	}
	require.Fail(c.t, "no free ports for "+class)
	return nil, 0
}

// launch runs a server with a home of its own, in which it logs.
func (c *cluster) launch(class, heap, config string) *process {
	c.t.Helper()
	cmd := java(c.program, class, heap, "-Duser.home="+c.home())
	cmd.Args = append(cmd.Args, "-c", config)
	cmd.Env = append(os.Environ(), "ROCKETMQ_HOME="+c.temp)
	p := &process{cmd: cmd, up: make(chan struct{}), done: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	require.NoError(c.t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(c.t, cmd.Start())
	go func() {
		defer close(p.done)
		ready := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&p.said, lines.Text())
			if !ready && strings.Contains(lines.Text(), "boot success") {
				ready = true
				close(p.up)
			}
		}
		_ = cmd.Wait() // It may have been killed.
	}()
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill() // It may be gone.
		<-p.done
	})
	return p
}

// ready waits until it is up, or has ended; it ends one that never is either.
func (p *process) ready(t *testing.T) bool {
	t.Helper()
	for range int(patience / time.Second) {
		select {
		case <-p.up:
			return true
		case <-p.done:
			return false
		case <-time.After(time.Second):
		}
	}
	p.kill(t)
	return false
}

// stop ends it as an operator would.
func (p *process) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.done
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
}

// ports are those that freePorts has given to a test.
var ports struct {
	sync.Mutex
	given map[int]bool
}

// freePorts are those that a broker takes: one, and those one above and two below.
// No two calls get the same ones.
func freePorts(t *testing.T) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	for range 100 {
		port := 20000 + 4*rand.IntN(3000)
		if ports.given[port] {
			continue
		}
		ports.given[port] = true
		free := true
		for _, p := range []int{port - 2, port, port + 1} {
			l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(p))
			if free = free && err == nil; err == nil {
				require.NoError(t, l.Close())
			}
		}
		if free {
			return port
		}
	}
	require.Fail(t, "no free ports")
	return 0
}

// newCluster starts a name server and a client.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, program: javaProgram(t), dir: filepath.Join(t.TempDir(), "store"), temp: t.TempDir()}
	_, port := c.startServer("org.apache.rocketmq.namesrv.NamesrvStartup", "-Xmx64m", func(port int) []string {
		return []string{"listenPort=" + strconv.Itoa(port), "bindAddress=127.0.0.1"}
	})
	c.namesrv = "127.0.0.1:" + strconv.Itoa(port)
	// A consumer that has missed its broker by a moment looks again after a second, not after twenty.
	client, err := startJVM(java(c.program, "stele.interop.Client",
		"-Xmx128m", "-Duser.home="+c.temp, "-Drocketmq.client.rebalance.waitInterval=1000"))
	require.NoError(t, err)
	t.Cleanup(client.end)
	c.client = client
	return c
}

func (c *cluster) home() string { return filepath.Join(c.temp, fmt.Sprint("home", c.starts)) }

// broker starts the broker. What it logs while it opens its directory is what it
// logs with any of its own.
func (c *cluster) broker() *process {
	c.t.Helper()
	p, _ := c.startServer("org.apache.rocketmq.broker.BrokerStartup", "-Xmx320m", func(port int) []string {
		return []string{
			"brokerClusterName=interop", "brokerName=interop", "brokerId=0", "brokerIP1=127.0.0.1", "bindAddress=127.0.0.1",
			"listenPort=" + strconv.Itoa(port), "namesrvAddr=" + c.namesrv, "storePathRootDir=" + c.dir,
			fmt.Sprint("mappedFileSizeCommitLog=", brokers.fileSize), fmt.Sprint("mappedFileSizeConsumeQueue=", brokers.queueFileSize),
			fmt.Sprint("maxHashSlotNum=", brokers.slots), fmt.Sprint("maxIndexNum=", brokers.entries),
			"deleteWhen=24", // an hour that never comes: it says so whenever it looks for what has expired
			"autoCreateTopicEnable=true", "fileReservedTime=720", "diskMaxUsedSpaceRatio=95", "cleanFileForciblyEnable=false",
			"flushConsumerOffsetInterval=500", "flushDelayOffsetInterval=500", "transactionCheckInterval=600000",
		}
	})
	return p
}

// brokers is how the broker lays its directory out.
var brokers = layout{name: "broker", fileSize: 256 << 10, queueFileSize: 300 * 20, slots: 500, entries: 4000}

// logLine is a line of RocketMQ's log files.
var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\w+) (\S+) - (.*)$`)

// changes are the words of something that was cut or deleted; usualBroker is what
// a broker says, or warns of, with any directory of its own, also a new one.
var (
	changes     = regexp.MustCompile(`(?i)delet|truncat|destroy|dirty`)
	usualBroker = regexp.MustCompile(`^(No resource file with name |Load default |\w+=|` +
		`delete pre allocated mapped file, |delete file\[REF:0\] \S+ OK, W:0 M:0, |create mappedFile spent time|found a illegal magic code 0x0$|.*/abort delete OK$|.*[Ii]nterrupted, (this )?(may|possibly)|` +
		`The commitlog files are deleted, and delete the consume queue files$)`)
)

// requireQuiet: since the broker was started last it has logged no error, and
// nothing of a cut or a deletion, until it was told to shut down.
func (c *cluster) requireQuiet() {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.home(), "logs", "rocketmqlogs", "*.log"))
	require.NoError(c.t, err)
	require.NotEmpty(c.t, files)
	for _, file := range files {
		lines, err := os.ReadFile(file)
		require.NoError(c.t, err)
		for line := range strings.Lines(string(lines)) {
			m := logLine.FindStringSubmatch(strings.TrimSpace(line))
			if len(m) == 0 {
				continue // of a stack trace
			}
			level, thread, text := m[1], m[2], m[3]
			// Later warnings are about a slow machine, and what is not the store's about
			// clients that come and go.
			opening, ofStore := thread == "main", strings.HasPrefix(filepath.Base(file), "store")
			bad := changes.MatchString(text) || level == "ERROR" && (opening || ofStore) || level == "WARN" && opening && ofStore
			if !bad || usualBroker.MatchString(text) {
				continue
			}
			if ends := cut.FindStringSubmatch(text); len(ends) > 0 && ends[1] == ends[2] {
				continue
			}
			// It looks for transactions once more when its store is closed already.
			if thread == "TransactionalMessageCheckService" && strings.HasPrefix(text, "message store has shutdown") {
				continue
			}
			require.Fail(c.t, "the broker has logged", "%s: %s", filepath.Base(file), line)
		}
	}
}

// mail is a message as a client sends or receives it.
type mail struct {
	Topic       string `json:"topic"`
	Tags        string `json:"tags"`
	Keys        string `json:"keys"`
	Body        []byte `json:"body"`
	DelayLevel  int    `json:"delayLevel"`
	QueueID     int32  `json:"queueId"`
	QueueOffset int64  `json:"queueOffset"`
	Key         string `json:"key"` // its unique one
}

// what identifies it, and what must not change on its way.
func (m mail) what() string {
	return fmt.Sprintf("%s %s %s %08x", m.Topic, m.Tags, m.Keys, crc32.ChecksumIEEE(m.Body))
}

// call asks the client for something.
func (c *cluster) call(answer any, request map[string]any) {
	c.t.Helper()
	request["namesrv"] = c.namesrv
	line, err := c.client.call(request, nil)
	require.NoError(c.t, err)
	require.NoError(c.t, json.Unmarshal(line, answer))
}

// book is who got what: for each group each message, and how often.
type book struct {
	t *testing.T
	// sent are the messages of each topic that consumers are to get.
	sent map[string][]string
	keys map[string]string // the unique key of each, "" where a client does not tell
	got  map[string]map[string]int
	// next is where each queue goes on for a group, by what it got.
	next map[string]map[queueName]int64
	n    int
}

func newBook(t *testing.T) *book {
	return &book{t: t, sent: map[string][]string{}, keys: map[string]string{}, got: map[string]map[string]int{}, next: map[string]map[queueName]int64{}}
}

// mails makes messages of a topic; every third has a body that clients compress.
func (b *book) mails(topic string, n, delay int) (all []mail) {
	for range n {
		b.n++
		m := mail{
			Topic: topic, Tags: []string{"red", "green", "标签"}[b.n%3], Keys: fmt.Sprintf("order-%d 键", b.n),
			Body: fmt.Appendf(nil, "message %d", b.n), DelayLevel: delay,
		}
		if b.n%3 == 0 {
			m.Body = append(m.Body, strings.Repeat("all the same ", 500)...)
		}
		all = append(all, m)
	}
	return all
}

// expect says that consumers are to get messages.
func (b *book) expect(all []mail) {
	for _, m := range all {
		b.sent[m.Topic] = append(b.sent[m.Topic], m.what())
		b.keys[m.what()] = m.Key
	}
}

// take notes what a group got, from each queue in its order.
func (b *book) take(group string, all []mail) {
	b.t.Helper()
	if b.got[group] == nil {
		b.got[group], b.next[group] = map[string]int{}, map[queueName]int64{}
	}
	// Threads of a consumer may swap messages.
	slices.SortFunc(all, func(x, y mail) int { return int(x.QueueOffset - y.QueueOffset) })
	for _, m := range all {
		k, sent := b.keys[m.what()]
		require.True(b.t, sent, "nobody sent %s", m.what())
		if k != "" {
			require.Equal(b.t, k, m.Key, m.what())
		}
		b.got[group][m.what()]++
		require.Equal(b.t, 1, b.got[group][m.what()], "%s got it again: %s", group, m.what())
		name := queueName{m.Topic, m.QueueID}
		require.Equal(b.t, b.next[group][name], m.QueueOffset, "%s, %v", group, name)
		b.next[group][name]++
	}
}

// missing are the messages of some topics that a group has not got.
func (b *book) missing(group string, topics ...string) (all []string) {
	for _, topic := range topics {
		for _, what := range b.sent[topic] {
			if b.got[group][what] == 0 {
				all = append(all, what)
			}
		}
	}
	return all
}

// send has a client send messages, and notes their unique keys in them.
func (c *cluster) send(all []mail, how map[string]any) []mail {
	c.t.Helper()
	request := map[string]any{"op": "send", "group": "producers", "messages": all}
	maps.Copy(request, how)
	var answer struct{ Keys []string }
	c.call(&answer, request)
	require.Len(c.t, answer.Keys, len(all))
	for i, k := range answer.Keys {
		all[i].Key = k
	}
	return all
}

// pull has a group consume n messages, or a few more.
func (c *cluster) pull(b *book, group string, n int, topics ...string) {
	c.t.Helper()
	var answer struct{ Messages []mail }
	c.call(&answer, map[string]any{"op": "pull", "group": group, "topics": topics, "count": n})
	b.take(group, answer.Messages)
	require.GreaterOrEqual(c.t, len(answer.Messages), n)
}

// push has a group consume all that it has not got.
func (c *cluster) push(b *book, group string, topics ...string) {
	c.t.Helper()
	n := len(b.missing(group, topics...))
	require.Positive(c.t, n)
	var answer struct{ Messages []mail }
	c.call(&answer, map[string]any{"op": "push", "group": group, "topics": topics, "count": n})
	b.take(group, answer.Messages)
	require.Empty(c.t, b.missing(group, topics...))
}

// requireNext holds the offsets that a store has of a group to what the group got.
func (b *book) requireNext(s *store.Store, group string) {
	b.t.Helper()
	require.NotEmpty(b.t, b.next[group])
	for name, next := range b.next[group] {
		off, ok, err := s.Offset(group, name.Topic, name.ID)
		require.NoError(b.t, err)
		require.True(b.t, ok, "%s, %v", group, name)
		require.Equal(b.t, next, int64(off), "%s, %v", group, name)
	}
}

// asMail is a message as a client would have got it.
func asMail(t *testing.T, m *message.Message) mail {
	t.Helper()
	body, err := m.PlainBody(0)
	require.NoError(t, err)
	tags, _ := m.Properties.Get(message.PropertyTags)
	keys, _ := m.Properties.Get(message.PropertyKeys)
	return mail{
		Topic: m.Topic, Tags: tags, Keys: keys, Body: append([]byte{}, body...),
		QueueID: m.QueueID, QueueOffset: int64(m.QueueOffset), Key: m.UniqKey(),
	}
}

// stele has the directory of the broker, which is down.
func (c *cluster) stele(kind store.RecoveryKind) *local {
	c.t.Helper()
	verify(c.t, c.dir)
	clk := &clock{}
	o := brokers.stele(clk)
	s, err := store.Open(c.dir, o)
	require.NoError(c.t, err)
	l := &local{Store: s, t: c.t, clock: clk}
	c.t.Cleanup(func() { _ = s.Close() }) // For tests that fail; others have closed it.
	rec := s.Stats().Recovery
	require.Equal(c.t, kind, rec.Kind)
	require.Empty(c.t, rec.Damage)
	require.NoError(c.t, rec.Torn)
	_, err = s.Meta().ImportDir(c.config(), topicmeta.ImportOptions{Overwrite: true})
	require.NoError(c.t, err)
	s.TopicsChanged()
	return l
}

func (c *cluster) config() string { return filepath.Join(c.dir, "config") }

// handBack closes the store and gives its metadata to the broker, which is told of
// everything that was delivered.
func (c *cluster) handBack(s *local) {
	c.t.Helper()
	s.close()
	o := brokers.stele(&clock{})
	o.Delay.Off = true
	again, err := store.Open(c.dir, o)
	require.NoError(c.t, err)
	require.NoError(c.t, again.ExportConfig(c.config()))
	require.NoError(c.t, again.Close())
	verify(c.t, c.dir)
}

// consume has Stele consume up to n messages of each queue for a group.
func (b *book) consume(s *local, group string, n int, topics ...string) {
	b.t.Helper()
	for _, q := range s.Queues() {
		if !slices.Contains(topics, q.Topic) {
			continue
		}
		from, _, err := s.Offset(group, q.Topic, q.QueueID)
		require.NoError(b.t, err)
		batch, err := s.Fetch(b.t.Context(), q.Topic, q.QueueID, from, store.Limit{Messages: n})
		require.NoError(b.t, err)
		var all []mail
		for m, err := range batch.All() {
			require.NoError(b.t, err)
			all = append(all, asMail(b.t, m))
		}
		require.NoError(b.t, s.CommitOffset(group, q.Topic, q.QueueID, batch.Next))
		batch.Release()
		b.take(group, all)
	}
}

// append has Stele store messages, as its users do.
func (b *book) append(s *local, all []mail) []mail {
	b.t.Helper()
	for i := range all {
		m := &all[i]
		b.n++
		m.Key = fmt.Sprintf("7F0000010000%020X", b.n)
		r := &message.Message{
			Topic: m.Topic, QueueID: int32(i) % 4, Body: m.Body, StoreHost: storeHost, BornHost: storeHost,
			BornTimestamp: time.Now().UnixMilli(), Properties: message.NewProperties(message.PropertyUniqKey, m.Key),
		}
		r.SetTags(m.Tags)
		r.SetKeys(strings.Fields(m.Keys)...)
		if m.DelayLevel > 0 {
			r.SetDelayLevel(m.DelayLevel)
		}
		if len(m.Body) > 4096 {
			require.NoError(b.t, r.CompressBody(message.CompressionZLIB))
		}
		_, err := s.Append(b.t.Context(), r)
		require.NoError(b.t, err)
	}
	return all
}

// delivered waits until Stele has delivered all messages of a delay level.
func (b *book) delivered(s *local, level int32) {
	b.t.Helper()
	lo, hi, err := s.Bounds(message.DelayTopic, level-1)
	require.NoError(b.t, err)
	for at := lo; at < hi; at++ {
		batch, err := s.Fetch(b.t.Context(), message.DelayTopic, level-1, at, store.Limit{Messages: 1})
		require.NoError(b.t, err)
		for m, err := range batch.All() {
			require.NoError(b.t, err)
			topic, _ := m.Properties.Get(message.PropertyRealTopic)
			text, _ := m.Properties.Get(message.PropertyRealQueueID)
			id, err := strconv.ParseInt(text, 10, 32)
			require.NoError(b.t, err)
			b.follow(s, topic, int32(id), m.UniqKey())
		}
		batch.Release()
	}
}

// follow waits for a message in a queue.
func (b *book) follow(s *local, topic string, id int32, key string) {
	b.t.Helper()
	for from := message.QueueOffset(0); ; {
		batch, err := s.Follow(b.t.Context(), topic, id, from, store.Limit{})
		require.NoError(b.t, err)
		found := false
		for m, err := range batch.All() {
			require.NoError(b.t, err)
			found = found || m.UniqKey() == key
		}
		from = batch.Next
		batch.Release()
		if found {
			return
		}
	}
}

// requireAll: the queues of each topic hold what was sent, each message once.
func (b *book) requireAll(s *local) {
	b.t.Helper()
	all := map[string][]string{}
	for _, q := range s.Queues() {
		if b.sent[q.Topic] == nil {
			continue
		}
		for at := q.Min; at < q.Max; {
			batch, err := s.Fetch(b.t.Context(), q.Topic, q.QueueID, at, store.Limit{})
			require.NoError(b.t, err)
			for m, err := range batch.All() {
				require.NoError(b.t, err)
				all[q.Topic] = append(all[q.Topic], asMail(b.t, m).what())
			}
			at = batch.Next
			batch.Release()
		}
	}
	for topic, want := range b.sent {
		require.ElementsMatch(b.t, want, all[topic], topic)
	}
}

// TestBroker hands the directory of a whole broker to Stele and back, twice: once
// the broker was stopped, once killed. Its consumers go on where they were: nothing
// is lost, and nothing comes twice.
func TestBroker(t *testing.T) {
	c, b := newCluster(t), newBook(t)
	t.Parallel()
	half := []string{"orders", "payments"}
	all := append(slices.Clone(half), "timers", "transfers")

	p := c.broker()
	b.expect(c.send(b.mails("orders", 60, 0), nil))
	b.expect(c.send(b.mails("payments", 40, 0), nil))
	// Their unique key is that of the batch, which the client does not tell.
	batch := c.send(b.mails("orders", 20, 0), map[string]any{"batch": true})
	for i := range batch {
		batch[i].Key = ""
	}
	b.expect(batch)
	b.expect(c.send(b.mails("timers", 3, 1), nil)) // a second
	b.expect(c.send(b.mails("transfers", 4, 0), map[string]any{"op": "transact", "group": "bank", "end": "COMMIT_MESSAGE"}))
	c.send(b.mails("transfers", 3, 0), map[string]any{"op": "transact", "group": "bank", "end": "ROLLBACK_MESSAGE"})
	c.send(b.mails("timers", 2, 18), nil) // two hours
	c.pull(b, "half", 50, half...)
	c.push(b, "all", all...)
	b.expect(c.send(b.mails("timers", 3, 4), nil)) // half a minute
	p.stop(t)
	c.requireQuiet()

	s := c.stele(store.ForeignClean)
	b.requireNext(s.Store, "half")
	b.requireNext(s.Store, "all")
	b.consume(s, "half", 2, half...)
	b.expect(b.append(s, b.mails("orders", 25, 0)))
	b.expect(b.append(s, b.mails("added", 10, 0)))
	b.delivered(s, 4)
	b.expect(b.append(s, b.mails("timers", 2, 3))) // ten seconds, which may pass in the broker
	require.Equal(t, int64(2), s.Stats().Delay.Pending[18])
	c.handBack(s)

	p = c.broker()
	c.push(b, "all", append(all, "added")...)
	c.pull(b, "half", 5, half...)
	b.expect(c.send(b.mails("payments", 30, 0), nil))
	c.pull(b, "half", len(b.missing("half", half...))-10, half...)
	c.awaitOffsets(b, "half", "all")
	p.kill(t)
	c.requireQuiet()

	s = c.stele(store.ForeignCrash)
	b.requireNext(s.Store, "half")
	b.requireNext(s.Store, "all")
	b.consume(s, "half", 1, half...)
	b.expect(b.append(s, b.mails("added", 7, 0)))
	require.Equal(t, int64(2), s.Stats().Delay.Pending[18])
	c.handBack(s)

	p = c.broker()
	c.push(b, "all", append(all, "added")...)
	b.expect(c.send(b.mails("orders", 9, 0), nil))
	c.push(b, "half", half...)
	c.push(b, "all", append(all, "added")...)
	p.stop(t)
	c.requireQuiet()
	s = c.stele(store.CleanClose)
	b.requireNext(s.Store, "half")
	b.requireNext(s.Store, "all")
	b.requireAll(s)
	require.Empty(t, b.missing("all", append(all, "added")...))
	require.Equal(t, int64(2), s.Stats().Delay.Pending[18])
	c.handBack(s)
}

// TestBrokerOnSteles starts a broker on a directory that Stele has made.
func TestBrokerOnSteles(t *testing.T) {
	c, b := newCluster(t), newBook(t)
	t.Parallel()
	s := open(t, c.dir, brokers)
	for _, topic := range []string{"orders", "timers"} { // that of the others is made of their queues
		require.NoError(t, s.PutTopic(topicmeta.Topic{
			Name: topic, ReadQueues: 4, WriteQueues: 4, Perm: topicmeta.PermRead | topicmeta.PermWrite,
		}))
	}
	b.expect(b.append(s, b.mails("orders", 40, 0)))
	b.expect(b.append(s, b.mails("added", 10, 0)))
	b.expect(b.append(s, b.mails("timers", 4, 3)))
	b.append(s, b.mails("timers", 2, 18))
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	b.consume(s, "half", 3, "orders")
	c.handBack(s)

	p := c.broker()
	c.push(b, "half", "orders")
	c.push(b, "all", "orders", "added", "timers")
	b.expect(c.send(b.mails("added", 12, 0), nil))
	c.push(b, "all", "orders", "added", "timers")
	p.stop(t)
	c.requireQuiet()

	s = c.stele(store.CleanClose)
	b.requireNext(s.Store, "half")
	b.requireNext(s.Store, "all")
	b.requireAll(s)
	c.handBack(s)
}

// awaitOffsets waits until the broker's files have what it knows of groups and of
// delayed messages: it writes them now and then, and what it has not written, a
// broker that is killed forgets.
func (c *cluster) awaitOffsets(b *book, groups ...string) {
	c.t.Helper()
	written := func() bool {
		offsets, _, err := brokerconfig.ReadConsumerOffsets(c.config())
		if err != nil {
			return false // while it is written
		}
		for _, group := range groups {
			for name, next := range b.next[group] {
				if offsets.Table[brokerconfig.GroupTopic{Group: group, Topic: name.Topic}][name.ID] != next {
					return false
				}
			}
		}
		delays, _, err := brokerconfig.ReadDelayOffsets(c.config())
		return err == nil && delays.Table[1] == 3 && delays.Table[3] == 2 && delays.Table[4] == 3
	}
	const pause = 100 * time.Millisecond
	for range int(patience / pause) {
		if written() {
			return
		}
		<-time.After(pause)
	}
	require.Fail(c.t, "the broker does not write its offsets")
}
