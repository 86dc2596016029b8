// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// rocketPeer is RocketMQ's own store, in a JVM that this program starts.
var rocketPeer = peer{
	name: "rocketmq", version: "5.3.3, by Maven",
	modes: map[mode]guarantee{
		async:   {Kill: true, Text: "DefaultMessageStore with its defaults, ASYNC_FLUSH: in the mapping of the log; putMessage one by one, the clock stops when all is dispatched. A checksum of the body. The JVM has compiled the path before the clock starts"},
		durable: {Kill: true, Power: true, Text: "SYNC_FLUSH: its group commit"},
	},
	prepare: prepareRocket,
	program: func(ctx context.Context, spec string) (*exec.Cmd, error) {
		args := []string{
			// RocketMQ 5.3 unmaps files by means that Java 17 closes unless it is told.
			"--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED",
			"--add-opens", "java.base/java.nio=ALL-UNNAMED",
			"--add-opens", "java.base/jdk.internal.ref=ALL-UNNAMED",
			"-Xms1g", "-Xmx2g", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=2g", "-XX:-UsePerfData",
			"-cp", filepath.Join(rocketBuild, "classes") + string(os.PathListSeparator) + filepath.Join(rocketBuild, "lib", "*"),
			"stele.bench.Main", spec,
		}
		return exec.CommandContext(ctx, "java", args...), nil
	},
}

// rocketBuild is where prepareRocket found or put the program.
var rocketBuild string

//go:embed java
var javaSources embed.FS

// errMissing is what a machine lacks.
var errMissing = errors.New("not on this machine")

// prepareRocket compiles java/ with Maven into cache, unless it is there. The
// error wraps errMissing where there is no JDK or Maven.
func prepareRocket(cache string) error {
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("it needs a JDK (11 or later) and Maven: %s is %w", tool, errMissing)
		}
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return err
	}
	sum, err := javaSum()
	if err != nil {
		return err
	}
	rocketBuild = filepath.Join(cache, "peers", "build-"+sum)
	if _, err := os.Stat(rocketBuild); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return maven(cache, rocketBuild)
}

// maven builds into a directory beside dir, which appears whole or not at all.
// What it downloads is shared with the tests of interop.
func maven(cache, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "building-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // What is left is in the cache.
	if err := os.CopyFS(tmp, javaSources); err != nil {
		return err
	}
	out := filepath.Join(tmp, "out")
	cmd := exec.Command("mvn", "-q", "-B", "-f", filepath.Join(tmp, "java", "pom.xml"),
		"-Dmaven.repo.local="+filepath.Join(cache, "interop", "m2"), "-Dbench.build="+out,
		"compile", "dependency:copy-dependencies")
	if said, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(said, []byte("Could not transfer")) || bytes.Contains(said, []byte("offline")) {
			return fmt.Errorf("RocketMQ's store is %w, and Maven can't fetch it: %s", errMissing, tail(string(said)))
		}
		return fmt.Errorf("building java/: %w: %s", err, tail(string(said)))
	}
	if err := os.Rename(out, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// javaSum is a name for what is in java/.
func javaSum() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(javaSources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := javaSources.ReadFile(path)
		if err == nil {
			_, err = fmt.Fprintf(sum, "%s %d\n%s", path, len(content), content)
		}
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
}
