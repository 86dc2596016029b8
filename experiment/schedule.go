// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrConfig is wrapped by the errors about a configuration that can't be.
var ErrConfig = errors.New("experiment: wrong configuration")

// Schedule says where an experiment runs and how often. The zero value is
// usable.
type Schedule struct {
	// Dir is where the stores are made, each in a directory of its own below a
	// temporary one that is removed in the end; "" is os.TempDir. It must
	// exist.
	Dir string
	// Rounds is how often each case is measured; 0 means DefaultRounds.
	Rounds int
	// Discard is how many rounds run before those, and are forgotten: they
	// warm the machine up. 0 means one, negative none.
	Discard int
	// Progress is called before each step, on the goroutine that runs the
	// experiment; nil is silence.
	Progress func(Progress)
	// Command is put in the report.
	Command string
}

// DefaultRounds is how often each case is measured.
const DefaultRounds = 5

// Progress says how far an experiment has come.
type Progress struct {
	Done, Total int    // steps: a case in a round
	Case        string // that begins
	Round       int    // from 1; 0 is a round that is discarded
}

func (s Schedule) withDefaults() (Schedule, error) {
	if s.Rounds < 0 {
		return s, fmt.Errorf("%w: %d rounds", ErrConfig, s.Rounds)
	}
	if s.Rounds == 0 {
		s.Rounds = DefaultRounds
	}
	if s.Discard == 0 {
		s.Discard = 1
	}
	s.Discard = max(s.Discard, 0)
	if s.Dir == "" {
		s.Dir = os.TempDir()
	}
	if s.Progress == nil {
		s.Progress = func(Progress) {}
	}
	return s, nil
}

// step measures case i once, in an empty directory that is removed afterwards.
// With keep it keeps the result.
type step func(ctx context.Context, dir string, i int, keep bool) error

// run does every case once a round, in turn, so that a slow spell of the machine
// meets all of them and not one. Every other round goes backwards, so that what a
// case leaves behind does not always meet the same one.
func (s Schedule) run(ctx context.Context, cases []string, do step) (err error) {
	tmp, err := os.MkdirTemp(s.Dir, "stele-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	total := (s.Discard + s.Rounds) * len(cases)
	for n := range total {
		round, i := n/len(cases)+1-s.Discard, n%len(cases)
		if n/len(cases)%2 == 1 {
			i = len(cases) - 1 - i
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.Progress(Progress{Done: n, Total: total, Case: cases[i], Round: max(round, 0)})
		dir, err := os.MkdirTemp(tmp, "")
		if err != nil {
			return err
		}
		if err := do(ctx, dir, i, round > 0); err != nil {
			return fmt.Errorf("%s: %w", cases[i], err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	s.Progress(Progress{Done: total, Total: total, Round: s.Rounds})
	return nil
}

// report begins the report of an experiment.
func (s Schedule) report(name string) *Report {
	return &Report{
		Experiment: name, Command: s.Command, Time: time.Now(), Rounds: s.Rounds, Environment: Look(s.Dir),
	}
}
