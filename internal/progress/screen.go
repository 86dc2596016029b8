// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Screen is a place for words, stderr as a rule, on which a Bar may be shown.
type Screen struct {
	width func() int // columns; nil when it is no terminal

	mu      sync.Mutex
	w       io.Writer
	drawn   bool // a line of progress stands there
	midLine bool // words or data have begun a line and not ended it
}

// NewScreen returns the Screen that writes to w. It can show progress if w is
// a terminal.
func NewScreen(w io.Writer) *Screen { return &Screen{w: w, width: columns(w)} }

// columns returns what asks for the width of the terminal w, nil when it is none.
func columns(w io.Writer) func() int {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	// Only a terminal answers; /dev/null does not.
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return func() int {
		// It is asked each time, since a window may change.
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
		return 80
	}
}

// Write writes words, whole lines as a rule.
func (s *Screen) Write(p []byte) (int, error) { return s.write(s.w, p) }

// Beside returns a writer to w that takes progress away before it writes, if both
// are terminals; else it returns w.
func (s *Screen) Beside(w io.Writer) io.Writer {
	if s.width == nil || columns(w) == nil {
		return w
	}
	return &beside{s, w}
}

type beside struct {
	s *Screen
	w io.Writer
}

func (b *beside) Write(p []byte) (int, error) { return b.s.write(b.w, p) }

func (s *Screen) write(w io.Writer, p []byte) (int, error) {
	if s.width == nil {
		return w.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	if len(p) > 0 {
		s.midLine = p[len(p)-1] != '\n'
	}
	return w.Write(p)
}

// clearLine moves to the start of the line and empties it (ECMA-48).
const clearLine = "\r\x1b[K"

// clear takes the line of progress away. The caller holds mu.
func (s *Screen) clear() {
	if s.drawn {
		_, _ = io.WriteString(s.w, clearLine) // if it fails there is nobody to see it
		s.drawn = false
	}
}

// draw shows a line of progress, cut to what fits: one that went on in a second
// row could not be taken away.
func (s *Screen) draw(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.midLine {
		return
	}
	if most := s.width() - 1; len(line) > most {
		line = string([]rune(line)[:min(max(most, 0), len([]rune(line)))])
	}
	_, _ = io.WriteString(s.w, clearLine+line)
	s.drawn = true
}
