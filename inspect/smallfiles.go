// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
)

// notShown are parts of a store that this package does not look at, each with
// what it is (StorePathConfigHelper.java, BrokerPathConfigHelper.java).
var notShown = []struct{ path, what string }{
	{layout.BatchConsumeQueue, "batch consume queues"},
	{"consumequeue_ext", "consume queue extensions"},
	{"timerlog", "timer log"},
	{"timerwheel", "timer wheel"},
	{"compaction/compactionLog", "compaction log"},
	{"config/rdb", "configuration in RocksDB"},
	{"config/topics", "topics in RocksDB"},
	{"config/consumerOffsets", "consumer offsets in RocksDB"},
	{"kvStore", "pop consumption in RocksDB"},
}

// addFiles fills in what the small files of the store say.
func (o *Overview) addFiles(dir string) error {
	if err := o.addCheckpoint(filepath.Join(dir, layout.Checkpoint)); err != nil {
		return err
	}
	if err := o.addAbort(filepath.Join(dir, layout.Abort)); err != nil {
		return err
	}
	config, err := os.ReadDir(filepath.Join(dir, layout.Config))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range config {
		if !e.IsDir() {
			o.Config = append(o.Config, e.Name())
		}
	}
	if o.Stele, err = exists(filepath.Join(dir, layout.Stele)); err != nil {
		return err
	}
	for _, n := range notShown {
		there, err := exists(filepath.Join(dir, n.path))
		if err != nil {
			return err
		}
		if there {
			o.NotShown = append(o.NotShown, fmt.Sprintf("%s (%s)", n.path, n.what))
		}
	}
	return nil
}

func (o *Overview) addCheckpoint(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := checkpoint.Decode(b)
	if err != nil {
		o.add(fmt.Errorf("%s: %w", path, err))
		return nil
	}
	o.Checkpoint = &CheckpointValues{
		Log: c.Log, Queues: c.Queues, Index: c.Index, MasterFlushed: c.MasterFlushed, Confirmed: c.Confirmed,
	}
	return nil
}

func (o *Overview) addAbort(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o.Abort = &Abort{}
	if pid, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 32); err == nil && pid > 0 {
		o.Abort.PID, o.Abort.Alive = int(pid), processAlive(int(pid))
	}
	return nil
}

// processAlive reports whether a process of that number exists. Signal 0 only
// asks; no permission to send one means that there is somebody to send it to.
func processAlive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
