// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rule returns what breaks it, one line each.
type rule func(t *tree, h *house) []string

// rules are all of them, by name.
var rules = map[string]rule{
	"floors":           floors,
	"outside modules":  outsideModules,
	"package names":    packageNames,
	"package comments": packageComments,
	"licence header":   licenceHeader,
	"length":           length,
	"no sleep":         noSleep,
	"no panic":         noPanic,
	"no init":          noInit,
	"no leftovers":     noLeftovers,
	"links":            links,
	"go version":       goVersion,
	"decisions":        decisions,
}

// floors holds the order of packages.
func floors(t *tree, h *house) (broken []string) {
	dirs := t.packages()
	for _, dir := range dirs {
		if _, ok := h.floors[dir]; !ok && !t.isNested(dir) {
			broken = append(broken, dir+": the package has no floor")
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(h.floors)) {
		if !slices.Contains(dirs, dir) {
			broken = append(broken, dir+": the table of floors names a package that is not there")
		}
	}
	for _, f := range t.ours() {
		for _, imp := range f.imports() {
			other, ok := strings.CutPrefix(imp, modulePath+"/")
			if !ok {
				continue
			}
			if why := h.mayImport(f, other); why != "" {
				broken = append(broken, fmt.Sprintf("%s: imports %s: %s", f.name, other, why))
			}
		}
	}
	return broken
}

// mayImport says why a file must not import a package of ours, or nothing.
func (h *house) mayImport(f *file, other string) string {
	if h.testOnly[other] {
		if f.test {
			return ""
		}
		return "only tests may"
	}
	if slices.Contains(h.never[f.dir], other) {
		return "never"
	}
	from, to := h.floors[f.dir], h.floors[other]
	if to < from || f.test && to == from {
		return ""
	}
	return fmt.Sprintf("floor %d stands on floor %d", from, to)
}

// outsideModules holds the list of who may use which module.
func outsideModules(t *tree, h *house) (broken []string) {
	for _, f := range t.ours() {
		allowed := h.outside[f.dir]
		if f.test {
			allowed = slices.Concat(allowed, h.testOutside[f.dir], h.allTests)
		}
		for _, imp := range f.imports() {
			first, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(first, ".") || imp == modulePath || strings.HasPrefix(imp, modulePath+"/") {
				continue // the standard library, or ours
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return imp == a || strings.HasPrefix(imp, a+"/") }) {
				broken = append(broken, fmt.Sprintf("%s: imports %s, which %s may not", f.name, imp, f.dir))
			}
		}
	}
	return broken
}

// vague are names that say nothing about what is inside.
var vague = []string{"types", "common", "util", "utils", "base", "helper", "helpers", "misc", "shared", "lib"}

func packageNames(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains(vague, name) || slices.Contains(vague, path.Base(f.dir)) {
			broken = append(broken, fmt.Sprintf("%s: a package must not be called %s", f.name, name))
		}
	}
	return broken
}

// packageComments wants each package to say what it is.
func packageComments(t *tree, _ *house) (broken []string) {
	has := map[string]bool{}
	for _, f := range t.files {
		if !f.test && f.ast.Doc != nil {
			has[f.dir] = true
		}
	}
	for _, dir := range t.packages() {
		if !has[dir] {
			broken = append(broken, dir+": the package has no comment")
		}
	}
	return broken
}

const header = "// Copyright the Stele authors.\n// SPDX-License-Identifier: Apache-2.0\n\n"

func licenceHeader(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		if !strings.HasPrefix(f.text, header) {
			broken = append(broken, f.name+": does not begin with the two lines of the licence header and an empty one")
		}
	}
	return broken
}

// length keeps files and functions short.
func length(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		if n := strings.Count(f.text, "\n"); n > maxFileLines {
			broken = append(broken, fmt.Sprintf("%s: %d lines, at most %d", f.name, n, maxFileLines))
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.line(fn.End()) - t.line(fn.Pos()) + 1; n > maxFunctionLines {
				broken = append(broken, fmt.Sprintf("%s: %d lines, at most %d", t.at(f, fn.Pos(), fn.Name.Name), n, maxFunctionLines))
			}
		}
	}
	return broken
}

