// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// samples holds stores that a real RocketMQ wrote; its README tells about them.
const samples = "../../inspect/testdata"

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands
// they have:
//
//	unpack NAME                 unpack a sample store into ./NAME
//	status N storectl ARG...    run storectl and require that exit status
//	patch FILE OFFSET HEX       overwrite bytes of a file
//	snapshot DIR                remember bytes and times of every file in DIR
//	unchanged DIR               require that they are as they were
//	emptydir DIR                require that there is nothing in it
//	sameexport A B              require that two exports differ in nothing but what
//	                            a store gives anew
//
// With UPDATE_SCRIPTS=1 in the environment, the expected output in the scripts is
// replaced by what the commands printed: look at the difference before you keep
// it.
func TestScripts(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs(samples)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"unpack": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(unpack(filepath.Join(dir, args[0]+".tar.gz"), ts.MkAbs(".")))
			},
			"status":     scriptStatus,
			"patch":      scriptPatch,
			"snapshot":   scriptSnapshot,
			"unchanged":  scriptUnchanged,
			"sameexport": scriptSameExport,
			"emptydir": func(ts *testscript.TestScript, _ bool, args []string) {
				entries, err := os.ReadDir(ts.MkAbs(args[0]))
				ts.Check(err)
				if len(entries) > 0 {
					ts.Fatalf("%s holds %v", args[0], entries)
				}
			},
		},
	})
}

func scriptStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func scriptPatch(ts *testscript.TestScript, _ bool, args []string) {
	off, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	b, err := hex.DecodeString(args[2])
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt(b, off)
	ts.Check(errors.Join(err, f.Close()))
}

func scriptSnapshot(ts *testscript.TestScript, _ bool, args []string) {
	s, err := snapshot(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("SNAPSHOT", s)
}

func scriptUnchanged(ts *testscript.TestScript, _ bool, args []string) {
	s, err := snapshot(ts.MkAbs(args[0]))
	ts.Check(err)
	if s != ts.Getenv("SNAPSHOT") {
		ts.Fatalf("%s changed", args[0])
	}
}

// snapshot digests names, modes, modification times and bytes of all files
// below dir; of a file, the first megabytes, which hold all that a sample has.
func snapshot(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(h, path, info.Mode(), info.ModTime().UnixNano(), info.Size()); err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(h, io.LimitReader(f, 8<<20))
		return errors.Join(err, f.Close())
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// unpack unpacks a sample into dir and leaves out the zeros, so that a file of
// a gigabyte takes as much space as is used of it.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if strings.HasSuffix(h.Name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = writeSparse(path, h.Size, r)
		}
		if err != nil {
			return err
		}
	}
}

func writeSparse(path string, size int64, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size && err == nil; {
		n := min(size-off, int64(len(buf)))
		if _, err = io.ReadFull(r, buf[:n]); err == nil && !bytes.Equal(buf[:n], zeros[:n]) {
			_, err = f.WriteAt(buf[:n], off)
		}
		off += n
	}
	return errors.Join(err, f.Close())
}
