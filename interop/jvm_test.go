// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// shared is the JVM of all tests that don't end it.
var shared struct {
	once sync.Once
	jvm  *jvm
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	// RocketMQ sleeps for three seconds whenever it closes a store.
	if err := flag.Set("test.parallel", "16"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if shared.jvm != nil {
		shared.jvm.end()
	}
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// jvm is a process that runs the program in java/. It is safe for concurrent use.
type jvm struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{} // closed when the reader of answers has ended

	mu      sync.Mutex
	in      io.WriteCloser
	last    int64
	waiting map[int64]chan []byte
	gone    error
}

func sharedJVM(t *testing.T) *jvm {
	t.Helper()
	dir := javaProgram(t)
	shared.once.Do(func() { shared.jvm, shared.err = startJVM(java(dir, "stele.interop.Main")) })
	require.NoError(t, shared.err)
	return shared.jvm
}

// ownJVM is one that the test may end.
func ownJVM(t *testing.T) *jvm {
	t.Helper()
	j, err := startJVM(java(javaProgram(t), "stele.interop.Main"))
	require.NoError(t, err)
	t.Cleanup(j.end)
	return j
}

func startJVM(cmd *exec.Cmd) (*jvm, error) {
	j := &jvm{cmd: cmd, done: make(chan struct{}), waiting: map[int64]chan []byte{}}
	j.cmd.Stderr = &j.stderr
	in, err := j.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	j.in = in
	if err := j.cmd.Start(); err != nil {
		return nil, err
	}
	go j.read(out)
	return j, nil
}

// read hands each answer to who waits for it, until the process is gone.
func (j *jvm) read(out io.Reader) {
	defer close(j.done)
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var head struct {
			ID   int64
			More bool
		}
		if err := json.Unmarshal(line, &head); err != nil {
			continue // The request is never answered, and the end of the process says so.
		}
		j.mu.Lock()
		to := j.waiting[head.ID]
		if !head.More {
			delete(j.waiting, head.ID)
		}
		j.mu.Unlock()
		to <- line
		if !head.More {
			close(to)
		}
	}
	err := j.cmd.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gone = fmt.Errorf("the JVM is gone: %w\n%s", errors.Join(err, io.EOF), j.stderr.String())
	for _, to := range j.waiting {
		close(to)
	}
}

// end ends the process without closing any store.
func (j *jvm) end() {
	j.mu.Lock()
	_ = j.in.Close() // It may be gone already.
	j.mu.Unlock()
	<-j.done
}

// kill ends it as a power switch would end it, but for the kernel.
func (j *jvm) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, j.cmd.Process.Kill())
	<-j.done
}

// halt has it end itself, at once and in the midst of everything.
func (j *jvm) halt(t testing.TB) {
	t.Helper()
	_, err := j.call(map[string]any{"op": "halt", "store": ""}, nil)
	require.ErrorIs(t, err, io.EOF)
	<-j.done
}

// call sends a request and returns the last line of the answer; each of those
// before goes to more.
func (j *jvm) call(request map[string]any, more func([]byte) error) ([]byte, error) {
	to := make(chan []byte, 64)
	j.mu.Lock()
	if j.gone != nil {
		j.mu.Unlock()
		return nil, j.gone
	}
	j.last++
	request["id"] = j.last
	j.waiting[j.last] = to
	line, err := json.Marshal(request)
	if err == nil {
		_, err = j.in.Write(append(line, '\n'))
	}
	j.mu.Unlock()
	if err != nil {
		<-j.done
		return nil, fmt.Errorf("%w (%w)", j.gone, err)
	}
	var failed error
	for line := range to {
		var answer struct {
			More  bool
			Error string
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, err
		}
		switch {
		case answer.Error != "":
			return nil, fmt.Errorf("%v: %s", request["op"], answer.Error)
		case !answer.More:
			return line, failed
		case failed == nil:
			failed = more(line)
		}
	}
	<-j.done
	return nil, j.gone
}

// event is something that RocketMQ logged.
type event struct {
	Level string
	Text  string
}

