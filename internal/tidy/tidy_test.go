// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHouse applies every rule to the module.
func TestHouse(t *testing.T) {
	t.Parallel()
	tr, err := readTree(os.DirFS("../.."))
	require.NoError(t, err)
	// A reader that sees nothing would find nothing.
	require.Greater(t, len(tr.files), 100)
	require.True(t, tr.names["README.md"])
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, broken := range check(tr, &ours) {
				t.Error(broken)
			}
		})
	}
}

// tree is the module as the rules see it. Names are relative to its root, with
// slashes.
type tree struct {
	fset  *token.FileSet
	files []*file
	pages map[string]string // Markdown, by name
	names map[string]bool   // every file and directory
	goMod string
	// nested are the directories of modules of their own, which the go command
	// passes over. What they import is their own affair; all else is not.
	nested []string
}

// file is a Go file.
type file struct {
	name string
	dir  string
	test bool
	text string
	ast  *ast.File
}

// readTree reads what belongs to the module: no hidden directories, and none
// that the go command passes over.
func readTree(root fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), pages: map[string]string{}, names: map[string]bool{}}
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if e.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") && base != ".ci" || strings.HasPrefix(base, "_") || base == "testdata") {
				return fs.SkipDir
			}
			t.names[name] = true
			return nil
		}
		t.names[name] = true
		switch {
		case base == "go.mod" && name != base:
			t.nested = append(t.nested, path.Dir(name))
		case path.Ext(name) == ".go", path.Ext(name) == ".md", name == "go.mod":
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			return t.add(name, string(text))
		}
		return nil
	})
	return t, err
}

func (t *tree) add(name, text string) error {
	switch {
	case name == "go.mod":
		t.goMod = text
	case path.Ext(name) == ".md":
		t.pages[name] = text
	default:
		parsed, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.files = append(t.files, &file{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, ast: parsed,
		})
	}
	return nil
}

// packages are the directories with Go files, sorted.
func (t *tree) packages() []string {
	var dirs []string
	for _, f := range t.files {
		dirs = append(dirs, f.dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// ours are the files of the module itself.
func (t *tree) ours() []*file {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *file) bool { return t.isNested(f.dir) })
}

func (t *tree) isNested(dir string) bool {
	return slices.ContainsFunc(t.nested, func(m string) bool { return dir == m || strings.HasPrefix(dir, m+"/") })
}

func (f *file) imports() []string {
	paths := make([]string, 0, len(f.ast.Imports))
	for _, s := range f.ast.Imports {
		p, _ := strconv.Unquote(s.Path.Value) // the parser has seen to it
		paths = append(paths, p)
	}
	return paths
}

// localName is what a file calls an import, or nothing when it has none.
func (f *file) localName(imp string) string {
	for _, s := range f.ast.Imports {
		if p, _ := strconv.Unquote(s.Path.Value); p != imp {
			continue
		}
		if s.Name != nil {
			return s.Name.Name
		}
		return path.Base(imp)
	}
	return ""
}
