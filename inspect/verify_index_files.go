// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
)

// openKeys lists the index and how far each file is filled, before the log is
// listed: so the log has every record that is named.
func (v *verifier) openKeys() error {
	dir := filepath.Join(v.d.path, layout.Index)
	if err := v.strayKeys(dir); err != nil {
		return err
	}
	set, err := v.d.openIndexOf(v.d.index, true)
	if errors.Is(err, keyindex.ErrSizes) && v.d.index == (keyindex.Sizes{}) {
		return v.finding(&Finding{Kind: KindIndexHeader, File: dir, Offset: -1, Detail: err.Error() + "; the key index is not compared"})
	}
	if err != nil {
		return err
	}
	x := &keyCheck{v: v, set: set, last: -1}
	v.keys = x
	for _, p := range set.Problems() {
		if f, ok := findingOf(p); ok {
			if err := v.finding(&f); err != nil {
				return err
			}
		}
	}
	if path := set.Unfinished(); path != "" {
		f := Finding{Kind: KindFile, Note: true, File: path, Offset: -1, Detail: "an index file without an entry: its making was interrupted"}
		if err := v.finding(&f); err != nil {
			return err
		}
	}
	files := set.Files()
	for i, f := range files {
		if err := x.measure(f, i == len(files)-1); err != nil {
			return err
		}
	}
	if err := x.noted(dir); err != nil {
		return err
	}
	x.begin()
	return nil
}

// strayKeys reports what is in the directory and is no index file.
func (v *verifier) strayKeys(dir string) error {
	stray, err := strayIndexFiles(dir)
	if err != nil {
		return err
	}
	for _, e := range stray {
		f := Finding{Kind: KindFile, File: e.Path, Offset: -1, Detail: e.Cause.Error()}
		if err := v.finding(&f); err != nil {
			return err
		}
	}
	return nil
}

// strayIndexFiles lists what does not belong into the directory of the index.
func strayIndexFiles(dir string) (stray []*mappedfile.FileError, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() || !keyindex.IsFileName(e.Name()) {
			stray = append(stray, &mappedfile.FileError{Path: filepath.Join(dir, e.Name()), Cause: mappedfile.ErrStrayFile})
		}
	}
	return stray, err
}

// noted looks for the file that Stele's note names.
func (x *keyCheck) noted(dir string) error {
	text, err := os.ReadFile(filepath.Join(x.v.d.path, layout.Stele, layout.IndexNote))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	note, ok := keyindex.ParseNote(text)
	x.whole = ok
	if note.Newest == "" {
		return nil
	}
	for _, f := range x.set.Files() {
		if f.Name() >= note.Newest {
			return nil // a broker that wrote here after us goes by other rules
		}
	}
	return x.v.finding(&Finding{Kind: KindFile, File: filepath.Join(dir, note.Newest), Offset: -1, Detail: "missing index file"})
}

// measure finds out how many entries a file has: its header says so, and what
// stands there.
func (x *keyCheck) measure(f *keyindex.File, newest bool) error {
	s := &keyFile{File: f}
	var more bool // an entry that is not counted
	err := f.Read(func(m keyindex.Image) error {
		s.sizes = m.Sizes
		for range 5 { // its writer may go on
			s.header = m.Header()
			s.n = m.Len()
			for s.n > 0 && unwritten(m, s.n) {
				s.n--
			}
			more = s.n == m.Len() && s.n+1 < m.Entries && !unwritten(m, s.n+1)
			if s.n == m.Len() && !more {
				break
			}
		}
		if more && (!newest || x.v.abort == nil || s.n+2 < m.Entries && !unwritten(m, s.n+2)) {
			for s.n+1 < m.Entries && !unwritten(m, s.n+1) {
				s.n++
			}
			more = false
		}
		s.begin = s.header.BeginTime
		return nil
	})
	if expired(err) {
		return nil
	}
	if err != nil {
		return unreadable(err)
	}
	x.files = append(x.files, s)
	if err := f.Drop(); err != nil {
		return err
	}
	if more && !x.v.abort.Alive {
		return x.header(s, true, fmt.Sprintf("it counts %d entries, one more is there: its writer was killed before it counted that", s.n))
	}
	if c := int(s.header.Count); more || c == s.n+1 || c <= 0 && s.n == 0 {
		return nil
	}
	return x.header(s, false, fmt.Sprintf("it counts %d entries, %d are there", int(s.header.Count)-1, s.n))
}

// unwritten reports whether entry k is zeros. Only of the first record of a log,
// the first entry may be.
func unwritten(m keyindex.Image, k int) bool {
	return m.Entry(k) == (keyindex.Entry{}) && (k > 1 || m.Header().BeginOffset != 0 || m.Header().Count <= 1)
}

func expired(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, mappedfile.ErrExpired)
}
