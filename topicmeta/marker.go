// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	markerName   = "STELE-META"
	markerTemp   = markerName + ".tmp"
	markerPrefix = "stele topicmeta "

	// layoutVersion counts changes of the key and value layout. Version 1 had no
	// progress of timers.
	layoutVersion = 2
)

// claim makes sure that dir is ours before anything else touches it: it has our
// marker, or it is empty (or missing) and gets one.
func claim(fsys vfs.FS, dir string, readOnly bool) error {
	names, err := fsys.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !readOnly:
		if err := makeDir(fsys, dir); err != nil {
			return err
		}
	case err != nil:
		return err
	case !readOnly:
		// Whoever made the directory and the marker may not have come as far as
		// making their names durable.
		if err := errors.Join(syncDir(fsys, fsys.PathDir(dir)), syncDir(fsys, dir)); err != nil {
			return err
		}
	}
	others := 0
	for _, name := range names {
		switch name {
		case markerName:
			version, err := checkMarker(fsys, fsys.PathJoin(dir, markerName))
			if err != nil || readOnly || version == layoutVersion {
				return err
			}
			// Before anything is written that an older reader does not know.
			return writeMarker(fsys, dir)
		case markerTemp: // a crash while the marker was written
		default:
			others++
		}
	}
	if others > 0 || readOnly {
		return fmt.Errorf("%w: %s has no %s", ErrNotOurs, dir, markerName)
	}
	return writeMarker(fsys, dir)
}

func checkMarker(fsys vfs.FS, path string) (version int, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 128))
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(string(text), "\n"), markerPrefix)
	version, err = strconv.Atoi(digits)
	switch {
	case !ok || err != nil || version < 1:
		return 0, fmt.Errorf("%w: %s holds %q", ErrNotOurs, path, text)
	case version > layoutVersion:
		return 0, fmt.Errorf("%w: %s says %d, known is %d", ErrVersion, path, version, layoutVersion)
	}
	return version, nil
}

// writeMarker makes the marker appear whole or not at all.
func writeMarker(fsys vfs.FS, dir string) error {
	temp := fsys.PathJoin(dir, markerTemp)
	f, err := fsys.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(markerPrefix + strconv.Itoa(layoutVersion) + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, fsys.PathJoin(dir, markerName)); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}

// makeDir creates dir and what is missing above it, durably.
func makeDir(fsys vfs.FS, dir string) error {
	parent := fsys.PathDir(dir)
	if _, err := fsys.Stat(parent); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(fsys, parent)
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
