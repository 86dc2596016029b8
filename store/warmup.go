// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/warmup"
)

// DefaultWarmupWindow is how many bytes ahead of the write position are kept
// warm when nothing else is asked for.
const DefaultWarmupWindow = 4 << 20

// WarmupOptions say which pages of the log are made present before an append
// writes to them, so that it meets no page fault. It is done in the background
// and ahead of need; no append waits for it.
//
// The zero value populates a window of DefaultWarmupWindow, from the first
// append on: an empty store costs nothing, a small one 4 MiB of memory, and as
// much of disk writes at the first flush. A broker-sized one sets Mode to
// warmup.Populate, which has the whole of the last file and the next one in
// memory, two of FileSize.
//
// Only files that are written through their mapping are warmed up: with another
// WritePath than WriteMmap it is off, whatever is asked for. See DefaultWritePath
// for what the zero value means with FlushSync.
type WarmupOptions struct {
	// Mode says how. warmup.Default is warmup.Populate with a window.
	Mode warmup.Mode
	// Window is how many bytes ahead of the write position are kept warm. 0 is
	// whole files, but for warmup.Default, where it is DefaultWarmupWindow.
	Window int64
	// Lock keeps what is warm in memory until it is written, also when memory is
	// short: three times the window, or two files. Without CAP_IPC_LOCK RLIMIT_MEMLOCK
	// must allow that.
	Lock bool
	// Advise is given for what is warmed up: warmup.WillNeed, Sequential or
	// Random. None of them helps appends.
	Advise warmup.Advice
	// Require makes Open fail when the system refuses any of it. Without it a
	// refusal is told to Events.Warmed, once, and stands in Stats.Warmup.
	Require bool
}

// WarmupStats say what is warmed up how, and what that cost.
type WarmupStats struct {
	// Mode and Window are those of Options.Warmup, with defaults filled in. A
	// Window of 0 is whole files.
	Mode   warmup.Mode
	Window int64
	// Done is all that was done since Open; Done.Locked is what is locked now.
	Done warmup.Result
}

// withDefaults fills in what is zero, and reports what makes no sense.
func (o WarmupOptions) withDefaults(path WritePath) (WarmupOptions, error) {
	switch {
	case path != WriteMmap && o.Require:
		return o, fmt.Errorf("%w: Warmup.Require with the write path %v, whose files are not warmed up", ErrOptions, path)
	case o.Window < 0:
		return o, fmt.Errorf("%w: Warmup.Window %d", ErrOptions, o.Window)
	case o.Mode > warmup.Populate:
		return o, fmt.Errorf("%w: Warmup.Mode %v", ErrOptions, o.Mode)
	case o.Mode == warmup.Off && (o.Lock || o.Window > 0 || o.Advise != warmup.NoAdvice):
		return o, fmt.Errorf("%w: Warmup.Mode is off, and a window, a lock or advice is asked for", ErrOptions)
	case o.Advise > warmup.Sequential:
		// What takes pages away is the opposite of warming up.
		return o, fmt.Errorf("%w: Warmup.Advise %v", ErrOptions, o.Advise)
	}
	if path != WriteMmap {
		return WarmupOptions{Mode: warmup.Off}, nil
	}
	if o.Mode == warmup.Default {
		o.Mode = warmup.Populate
		if o.Window == 0 {
			o.Window = DefaultWarmupWindow
		}
	}
	return o, nil
}

// warmOptions are what the log is told.
func (s *Store) warmOptions() commitlog.WarmOptions {
	w := s.o.Warmup
	return commitlog.WarmOptions{
		Plan:   warmup.Plan{Mode: w.Mode, Lock: w.Lock, Advise: w.Advise},
		Window: w.Window, OnWarm: s.onWarm,
	}
}

// settleWarmUp has the log ask for what is wanted, before anything is changed in
// the directory.
func (s *Store) settleWarmUp() error {
	refused := s.log.SettleWarmUp()
	if len(refused) == 0 {
		return nil
	}
	if s.o.Warmup.Require {
		errs := make([]error, len(refused))
		for i, r := range refused {
			errs[i] = r
		}
		return fmt.Errorf("%w: %w", ErrWarmup, errors.Join(errs...))
	}
	s.onWarm(commitlog.WarmInfo{Result: warmup.Result{Refused: refused}})
	s.warmRefused = refused
	return nil
}

// onWarm is called by Open, and by the goroutine that warms up.
func (s *Store) onWarm(i commitlog.WarmInfo) {
	if !i.Done {
		s.o.Logger.Warn("warm-up refused; the store works without", "refused", i.Result.Refused)
	}
	if i.Err != nil {
		s.o.Logger.Warn("warm-up given up", "file", i.Path, "error", i.Err)
	}
	if f := s.o.Events.Warmed; f != nil {
		f(i)
	}
}

// warmupStats is Stats.Warmup.
func (s *Store) warmupStats() WarmupStats {
	st := WarmupStats{Mode: s.o.Warmup.Mode, Window: s.o.Warmup.Window}
	st.Done.Refused = append(st.Done.Refused, s.warmRefused...)
	st.Done.Add(s.log.Warmed())
	return st
}
