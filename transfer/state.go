// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

var (
	// ErrState marks a state file that is none, or is another replay's.
	ErrState = errors.New("state does not fit")
	// ErrSourceChanged is returned when the record that a replay ended at is not
	// there any more: it has expired, or the directory holds another store.
	ErrSourceChanged = errors.New("the source is not what it was")
	// ErrTargetChanged is returned when the target does not hold what the replay
	// left there.
	ErrTargetChanged = errors.New("the target is not what it was")
)

// stateVersion is that of the file.
const stateVersion = 1

// Place names a record of the source, and tells it from another one that stands
// there.
type Place struct {
	Offset    message.Offset `json:"offset"`
	Size      int32          `json:"size"`
	StoreTime int64          `json:"storeTimestamp"`
	BodyCRC   uint32         `json:"bodyCRC"`
}

func placeOf(m *message.Message) Place {
	return Place{Offset: m.PhysicalOffset, Size: m.Size, StoreTime: m.StoreTimestamp, BodyCRC: crc32.ChecksumIEEE(m.Body)}
}

// Mark is how far a sink had taken what it was given: of a store the end of its
// log, of a file its length, with what tells the file from another one.
type Mark struct {
	End    int64  `json:"end"`
	Device uint64 `json:"device,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
}

// State is how far a replay has come.
type State struct {
	Version int `json:"version"`
	// Request is what was asked for, as text: a state is for the same only.
	Request string `json:"request"`
	// Since, Until and Now are times of the request as they were when it was first
	// made, in milliseconds since the Unix epoch.
	Since int64 `json:"since"`
	Until int64 `json:"until"`
	Now   int64 `json:"now"`
	// Last is the newest record of the source that is done, nil at the beginning.
	Last *Place `json:"last"`
	// Messages, Bytes and Delayed are what was done up to there, as in Replayed.
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Delayed  int64 `json:"delayed"`
	// Mark is how far the sink was when all up to Last was in it, nil before the
	// first message.
	Mark *Mark `json:"mark"`
	// Ended says that nothing was put behind Mark.
	Ended bool `json:"ended"`
}

// ReadState reads a state file. A missing one is nil. The error wraps ErrState,
// or is what the file system said.
func ReadState(path string) (*State, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	var s State
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrState, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s: %w: version %d, this program knows %d", path, ErrState, s.Version, stateVersion)
	}
	if s.Messages < 0 || s.Bytes < 0 || s.Delayed < 0 || s.Last != nil && s.Last.Offset < 0 || s.Mark != nil && s.Mark.End < 0 {
		return nil, fmt.Errorf("%s: %w: a negative number", path, ErrState)
	}
	return &s, nil
}

// write replaces the file, durably.
func (s *State) write(path string) error {
	s.Version = stateVersion
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := mappedfile.OS().WriteFile(next, append(data, '\n')); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return mappedfile.OS().SyncDir(filepath.Dir(path))
}

// filter narrows f to what is not done. again says that the first message will be
// Last once more.
func (s *State) filter(f inspect.Filter) (rest inspect.Filter, again bool) {
	f.Since, f.Until = s.Since, s.Until
	if s.Last == nil {
		return f, false
	}
	f.From = s.Last.Offset
	if f.Limit > 0 {
		f.Limit -= s.Messages + s.Delayed - 1
	}
	return f, true
}