// noSleep: what is waited for is a channel, a watermark or a timer.
func noSleep(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		local := f.localName("time")
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" && isIdent(sel.X, local) {
				broken = append(broken, t.at(f, n.Pos(), "time.Sleep"))
			}
			return true
		})
	}
	return broken
}

func noPanic(t *tree, h *house) (broken []string) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && h.panics[f.dir+"."+fn.Name.Name] {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && isIdent(call.Fun, "panic") {
					broken = append(broken, t.at(f, n.Pos(), "panic"))
				}
				return true
			})
		}
	}
	return broken
}

func noInit(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				broken = append(broken, t.at(f, fn.Pos(), "func init"))
			}
		}
	}
	return broken
}

var leftover = regexp.MustCompile(`\b(TODO|FIXME)\b`)

// noLeftovers: what is to be done is an issue, not a comment.
func noLeftovers(t *tree, _ *house) (broken []string) {
	for _, f := range t.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if word := leftover.FindString(c.Text); word != "" {
					broken = append(broken, t.at(f, c.Pos(), word))
				}
			}
		}
	}
	return broken
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docPage = regexp.MustCompile(`\bdocs/[\w./-]+\.md\b`)
)

// links: a page that is linked to, or named in a comment, is there.
func links(t *tree, _ *house) (broken []string) {
	for _, name := range slices.Sorted(maps.Keys(t.pages)) {
		for _, m := range link.FindAllStringSubmatch(t.pages[name], -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if !t.names[path.Join(path.Dir(name), target)] {
				broken = append(broken, fmt.Sprintf("%s: links to %s, which is not there", name, target))
			}
		}
	}
	for _, f := range t.files {
		for _, group := range f.ast.Comments {
			for _, page := range docPage.FindAllString(group.Text(), -1) {
				if !t.names[page] {
					broken = append(broken, fmt.Sprintf("%s: %s is not there", t.at(f, group.Pos(), "comment"), page))
				}
			}
		}
	}
	return broken
}

var goLine = regexp.MustCompile(`(?m)^go (\S+)$`)

// goVersion: the module builds with the Go that users have.
func goVersion(t *tree, _ *house) (broken []string) {
	m := goLine.FindStringSubmatch(t.goMod)
	if len(m) < 2 || m[1] != newestGo {
		broken = append(broken, fmt.Sprintf("go.mod: go %q, want %s", m, newestGo))
	}
	if strings.Contains(t.goMod, "\ntoolchain ") {
		broken = append(broken, "go.mod: a toolchain line")
	}
	if strings.Contains(t.goMod, "\nreplace ") {
		broken = append(broken, "go.mod: a replace line, which is ignored where the module is used")
	}
	return broken
}

var (
	decisionName  = regexp.MustCompile(`^docs/decisions/(\d{4})-[a-z0-9-]+\.md$`)
	decisionParts = []string{"## Context", "## Choice", "## Price", "## What would change our mind"}
)

// decisions have a number of their own and the same four parts. There may be a
// gap: a number is given before its page is written.
func decisions(t *tree, _ *house) (broken []string) {
	last := 0
	for _, name := range slices.Sorted(maps.Keys(t.pages)) {
		if path.Dir(name) != "docs/decisions" || path.Base(name) == "README.md" {
			continue
		}
		m := decisionName.FindStringSubmatch(name)
		if m == nil {
			broken = append(broken, name+": want NNNN-title.md")
			continue
		}
		n, _ := strconv.Atoi(m[1])
		if n <= last {
			broken = append(broken, fmt.Sprintf("%s: number %04d is taken", name, n))
		}
		last = n
		for _, part := range decisionParts {
			if !strings.Contains(t.pages[name], "\n"+part+"\n") {
				broken = append(broken, fmt.Sprintf("%s: lacks %q", name, part))
			}
		}
	}
	return broken
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && name != "" && id.Name == name
}

// line is where pos stands in its file.
func (t *tree) line(pos token.Pos) int { return t.fset.Position(pos).Line }

// at names a place in a file.
func (t *tree) at(f *file, pos token.Pos, what string) string {
	return fmt.Sprintf("%s:%d: %s", f.name, t.line(pos), what)
}