// remote is a store that RocketMQ has open.
type remote struct {
	t    testing.TB
	jvm  *jvm
	name string
	dir  string
	// opened is what RocketMQ logged while it opened the directory.
	opened   []event
	min, max int64
}

// rocket opens a directory with RocketMQ.
func (j *jvm) rocket(t testing.TB, dir string, l layout) *remote {
	t.Helper()
	return j.rocketWith(t, dir, l.rocket())
}

func (j *jvm) rocketWith(t testing.TB, dir string, config map[string]any) *remote {
	t.Helper()
	r := &remote{t: t, jvm: j, name: dir, dir: dir}
	var answer struct {
		Loaded   bool
		Min, Max int64
		Log      []event
	}
	r.call(&answer, map[string]any{"op": "open", "dir": dir, "config": config}, nil)
	require.True(t, answer.Loaded, "RocketMQ did not load %s: %v", dir, answer.Log)
	r.opened, r.min, r.max = answer.Log, answer.Min, answer.Max
	return r
}

func (r *remote) call(answer any, request map[string]any, more func([]byte) error) {
	r.t.Helper()
	request["store"] = r.name
	line, err := r.jvm.call(request, more)
	require.NoError(r.t, err)
	if answer != nil {
		require.NoError(r.t, json.Unmarshal(line, answer))
	}
}

// close closes the store, and holds that no error was logged since it was open.
func (r *remote) close() {
	r.t.Helper()
	var answer struct{ Log []event }
	r.call(&answer, map[string]any{"op": "close"}, nil)
	for _, e := range answer.Log {
		if !strings.HasPrefix(e.Text, gonePrefix) {
			require.NotEqual(r.t, "ERROR", e.Level, e.Text)
		}
	}
}

// gonePrefix is what RocketMQ logs when an index file names a message that has
// expired, in a directory of its own too. The answer to the query is right.
const gonePrefix = "queryMessage exception: java.lang.NullPointerException"

// put appends messages one by one, and waits until all are in their queues.
func (r *remote) put(specs []spec) {
	r.t.Helper()
	var answer struct {
		Results []struct{ Status, Append string }
	}
	r.call(&answer, map[string]any{"op": "put", "messages": specs}, nil)
	require.Len(r.t, answer.Results, len(specs))
	for i, got := range answer.Results {
		require.Equal(r.t, "PUT_OK PUT_OK", got.Status+" "+got.Append, "message %d: %+v", i, specs[i])
	}
	r.settle()
}

// settle waits until all is in its queue.
func (r *remote) settle() {
	r.t.Helper()
	var answer struct{ Max int64 }
	r.call(&answer, map[string]any{"op": "settle"}, nil)
	r.max = answer.Max
}

// expire has RocketMQ delete what has expired.
func (r *remote) expire() {
	r.t.Helper()
	var answer struct{ Min int64 }
	r.call(&answer, map[string]any{"op": "expire"}, nil)
	r.min = answer.Min
}

// told is what of the log of an opening must not be there: errors, warnings that
// are none of the usual, and words of something that was cut or deleted.
func told(events []event) []string {
	var all []string
	for _, e := range events {
		if !usual(e) {
			all = append(all, e.Level+" "+e.Text)
		}
	}
	return all
}

// cut is what RocketMQ says at each start after a clean end, too: its queues reach
// as far as its log.
var cut = regexp.MustCompile(`^maxPhyOffsetOfConsumeQueue\((\d+)\) >= processOffset\((\d+)\), truncate dirty logic files$`)

// usual says that RocketMQ logs this with any directory of its own.
func usual(e event) bool {
	if e.Level == "ERROR" {
		return false
	}
	for _, text := range []string{
		"No resource file with name [META-INF/service/org.apache.rocketmq.store.ha.HAService] found.",
		"Load default HA Service: DefaultHAService",
	} {
		if strings.HasPrefix(e.Text, text) {
			return true
		}
	}
	if m := cut.FindStringSubmatch(e.Text); m != nil {
		return m[1] == m[2]
	}
	return e.Text == "found a illegal magic code 0x0"
}
