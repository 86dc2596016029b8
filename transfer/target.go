// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/store"
)

// ErrPartial is returned where a directory of an unfinished copy is in the way.
var ErrPartial = errors.New("an unfinished copy is in the way")

// Target is a store that a copy goes into. One that the copy makes is called
// DIR.partial until Finish, so that nobody takes half of it for all.
type Target struct {
	Store *store.Store
	dir   string
	path  string // where it is now
}

// OpenTarget opens the store in dir, or begins a new one beside a dir that is
// missing or empty. With resume it goes on with an unfinished one; without, such a
// one is ErrPartial. Messages are stored as they are: see store.Options.Verbatim.
// The other errors are store.Open's.
func OpenTarget(dir string, resume bool, o store.Options) (*Target, error) {
	dir = filepath.Clean(dir)
	t := &Target{dir: dir, path: dir}
	o.Verbatim, o.MaxBodyLen = true, store.MaxFileSize
	empty, err := IsEmpty(dir)
	if err != nil {
		return nil, err
	}
	if empty {
		t.path = dir + Partial
		there, err := IsEmpty(t.path)
		switch {
		case err != nil:
			return nil, err
		case !there && !resume:
			return nil, fmt.Errorf("%w: %s; remove it, or go on with it", ErrPartial, t.path)
		}
	}
	if t.Store, err = store.Open(t.path, o); err != nil {
		return nil, err
	}
	return t, nil
}

// Partial is what the name of a directory ends in that a copy has not finished.
const Partial = ".partial"

// IsEmpty reports whether a directory is missing or has nothing in it.
func IsEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// Path is the directory that holds the store now.
func (t *Target) Path() string { return t.path }

// IsNew reports whether the copy makes the store.
func (t *Target) IsNew() bool { return t.path != t.dir }

// Finish closes the store and gives a new one its name.
func (t *Target) Finish() error {
	if err := t.Store.Close(); err != nil || !t.IsNew() {
		return err
	}
	// An empty directory may stand there; rename(2) would take its place, os.Rename
	// refuses.
	if err := os.Remove(t.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the copy is whole, in %s, and can't get its name: %w", t.path, err)
	}
	if err := os.Rename(t.path, t.dir); err != nil {
		return err
	}
	t.path = t.dir
	return mappedfile.OS().SyncDir(filepath.Dir(t.dir))
}

// Leave closes the store as far as it got.
func (t *Target) Leave() error { return t.Store.Close() }

// Discard closes the store and removes it, if the copy made it.
func (t *Target) Discard() error {
	err := t.Store.Close()
	if !t.IsNew() {
		return err
	}
	return errors.Join(err, os.RemoveAll(t.path))
}
