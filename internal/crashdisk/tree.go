// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// node is a *file or a *dir.
type node any

// dir is a directory: its names as they are, and as they are durable.
type dir struct {
	names  map[string]node
	synced map[string]node
}

func newDir() *dir { return &dir{names: map[string]node{}, synced: map[string]node{}} }

func (d *dir) sync() { d.synced = maps.Clone(d.names) }

// clean is the path as the tree and the counters know it: "/a" and "a" are the
// same place.
func clean(path string) string {
	path = strings.TrimPrefix(filepath.ToSlash(filepath.Clean(path)), "/")
	if path == "." {
		return ""
	}
	return path
}

func elements(path string) []string {
	if path = clean(path); path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// walk returns the node at path.
func (d *dir) walk(op, path string) (node, error) {
	var n node = d
	for _, name := range elements(path) {
		parent, ok := n.(*dir)
		if !ok {
			return nil, pathError(op, path, syscall.ENOTDIR)
		}
		if n, ok = parent.names[name]; !ok {
			return nil, pathError(op, path, syscall.ENOENT)
		}
	}
	return n, nil
}

func (d *dir) findDir(op, path string) (*dir, error) {
	n, err := d.walk(op, path)
	if err != nil {
		return nil, err
	}
	found, ok := n.(*dir)
	if !ok {
		return nil, pathError(op, path, syscall.ENOTDIR)
	}
	return found, nil
}

func (d *dir) findFile(op, path string) (*file, error) {
	n, err := d.walk(op, path)
	if err != nil {
		return nil, err
	}
	found, ok := n.(*file)
	if !ok {
		return nil, pathError(op, path, syscall.EISDIR)
	}
	return found, nil
}

// place returns the directory that path lies in, and its name there.
func (d *dir) place(op, path string) (*dir, string, error) {
	all := elements(path)
	if len(all) == 0 {
		return nil, "", pathError(op, path, syscall.EBUSY)
	}
	parent, err := d.findDir(op, strings.Join(all[:len(all)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	return parent, all[len(all)-1], nil
}

// mkdirAll makes what is missing of path, durably.
func (d *dir) mkdirAll(path string) error {
	at := d
	for _, name := range elements(path) {
		next, ok := at.names[name]
		if !ok {
			made := newDir()
			at.names[name] = made
			at.sync()
			next = made
		}
		if at, ok = next.(*dir); !ok {
			return pathError("mkdir", path, syscall.ENOTDIR)
		}
	}
	return nil
}

// each visits every file that has a current name, in the order of paths.
func (d *dir) each(prefix string, visit func(path string, f *file)) {
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		path := prefix + name
		switch n := d.names[name].(type) {
		case *file:
			visit(path, n)
		case *dir:
			n.each(path+"/", visit)
		}
	}
}
