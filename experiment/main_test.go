// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// These have the test program be the child of Recover, and of Deliver.
const (
	writeVariable = "STELE_EXPERIMENT_WRITE"
	readVariable  = "STELE_EXPERIMENT_READ"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(writeVariable); text != "" {
		var w WriteConfig
		err := json.Unmarshal([]byte(text), &w)
		if err == nil {
			err = Write(context.Background(), w, os.Stdout)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if text := os.Getenv(readVariable); text != "" {
		var address string
		var consumers int
		_, err := fmt.Sscan(text, &address, &consumers)
		if err == nil {
			err = Receive(context.Background(), address, consumers)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// writeChild is RecoverConfig.Child of the tests.
func writeChild(ctx context.Context, w WriteConfig) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, exe)
	c.Env = append(os.Environ(), writeVariable+"="+string(text))
	return c, nil
}
