// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package delivery

// native says that system calls are made here, and not by w.Write.
const native = false

type socket struct{}

func (o *out) init()       {}
func (o *out) forget()     {}
func (o *out) open() error { return nil }

// None of these is called: by and write look at native first.

func (o *out) sendfile(Run) error                   { return ErrUnsupported }
func (o *out) writeRun(Run) error                   { return ErrUnsupported }
func (o *out) writev([]Run) error                   { return ErrUnsupported }
func (o *out) splice([]Run) error                   { return ErrUnsupported }
func (o *out) writeAll(Method, []byte) (int, error) { return 0, ErrUnsupported }

func callError(_ string, err error) error { return err }
