// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// askEnv asks for these tests: "1", or "require" where a machine without Maven
// is a failure.
const askEnv = "STELE_INTEROP"

// versionEnv says which RocketMQ is tried, if not the one that pom.xml names.
const versionEnv = "STELE_INTEROP_ROCKETMQ"

// errMissing is what a machine lacks.
var errMissing = errors.New("not on this machine")

// program is where the built program is: classes/ has it, lib/ RocketMQ.
var program = sync.OnceValues(build)

// java is the command that runs a class of the program, or of RocketMQ itself.
func java(dir, class string, more ...string) *exec.Cmd {
	path := filepath.Join(dir, "lib", "*")
	if strings.HasPrefix(class, "stele.") {
		path = filepath.Join(dir, "classes") + ":" + path
	}
	args := []string{
		// RocketMQ 5.3 unmaps files and looks at buffers by means that Java 17
		// closes unless it is told.
		"--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED",
		"--add-opens", "java.base/java.nio=ALL-UNNAMED",
		"--add-opens", "java.base/jdk.internal.ref=ALL-UNNAMED",
		// Netty says on its own account that a store's buffers were not released:
		// they belong to threads that have ended.
		"-Dio.netty.leakDetection.level=disabled",
		"-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-cp", path,
	}
	return exec.Command("java", append(append(args, more...), class)...)
}

// javaProgram returns where the program is, and skips the test where that is not
// asked for or not possible.
func javaProgram(t *testing.T) string {
	t.Helper()
	ask := os.Getenv(askEnv)
	if ask == "" {
		t.Skipf("runs RocketMQ itself, by Maven and a JDK: set %s=1", askEnv)
	}
	dir, err := program()
	if errors.Is(err, errMissing) && ask != "require" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// build compiles java/ into the cache of the checkout, unless it is there.
func build() (string, error) {
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("the tests against RocketMQ need a JDK (11 or later) and Maven: %s is %w", tool, errMissing)
		}
	}
	cache, err := filepath.Abs(filepath.Join("..", ".cache", "interop"))
	if err != nil {
		return "", err
	}
	sum, err := sources("java")
	if err != nil {
		return "", err
	}
	version := os.Getenv(versionEnv)
	dir := filepath.Join(cache, "build-"+version+sum)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := maven(cache, dir, version); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

// maven builds into a directory beside dir, which appears whole or not at all.
func maven(cache, dir, version string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "out")
	args := []string{
		"-q", "-B", "-f", filepath.Join("java", "pom.xml"),
		"-Dmaven.repo.local=" + filepath.Join(cache, "m2"), "-Dinterop.build=" + out,
		// A registry that is busy is asked again, as one that does not answer is anyway.
		"-Dmaven.wagon.http.serviceUnavailableRetryStrategy.class=standard",
	}
	if version != "" {
		args = append(args, "-Drocketmq.version="+version)
	}
	cmd := exec.Command("mvn", append(args, "process-classes")...)
	if said, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(said, []byte("Could not transfer")) || bytes.Contains(said, []byte("offline")) {
			return fmt.Errorf("RocketMQ's store is %w, and Maven can't fetch them:\n%s", errMissing, said)
		}
		return fmt.Errorf("building java/: %w\n%s", err, said)
	}
	if err := os.Rename(out, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// sources is a name for what is in a directory.
func sources(dir string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			_, err = fmt.Fprintf(sum, "%s %d\n%s", path, len(content), content)
		}
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
}
