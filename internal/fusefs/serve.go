// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// server is the process behind a Client.
type server struct {
	disks  map[int]*Disk
	next   int
	mounts map[string]*fuse.Server
}

// serve answers the requests of a Client until in ends, takes all mounts away,
// and returns. When the Client's timeout passes it ends the process.
func serve(in io.Reader, out io.Writer) error {
	s := &server{disks: map[int]*Disk{}, mounts: map[string]*fuse.Server{}}
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var r request
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			return s.close()
		}
		if err != nil {
			return errors.Join(err, s.close())
		}
		resp, err := s.answer(r)
		if err != nil {
			resp.Err = err.Error()
		}
		if err := enc.Encode(resp); err != nil {
			return errors.Join(err, s.close())
		}
	}
}

// exitLate is the exit status of a server whose time was up.
const exitLate = 3

func (s *server) answer(r request) (resp response, err error) {
	switch r.Call {
	case "timeout":
		time.AfterFunc(r.Timeout, func() {
			fmt.Fprintln(os.Stderr, "fusefs: the server's time is up")
			// Ending it aborts what the kernel waits for; the mounts are dead
			// then, and the Client detaches them.
			os.Exit(exitLate)
		})
		return resp, nil
	case "disk":
		resp.Disk = s.add(NewDisk())
		return resp, nil
	case "unmount":
		return resp, s.unmount(r.Dir)
	}
	d := s.disks[r.Disk]
	if d == nil {
		return resp, fmt.Errorf("there is no disk %d", r.Disk)
	}
	switch r.Call {
	case "mount":
		return resp, s.mount(d, r.Dir, r.Mode)
	case "cut":
		d.mu.Lock()
		defer d.mu.Unlock()
		resp.At = Now()
		resp.Disk = s.add(d.crashClone(r.Seed))
	case "trap":
		d.mu.Lock()
		defer d.mu.Unlock()
		d.trap = &trap{left: r.N, seed: r.Seed}
	case "trapped":
		d.mu.Lock()
		defer d.mu.Unlock()
		if t := d.trap; t != nil && t.clone != nil {
			resp.Disk, resp.At, resp.OK = s.add(t.clone), t.at, true
		}
		d.trap = nil
	case "fault":
		d.mu.Lock()
		defer d.mu.Unlock()
		d.faults = append(d.faults, &r.Fault)
	case "clear":
		d.mu.Lock()
		defer d.mu.Unlock()
		d.faults = nil
	case "ops":
		d.mu.Lock()
		defer d.mu.Unlock()
		resp.Ops = d.ops
	case "drop":
		delete(s.disks, r.Disk)
	default:
		return resp, fmt.Errorf("unknown call %q", r.Call)
	}
	return resp, nil
}

func (s *server) add(d *Disk) int {
	s.next++
	s.disks[s.next] = d
	return s.next
}

func (s *server) mount(d *Disk, dir string, m Mode) error {
	o := &fuse.MountOptions{
		FsName: "stele-test", Name: "steletest", DirectMount: true, DisableXAttrs: true, DisableReadDirPlus: true,
		ExplicitDataCacheControl: m.KeepCache,
	}
	if m.WritebackCache {
		o.ExtraCapabilities = fuse.CAP_WRITEBACK_CACHE
	}
	fs, err := fuse.NewServer(newKernelSide(d, m), dir, o)
	if err != nil {
		return err
	}
	go fs.Serve()
	if err := fs.WaitMount(); err != nil {
		return errors.Join(err, detach(dir))
	}
	s.mounts[dir] = fs
	return nil
}

func (s *server) unmount(dir string) error {
	fs := s.mounts[dir]
	if fs == nil {
		return fmt.Errorf("nothing is mounted on %s", dir)
	}
	delete(s.mounts, dir)
	if err := fs.Unmount(); err != nil {
		return errors.Join(err, detach(dir))
	}
	fs.Wait()
	return nil
}

func (s *server) close() error {
	var errs []error
	for dir := range s.mounts {
		errs = append(errs, detach(dir))
	}
	return errors.Join(errs...)
}
