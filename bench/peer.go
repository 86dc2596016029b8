// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os/exec"
	"slices"
)

// mode is when an append returns.
type mode string

const (
	async   mode = "async" // before it is durable
	durable mode = "sync"  // once it is durable
)

// guarantee is what a mode of a peer promises when an append returns.
type guarantee struct {
	Kill  bool `json:"survivesKill"`  // what was acknowledged survives SIGKILL
	Power bool `json:"survivesPower"` // and a power cut
	// Text says what was configured, and what has been done by then.
	Text string `json:"text"`
}

// peer is an engine that is measured.
type peer struct {
	name   string
	module string // import path of the module, for its version
	// modes are those that it has.
	modes map[mode]guarantee
	// without says why it has no figure for some kinds of work.
	without map[kind]string
	// only are the kinds of work that it is measured with; nil is all of them.
	only []kind
	open func(dir string, m mode) (engine, error)
	// program is how another program measures a spec, given as JSON, and prints the
	// result as a child does; then open is nil.
	program func(ctx context.Context, spec string) (*exec.Cmd, error)
	// prepare is called before, with a directory for what is to be kept; an
	// errMissing says that the machine can't run it.
	prepare func(cache string) error
	// floor says that it is no engine: goals are not held against it, but their
	// verdicts tell what floorPeer and prototypePeer reached.
	floor bool
	// version is for a peer whose module is not in this program.
	version string
}

// peers are all of them; Stele is the first.
func peers() []peer {
	return []peer{
		steleDefault, stelePopulated, floorPeer, prototypePeer,
		rosedbPeer, vmPeer, pebblePeer, bboltPeer, raftWALPeer, tidwallPeer, natsPeer, rocketPeer,
	}
}

// notAsked is why a peer has no figure of something that it could do.
const notAsked = "not asked"

// refuses says why there is no figure of a workload for p, or "".
func (p peer) refuses(w workload) string {
	if p.only != nil && !slices.Contains(p.only, w.kind) || w.kind.own() && !isStele(p.name) {
		return notAsked
	}
	if why, ok := p.without[w.kind]; ok {
		return why
	}
	if _, ok := p.modes[w.mode]; !ok {
		return "has no " + string(w.mode) + " mode"
	}
	return ""
}

// engine is an open peer.
type engine interface {
	// appender is what one producer appends with. Appenders of different
	// producers are used at the same time.
	appender(producer int) (appender, error)
	// count is how many messages there are, as an embedder asks after opening.
	count() (int64, error)
	close() error
}

// appender appends. The bytes are the caller's and change after the call.
type appender interface {
	append(body []byte) error
	// appendBatch appends several messages at once, in the way of the peer.
	appendBatch(bodies [][]byte) error
	// settle returns when all that was appended is what the mode promises, and
	// can be read.
	settle() error
}

// scanner is an engine whose messages can be read one after the other.
type scanner interface {
	// scan hands over the messages from the first one on, until visit returns
	// false. The bytes are valid during the call.
	scan(visit func(body []byte) bool) error
}

// picker is an engine that finds a message by its number.
type picker interface {
	// pick returns message i, from 0, in the order of appends of one producer. The
	// bytes are valid until the next call.
	pick(i int64) ([]byte, error)
}
